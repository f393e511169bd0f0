"""Code of the user's own: what is found, and the one line for what is not."""

import re
from pathlib import Path

import pytest

from cli.errors import ConfigError, PipelineError
from schemas.user_code import UserCode, is_run_fn, load_preprocessing_fn, load_training_function


def write(folder: Path, text: str, name: str = "features.py") -> UserCode:
    (folder / name).write_text(text)
    return UserCode.read("transform.module", str(folder / name))


def test_a_file_is_run_from_its_text_and_not_from_its_place(tmp_path: Path) -> None:
    code = UserCode.from_json(write(tmp_path, "def preprocessing_fn(inputs):\n    return {'a': 1}\n").to_json())
    (tmp_path / "features.py").unlink()
    assert load_preprocessing_fn(code)({}) == {"a": 1}
    assert str(tmp_path) not in code.to_json()


def test_another_name_may_stand_behind_a_colon(tmp_path: Path) -> None:
    (tmp_path / "features.py").write_text("def other(inputs, custom_config):\n    return {}\n")
    code = UserCode.read("transform.module", f"{tmp_path / 'features.py'}:other")
    assert load_preprocessing_fn(code).__name__ == "other"


def test_the_fingerprint_follows_the_text(tmp_path: Path) -> None:
    first, second = write(tmp_path, "x = 1"), write(tmp_path, "x = 2")
    assert first.fingerprint != second.fingerprint


def test_the_fingerprint_of_a_dotted_path_follows_each_file_of_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    inner = tmp_path / "own_package_a" / "inner"
    inner.mkdir(parents=True)
    (inner / "features.py").write_text("from own_package_a import helpers\n\n\ndef preprocessing_fn(inputs): ...\n")
    helpers = tmp_path / "own_package_a" / "helpers.py"
    helpers.write_text("x = 1\n")
    (tmp_path / "own_package_a" / "__init__.py").write_text("")
    before = UserCode.read("transform.module", "own_package_a.inner.features")
    assert load_preprocessing_fn(before).__name__ == "preprocessing_fn"
    helpers.write_text("x = 2\n")
    assert UserCode.read("transform.module", "own_package_a.inner.features").fingerprint != before.fingerprint


def test_a_module_has_a_run_fn_or_a_build_model(tmp_path: Path) -> None:
    both = "def run_fn(fn_args): ...\ndef build_model(features, config): ...\n"
    assert is_run_fn(load_training_function(write(tmp_path, both)))
    assert not is_run_fn(load_training_function(write(tmp_path, both.splitlines()[1])))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import nowhere\n",
            "features.py:1: the module cannot be imported: No module named 'nowhere'; a file travels alone",
        ),
        ("x = 1\nx = (\n", "features.py:2: the module cannot be imported: SyntaxError: '(' was never closed"),
        ("\n\n1 / 0\n", "features.py:3: the module cannot be imported: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", "features.py:1: the module cannot be imported: SystemExit: 3"),
        ("def preprocesing_fn(inputs): ...\n", "features.py has no preprocessing_fn; did you mean 'preprocesing_fn'?"),
        ("x = 1\n", "features.py has no preprocessing_fn; it has no functions and no classes"),
        ("preprocessing_fn = {}\n", "preprocessing_fn of features.py is not a function but of type dict"),
        (
            "def preprocessing_fn(): ...\n",
            "features.py:1: preprocessing_fn takes (); expected preprocessing_fn(inputs) or "
            "preprocessing_fn(inputs, custom_config)",
        ),
    ],
)
def test_a_fault_of_the_module_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"transform.module: {message}")) as error:
        load_preprocessing_fn(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_package_that_cannot_be_imported_is_named_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_broken.py").write_text("\n1 / 0\n")
    with pytest.raises(ConfigError, match=r"own_broken\.py:2: the module cannot be imported: ZeroDivisionError"):
        UserCode.read("extra_components.0.component", "own_broken").check_import()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def build_model(features): ...", "build_model takes (features); expected build_model(features, config)"),
        ("def run_fn(a, b): ...", "run_fn takes (a, b); expected run_fn(fn_args)"),
        ("def other(): ...\nrun_fn = other", "expected run_fn(fn_args) or build_model(features, config)"),
    ],
)
def test_the_name_of_a_training_function_decides_its_arguments(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_training_function(write(tmp_path, text))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            "Exception encountered when calling Own.call().\n\n\x1b[1mtoo wide\x1b[0m\n\nArguments received by Own.call():\n"
            "  • args=1",
            "features.py:2: f raised ValueError: too wide; correct it there",
        ),
        (
            "Exception encountered when calling Own.call().\n\nCould not infer the shape. Error encountered:\n\n'no'\n\n"
            "Arguments received by Own.call():\n  • args=1",
            "features.py:2: f raised ValueError: 'no'; correct it there",
        ),
    ],
)
def test_an_exception_of_keras_is_reported_by_its_cause(tmp_path: Path, error: str, message: str) -> None:
    code = write(tmp_path, f"def preprocessing_fn(inputs):\n    raise ValueError({error!r})\n")
    with pytest.raises(PipelineError, match=re.escape(message)), code.report_errors("f"):
        load_preprocessing_fn(code)({})


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("/nowhere/features.py", "/nowhere/features.py: cannot be read: No such file or directory; give the path of a"),
        (
            "nowhere.features",
            "nowhere.features: there is no module 'nowhere'; install its package or put its folder on",
        ),
        ("schemas.nowhere", "schemas.nowhere: there is no module 'schemas.nowhere'; install its package"),
        ("a-b", "a-b: there is no module 'a-b'"),
    ],
)
def test_a_module_that_is_not_there_is_named(reference: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"transform.module: {message}")):
        UserCode.read("transform.module", reference).load("preprocessing_fn")


def test_an_exception_names_the_innermost_line_of_the_users_code(tmp_path: Path) -> None:
    code = write(tmp_path, "def helper(x):\n    return int(x)\n\n\ndef preprocessing_fn(inputs):\n    helper('a')\n")
    function = load_preprocessing_fn(code)
    message = "transform.module: features.py:2: preprocessing_fn raised ValueError: invalid literal for int() with"
    with pytest.raises(PipelineError, match=re.escape(message)), code.report_errors("preprocessing_fn"):
        function({})


def test_what_a_module_prints_is_not_in_the_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_preprocessing_fn(write(tmp_path, "print('hello')\ndef preprocessing_fn(inputs): ...\n"))
    assert capsys.readouterr().out == ""
