"""Functions and classes of the user's own, which a config names. Imports no TensorFlow.

`features.py`, `features.py:preprocessing_fn`, `my_package.features` and `my_package.features:preprocessing_fn` name
code. A file travels as text, among the parameters of its component: a change of it invalidates the cache, and Vertex
and Dataflow have it. A dotted path is imported where it runs; the fingerprint of its package is a parameter.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import json
import linecache
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cli.errors import ConfigError, PipelineError
from schemas.declaration import find_close_match

# Names of the functions that are looked up in a module.
PREPROCESSING_FN, RUN_FN, BUILD_MODEL = "preprocessing_fn", "run_fn", "build_model"
# Keys whose code is never a file.
_COMPONENTS = "extra_components."
_MAX_SHOWN_CHARS = 300
# Keras writes colours, and the cause of an error between these lines.
_KERAS_PREFIX, _KERAS_SUFFIX = "Exception encountered when calling", "Arguments received by"
_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class UserCode:
    """Code that a config names.

    Attributes:
      key: Key of the config, for messages.
      module: Dotted path of a module, or the name of a file.
      name: Name in the module; empty for the default of the key.
      text: Text of the file; None for a dotted path.
      fingerprint: Hash of the text, or of all Python files of the module's top-level package.
    """

    key: str
    module: str
    name: str
    text: str | None
    fingerprint: str

    @classmethod
    def read(cls, key: str, reference: str) -> "UserCode":
        """Return the code of a reference, which is read and not run.

        Raises:
          ConfigError: The file cannot be read, or no such package is installed.
        """
        module, _, name = reference.partition(":")
        if is_file(reference):
            text = _read_text(key, Path(module))
            return cls(key, Path(module).name, name, text, _hash([text.encode()]))
        return cls(key, module, name, None, _hash(path.read_bytes() for path in _list_package_files(key, module)))

    @classmethod
    def from_json(cls, text: str) -> "UserCode":
        """Return what `to_json` has written."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return the code as a parameter of a component."""
        return json.dumps(asdict(self), sort_keys=True)

    def load(self, *default_names: str) -> Any:
        """Import the module and return the function or the class.

        Args:
          default_names: Names that are looked up in this order if the config has none.

        Raises:
          ConfigError: The module cannot be imported, or has no such name.
        """
        module = self._import()
        names = (self.name,) if self.name else default_names
        for name in names:
            if hasattr(module, name):
                return getattr(module, name)
        public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        missing = " or ".join(names)
        close = find_close_match(names[0], public)
        hint = f"did you mean '{close}'?" if close else f"it has {', '.join(public) or 'no functions and no classes'}"
        raise ConfigError(f"{self.key}: {self.module} has no {missing}; {hint}")

    def check_import(self) -> None:
        """Import the module.

        Raises:
          ConfigError: It cannot be imported.
        """
        self._import()

    def load_function(self, *default_names: str) -> Callable[..., Any]:
        """Return the function, as `load` does.

        Raises:
          ConfigError: There is none, or it is not a function.
        """
        function = self.load(*default_names)
        if not callable(function):
            name = self.name or default_names[0]
            raise ConfigError(
                f"{self.key}: {name} of {self.module} is not a function but of type {type(function).__name__}"
            )
        return function  # type: ignore[no-any-return]

    def check_arguments(self, function: Callable[..., Any], *expected: str) -> None:
        """Check that a function takes the arguments that it will be called with.

        Args:
          function: Function of this code.
          expected: Its possible forms, such as `preprocessing_fn(inputs)`.

        Raises:
          ConfigError: It takes another number of them.
        """
        if any(_has_arguments(function, *form.partition("(")[2].rstrip(")").split(", ")) for form in expected):
            return
        name = getattr(function, "__name__", "it")
        raise ConfigError(
            f"{self.key}: {self.locate(function)}: {name} takes {inspect.signature(function)}; expected "
            f"{' or '.join(expected)}"
        )

    def locate(self, function: Any) -> str:
        """Return file and line of a function, or of a class's constructor, if they can be found."""
        if isinstance(function, type):
            function = vars(function).get("__init__")
        try:
            function = inspect.unwrap(function)
            return f"{self._shorten(function.__code__.co_filename)}:{function.__code__.co_firstlineno}"
        except AttributeError:
            return self.module

    @contextlib.contextmanager
    def report_errors(self, action: str, function: Any = None) -> Iterator[None]:
        """Report an exception of the code in one line, with its place.

        Args:
          action: What is being done, such as `preprocessing_fn`.
          function: The function that is the place of an exception which a library raised later.

        Raises:
          PipelineError: The code raised something else.
        """
        try:
            yield
        except PipelineError:
            raise
        except (Exception, SystemExit) as error:
            line = self.find_line(error)
            place = self.locate(function) if line == self.module else line
            raise PipelineError(f"{self.key}: {place}: {action} raised {_describe(error)}; correct it there") from error

    def find_line(self, error: BaseException) -> str:
        """Return the innermost line of the user's code in an exception's traceback, as FILE:LINE."""
        if isinstance(error, SyntaxError) and error.filename and error.lineno:
            return f"{self._shorten(error.filename)}:{error.lineno}"
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if self._is_own(frame.filename)]
        return f"{self._shorten(own[-1].filename)}:{own[-1].lineno}" if own else self.module

    def find_line_in(self, text: str) -> str | None:
        """Return the last line of the user's code that a text names, such as an error of a TensorFlow graph."""
        places = [line.strip() for line in text.splitlines() if line.strip().startswith('File "')]
        for place in reversed(places):
            _, file, rest = place.split('"', 2)
            number = rest.partition("line ")[2].partition(",")[0].strip()
            if self._is_own(file) and number.isdigit():
                return f"{self._shorten(file)}:{number}"
        return None

    @property
    def _folder(self) -> Path | None:
        """The folder of the top-level package; None for a file and a module without a package."""
        top = sys.modules.get(self.module.partition(".")[0])
        paths = [*getattr(top, "__path__", ())]
        return Path(paths[0]) if paths else None

    @property
    def _file(self) -> str | None:
        """The file of a module with a dotted path, which may be one that could not be imported."""
        module = sys.modules.get(self.module)
        if module is not None:
            return getattr(module, "__file__", None)
        try:
            spec = importlib.util.find_spec(self.module)
        except Exception:  # A parent package cannot be imported.
            return None
        return spec.origin if spec is not None else None

    def _is_own(self, filename: str) -> bool:
        if self.text is not None:
            return filename == self.module
        if filename == self._file:
            return True
        package = self.module.rpartition(".")[0]
        parent = sys.modules.get(package) if package else None
        return any(Path(filename).is_relative_to(path) for path in getattr(parent, "__path__", ()))

    def _shorten(self, filename: str) -> str:
        folder = self._folder
        if self.text is None and folder is not None and Path(filename).is_relative_to(folder.parent):
            return str(Path(filename).relative_to(folder.parent))
        return filename

    def _import(self) -> types.ModuleType:
        try:
            # A module that prints must not spoil the output of a command.
            with contextlib.redirect_stdout(sys.stderr):
                return _run_text(self) if self.text is not None else importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            raise ConfigError(self._describe_missing(error)) from error
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"{self.key}: {self.find_line(error)}: the module cannot be imported: {_describe(error)}"
            ) from error

    def _describe_missing(self, error: ModuleNotFoundError) -> str:
        if self.text is None and error.name and f"{self.module}.".startswith(f"{error.name}."):
            return _describe_unknown(self.key, self.module, error.name)
        remedy = (
            "a file travels alone: put modules of your own into an installed package, and name that by its dotted path"
            if self.text is not None
            else "install it"
        )
        return f"{self.key}: {self.find_line(error)}: the module cannot be imported: {error}; {remedy}"


def load_preprocessing_fn(code: UserCode) -> Callable[..., Any]:
    """Return the function of `transform.module`.

    Raises:
      ConfigError: There is none, or it takes other arguments.
    """
    function = code.load_function(PREPROCESSING_FN)
    code.check_arguments(function, f"{PREPROCESSING_FN}(inputs)", f"{PREPROCESSING_FN}(inputs, custom_config)")
    return function


def has_custom_config(function: Callable[..., Any]) -> bool:
    """Return whether a `preprocessing_fn` takes a second argument."""
    return _has_arguments(function, "inputs", "custom_config")


def load_training_function(code: UserCode) -> Callable[..., Any]:
    """Return the function of `model.module`: a `run_fn`, or else a `build_model`.

    Raises:
      ConfigError: There is none, or it takes other arguments.
    """
    function = code.load_function(RUN_FN, BUILD_MODEL)
    forms = {RUN_FN: f"{RUN_FN}(fn_args)", BUILD_MODEL: f"{BUILD_MODEL}(features, config)"}
    form = forms.get(getattr(function, "__name__", ""))
    code.check_arguments(function, *([form] if form else forms.values()))
    return function


def is_run_fn(function: Callable[..., Any]) -> bool:
    """Return whether a function of `model.module` trains and exports itself, and not only builds the network."""
    return _has_arguments(function, "fn_args")


def _has_arguments(function: Callable[..., Any], *arguments: str) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    return True


def is_file(reference: str) -> bool:
    """Return whether a reference names a file, not a module."""
    module = reference.partition(":")[0]
    return module.endswith(".py") or "/" in module


def _read_text(key: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{key}: {path}: cannot be read: {error.strerror}; give the path of a Python file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{key}: {path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _list_package_files(key: str, module: str) -> list[Path]:
    """Return the Python files of a module's top-level package, without importing it."""
    top = module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top) if top.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise ConfigError(_describe_unknown(key, module, top))
    if spec.submodule_search_locations is None:
        return [Path(spec.origin)] if spec.origin and Path(spec.origin).is_file() else []
    return sorted(path for folder in spec.submodule_search_locations for path in Path(folder).rglob("*.py"))


def _describe_unknown(key: str, module: str, missing: str) -> str:
    # Vertex AI imports a component by its dotted path.
    file = "" if key.startswith(_COMPONENTS) else ", or name a file such as features.py"
    return f"{key}: {module}: there is no module '{missing}'; install its package or put its folder on PYTHONPATH{file}"


def _hash(contents: Iterator[bytes] | Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


def _run_text(code: UserCode) -> types.ModuleType:
    """Return the module of a file's text, run once in a process."""
    assert code.text is not None
    name = f"user_code_{code.fingerprint}_{Path(code.module).stem}"
    if name in sys.modules:
        return sys.modules[name]
    module = types.ModuleType(name)
    module.__file__ = code.module
    # Where tracebacks and AutoGraph find the lines.
    linecache.cache[code.module] = (len(code.text), None, code.text.splitlines(keepends=True), code.module)
    sys.modules[name] = module
    try:
        exec(compile(code.text, code.module, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _describe(error: BaseException) -> str:
    """Return the type and the main line of an error."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    # The text of a KeyError is the repr of its argument.
    message = error.args[0] if isinstance(error, KeyError) and "\\n" in str(error) else error
    text = _TERMINAL_CODES.sub("", str(message)).partition(_KERAS_SUFFIX)[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines[1:] and lines[0].startswith(_KERAS_PREFIX):
        del lines[0]
    text = (lines[-1] if lines[:1] and lines[0].endswith(":") else next(iter(lines), ""))[:_MAX_SHOWN_CHARS]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
