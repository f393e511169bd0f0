"""Faster Beam pipelines of few rows: what Beam finds out again for each step is remembered, or not needed.

On few rows, that takes a sixth of the processor time of a whole run.
"""

import sys
import types
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import objsize
from apache_beam.internal.cloudpickle import cloudpickle
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import userstate

_T = TypeVar("_T")


def install() -> None:
    """Replace functions of Beam in this process, and measure cached values without listing all modules."""
    userstate.get_dofn_specs = _remember_by_class(userstate.get_dofn_specs)
    PipelineOptions.view_as = _remember_views(PipelineOptions.view_as)
    cloudpickle._find_imported_submodules = _skip_packages(cloudpickle._find_imported_submodules)
    # Beam measures each side input that it caches. The names in thousands of modules are not part of one: Beam itself
    # does not follow modules, classes and functions.
    objsize.default_settings.update(exclude_modules_globals=False)


def _remember_by_class(get_dofn_specs: Any) -> Any:
    """Look for states and timers once in a class: Beam reads the signatures of all methods, six times for each step."""
    specs_by_class: WeakKeyDictionary[type, Any] = WeakKeyDictionary()

    @wraps(get_dofn_specs)
    def get(dofn: Any) -> Any:
        if any(isinstance(value, types.MethodType) for value in vars(dofn).values()):
            # It has methods that others of its class have not.
            return get_dofn_specs(dofn)
        if type(dofn) not in specs_by_class:
            specs_by_class[type(dofn)] = get_dofn_specs(dofn)
        return specs_by_class[type(dofn)]

    return get


def _remember_views(view_as: Any) -> Any:
    """Make one view of options for each class: Beam parses the flags for each, and all share their values."""
    views_by_options: WeakKeyDictionary[PipelineOptions, dict[type, Any]] = WeakKeyDictionary()

    @wraps(view_as)
    def get_view(self: PipelineOptions, cls: type) -> Any:
        views = views_by_options.setdefault(self, {})
        if cls not in views:
            views[cls] = view_as(self, cls)
        return views[cls]

    return get_view


def _skip_packages(find: Any) -> Any:
    """Search packages only if a function names a module of theirs: Beam passes over all modules for each package."""
    read_children = _remember_until_import(_list_children)

    @wraps(find)
    def find_imported(code: types.CodeType, dependencies: Iterable[Any]) -> Any:
        children = read_children()
        modules = (value for value in dependencies if isinstance(value, types.ModuleType))
        return find(code, [m for m in modules if not children.get(m.__name__, set()).isdisjoint(code.co_names)])

    return find_imported


def _list_children() -> dict[str, set[str]]:
    """Return the names below each package that is imported."""
    children: dict[str, set[str]] = {}
    for name in list(sys.modules):
        while "." in name:
            package, _, child = name.rpartition(".")
            children.setdefault(package, set()).add(child)
            name = package
    return children


def _remember_until_import(compute: Callable[[], _T]) -> Callable[[], _T]:
    """Compute again only if more or fewer modules are loaded."""
    last: tuple[int, _T] | None = None

    def remember() -> _T:
        nonlocal last
        count = len(sys.modules)
        value = compute() if last is None or last[0] != count else last[1]
        last = count, value
        return value

    return remember
