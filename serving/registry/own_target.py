"""A push target of the user's own, whose errors and wrong results name the line of its code."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, get_origin, get_type_hints

from cli.errors import ConfigError
from schemas.user_code import UserCode
from serving.registry.protocol import ModelRegistry

_METHODS = sorted(name for name in vars(ModelRegistry) if not name.startswith("_"))


class OwnTarget:
    """The protocol's methods of an object of the user's own class.

    Args:
      code: Code of the class.
      registry: Object of the class.

    Raises:
      ConfigError: It lacks methods of the protocol.
    """

    def __init__(self, code: UserCode, registry: Any) -> None:
        # A property is not read yet: it may raise.
        names = {*dir(registry)}
        missing = [name for name in _METHODS if name not in names]
        if missing:
            raise ConfigError(
                f"{code.key}: {code.module}: {code.name} has no {', '.join(missing)}; a registry has all of "
                "serving/registry/protocol.py"
            )
        self._code = code
        self._registry = registry

    def __getattr__(self, name: str) -> Any:
        """Return a method of the class, or the value of a property."""
        with self._report_errors(name, None):
            value = getattr(self._registry, name)
        return self._guard(name, value) if callable(value) and name in _METHODS else value

    def _guard(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with self._report_errors(name, method):
                result = method(*arguments, **options)
            returned = get_type_hints(getattr(ModelRegistry, name))["return"]
            expected = get_origin(returned) or returned
            if not isinstance(result, expected):
                place = self._code.locate(method)
                raise ConfigError(
                    f"{self._code.key}: {place}: {name} returns {type(result).__name__}; return {expected.__name__}"
                )
            return result

        return call

    @contextlib.contextmanager
    def _report_errors(self, name: str, method: Any) -> Iterator[None]:
        # A method that prints must not spoil the output of a command.
        with self._code.report_errors(name, method), contextlib.redirect_stdout(sys.stderr):
            yield
