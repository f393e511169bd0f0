"""The documentation is held against the code."""

import json
import re
import tomllib
import typing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks import bench, scale
from cli import errors
from pipeline.__main__ import main as pipeline_command
from pipeline.alerts.alert import Alert
from pipeline.alerts.config import Alerts, Event
from pipeline.config.docs import render_page
from serving.batch.__main__ import main as batch_command
from serving.registry import State
from serving.registry.__main__ import main as registry_command
from tests.conftest import ROOT
from tests.drill.samples import read_samples


def test_the_config_page_is_what_the_models_say() -> None:
    assert (ROOT / "docs" / "config.md").read_text() == render_page(), "run `make docs`"


def test_every_direct_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[<>=]", name)[0] for name in declared} | {
        re.split("==", line)[0]
        for line in (ROOT / "requirements" / "tools.txt").read_text().splitlines()
        if "==" in line
    }
    documented = set(
        re.findall(r"^\| `([\w-]+)` \|", (ROOT / "docs" / "dependencies.md").read_text(), flags=re.MULTILINE)
    )
    assert documented == names


def test_the_page_of_runs_names_every_exit_code() -> None:
    kinds = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.PipelineError)]
    page = (ROOT / "docs" / "running.md").read_text()
    for code in {0, 130, *(kind.exit_code for kind in kinds)}:
        assert f"| {code} |" in page


def test_every_command_flag_and_state_of_the_registry_has_its_place_in_the_docs() -> None:
    page = (ROOT / "docs" / "registry.md").read_text()
    for name, command in registry_command.commands.items():
        assert f"python -m serving.registry {name}" in page
        for option in command.params:
            assert option.param_type_name == "argument" or any(flag in page for flag in option.opts), option
    for state in State:
        assert f"| `{state}` |" in page


def test_the_page_of_batch_inference_has_every_option_and_exit_code() -> None:
    page = (ROOT / "docs" / "batch.md").read_text()
    for option in batch_command.params:
        for name in option.opts if isinstance(option, click.Option) else ():
            assert f"`{name}" in page, name
    for code in re.findall(r"^  (\d+) +\w", batch_command.epilog or "", flags=re.MULTILINE):
        assert f"| {code} |" in page


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)`", (ROOT / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_costs_are_what_the_benchmark_prints() -> None:
    printed = scale.text(json.loads(scale.RATES_FILE.read_text()))
    documented = "".join((ROOT / "docs" / name).read_text() for name in ("scale.md", "vertex.md"))
    lines = [f"    {line}\n" for line in printed.splitlines() if line]
    assert len(lines) > 40
    assert [line for line in lines if line not in documented] == []


def test_the_tables_of_speed_are_what_the_benchmark_prints() -> None:
    printed = bench.text(json.loads(bench.MEASURED_FILE.read_text()))
    page, readme = (ROOT / "docs" / "performance.md").read_text(), (ROOT / "README.md").read_text()
    for line in printed.splitlines():
        assert line.strip() in page, "python -m benchmarks.bench --show"
        if line.strip().startswith("the first five"):
            assert line.strip() in readme
    assert f"]({bench.PLOT_FILE.name})" in page
    assert bench.PLOT_FILE.is_file()


@pytest.mark.integration
def test_the_output_of_init_is_what_it_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = re.compile(r"^    \$ python -m pipeline (init .*)\n((?:    .+\n)+)", flags=re.MULTILINE)
    (command, output), page = (sample.findall((ROOT / name).read_text())[0] for name in ("README.md", "docs/init.md"))
    assert page == (command, output)
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(pipeline_command, command.split())
    # The next command has the path of the checkout in another folder.
    printed = result.output.replace(f"{ROOT}/", "")
    assert printed.splitlines() == [line.strip() for line in output.splitlines()]


def test_the_index_lists_every_page() -> None:
    docs = ROOT / "docs"
    pages = {str(path.relative_to(docs)) for path in docs.rglob("*.md")} - {"index.md"}
    index = (docs / "index.md").read_text()
    assert {name for name in pages if f"]({name})" not in index} == set()


def test_every_link_of_a_page_leads_to_a_file() -> None:
    broken = []
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        broken += [(page.name, link) for link in links if not (page.parent / link).exists()]
    assert broken == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_data_checksums_are_those_of_the_files() -> None:
    import hashlib

    readme = (ROOT / "data" / "README.md").read_text()
    for name in ("train", "test"):
        assert hashlib.sha256((ROOT / "data" / "census" / f"{name}.csv.gz").read_bytes()).hexdigest() in readme


def test_every_field_event_and_key_of_alerts_has_its_place_in_the_docs() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text()
    alert = Alert("failure", "p", "FAILED", "w", "y", 0.0, "/r")
    assert re.findall(r"^\| `(\w+)` \|", page.partition("| field |")[2], flags=re.MULTILINE) == list(
        alert.to_document()
    )
    events = re.findall(r"^\| `(\w+)` \|", page.partition("| field |")[0], flags=re.MULTILINE)
    assert sorted(events) == sorted(typing.get_args(Event))
    for key in Alerts.model_fields:
        assert key in page, key
    assert "20 unless set" in page
    assert Alerts().timeout_seconds == 20


def test_each_sample_of_the_runbook_is_held_against_the_output_of_a_command() -> None:
    files = [*(ROOT / "tests" / "drill").glob("test_*.py"), ROOT / "tests" / "oncall" / "web" / "test_server.py"]
    text = "".join(file.read_text() for file in files)
    samples = [command.partition(" --project")[0] for command in read_samples()]
    assert samples
    assert [name for name in samples if not re.search(rf"assert_sample\(f?[\"']{re.escape(name)}", text)] == []
