"""Errors of local_runner.py before anything starts: one clear line, its exit code, nothing lost."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.run.rejections import RejectionFile
from pipeline.run.run_root import RunRoot
from tests import forked
from tests.pipeline.alerts.webhooks import receiver, status

pytestmark = pytest.mark.integration


def local_runner(config: Path, run_root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.run("local_runner.py", "--config", str(config), "--run-root", str(run_root), *arguments)


def check_rejection(done: subprocess.CompletedProcess[str], code: int, message: str) -> None:
    assert done.returncode == code
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert message in line


def test_help_names_every_exit_code(tmp_path: Path) -> None:
    done = local_runner(tmp_path, tmp_path, "--help")
    assert done.returncode == 0
    codes = [
        line.split()[0] for line in done.stdout.partition("Exit codes:")[2].splitlines() if line.strip()[:1].isdigit()
    ]
    assert codes == ["0", "1", "2", "3", "4", "5", "6", "130"]


def test_a_dry_run_checks_and_starts_nothing(small_census: Callable[..., Path], tmp_path: Path) -> None:
    done = local_runner(small_census(), tmp_path / "run", "--dry-run", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["nodes"][0] == "ExampleGen"
    assert not (tmp_path / "run").exists()


def test_a_component_that_is_not_there(small_census: Callable[..., Path], tmp_path: Path) -> None:
    config = small_census()
    for more in ([], ["--dry-run"]):
        done = local_runner(config, tmp_path / "run", "--until", "Gates", *more)
        check_rejection(
            done, 2, "error: --until Gates: census-income has no such node; it has ExampleGen, StatisticsGen, "
        )
    assert not (tmp_path / "run").exists()


def test_a_refusal_is_told_by_webhook_and_with_quiet_as_cron_mails_it(
    small_census: Callable[..., Path], tmp_path: Path
) -> None:
    config, root = small_census(), tmp_path / "run"
    (config.parent / "train.csv").unlink()
    with receiver() as hook:
        (tmp_path / "hook").write_text(hook.url)
        setting = f"alerts.webhook_file={tmp_path / 'hook'}"
        check_rejection(local_runner(config, root, "--set", setting), 3, "train.csv: no such file")
        quiet = local_runner(config, root, "--quiet", "--set", setting)
        asked = local_runner(config, root, "--json", "--set", setting)
        local_runner(config, root, "--dry-run", "--set", setting)
        local_runner(config, root, "--set", setting, "--set", "training.epoch=3")
    assert [alert["event"] for alert in hook.documents] == ["refusal"] * 3
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (3, "", hook.documents[1]["text"] + "\n")
    assert json.loads(asked.stdout) == {"error": hook.documents[2]["why"], "exit_code": 3}
    assert asked.stderr == ""
    assert not root.exists()


def test_a_config_that_cannot_be_read_is_on_record_where_there_is_a_run_root(
    small_census: Callable[..., Path], tmp_path: Path
) -> None:
    config, root = small_census(), tmp_path / "run"
    root.mkdir()
    local_runner(config, root, "--dry-run", "--set", "training.epoch=3")
    assert RejectionFile(RunRoot(root)).read() is None
    local_runner(config, root, "--set", "training.epoch=3", "--set", "alerts.webhook=https://hooks.example/SECRET")
    rejection = RejectionFile(RunRoot(root)).read()
    assert rejection is not None
    assert (rejection.pipeline, rejection.exit_code, "unknown key 'epoch'" in rejection.why) == (
        "census-income",
        2,
        True,
    )
    assert rejection.command == ["local_runner.py", "--config", str(config), "--run-root", str(root)]
    assert "SECRET" not in (root / "refused.json").read_text()


def test_a_run_root_that_another_run_holds_is_told_and_what_serves_stays(
    small_census: Callable[..., Path], tmp_path: Path
) -> None:
    config, root = small_census(), tmp_path / "run"
    with RunRoot(root).lock(), receiver(status(503)) as hook:
        (tmp_path / "hook").write_text(hook.url)
        settings = [f"alerts.webhook_file={tmp_path / 'hook'}", "alerts.timeout_seconds=1"]
        done = local_runner(config, root, *flags(settings))
    assert (done.returncode, done.stdout) == (6, "")
    error, warning = done.stderr.splitlines()
    assert error.startswith(f"error: {root}: another run is using it: process ")
    assert warning.startswith("alert not posted: the webhook answered HTTP 503 Service Unavailable")
    assert json.loads((root / "alerts.json").read_text())["incidents"]["refused"]["count"] == 1


def test_a_misspelt_key(small_census: Callable[..., Path], tmp_path: Path) -> None:
    config = small_census()
    done = local_runner(config, tmp_path / "run", "--set", "training.epoch=3")
    check_rejection(done, 2, "error: --set training: unknown key 'epoch', did you mean 'epochs'?")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "hours_per_week",
            "hours-per-week",
            "train.csv: there is no column 'hours_per_week', which the config declares; did you mean 'hours-per-week'?",
        ),
        ("income", "salary", "train.csv: there is no column 'income', which the config declares; did you mean"),
    ],
)
def test_a_renamed_column(old: str, new: str, message: str, small_census: Callable[..., Path], tmp_path: Path) -> None:
    config = small_census(lambda rows: [[new if name == old else name for name in rows[0]], *rows[1:]])
    check_rejection(
        local_runner(config, tmp_path / "run"),
        3,
        message.replace("; did you mean", "", 1) if old == "income" else message,
    )


def test_no_file_and_an_empty_file(small_census: Callable[..., Path], tmp_path: Path) -> None:
    config = small_census()
    file = config.parent / "train.csv"
    file.write_text("")
    check_rejection(local_runner(config, tmp_path / "run"), 3, f"{file}: holds no rows; expected a header and rows")
    file.unlink()
    check_rejection(local_runner(config, tmp_path / "run"), 3, f"{file}: no such file (data.splits.train.files)")


def test_a_run_root_that_cannot_be_written(small_census: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    # The registry is elsewhere, so that only the run root is at fault.
    setting = f"push.registry={tmp_path / 'registry'}"
    done = local_runner(small_census(), tmp_path / "file" / "run", "--set", setting)
    check_rejection(done, 6, "cannot be written: Not a directory; give --run-root another folder")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_registry_name_taken_by_a_file(small_census: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "run" / "registry").mkdir(parents=True)
    taken = tmp_path / "run" / "registry" / "census-income"
    taken.write_text("mine")
    check_rejection(
        local_runner(small_census(), tmp_path / "run"), 5, f"{taken}: is a file; expected the registry's folder"
    )
    assert taken.read_text() == "mine"


def test_artifacts_without_their_database(small_census: Callable[..., Path], tmp_path: Path) -> None:
    config = small_census()
    (tmp_path / "run" / "artifacts" / "Trainer").mkdir(parents=True)
    check_rejection(
        local_runner(config, tmp_path / "run"),
        6,
        "has artifacts but no metadata.sqlite; a fresh database would overwrite",
    )
    (tmp_path / "run" / "metadata.sqlite").write_text("not a database, and long enough to be read as one" * 100)
    check_rejection(local_runner(config, tmp_path / "run"), 6, "is not an SQLite database, so not a run's")


def test_a_feature_that_gives_the_label_away_and_one_of_dates(
    small_census: Callable[..., Path], tmp_path: Path
) -> None:
    def with_two_columns(rows: list[list[str]]) -> list[list[str]]:
        values = [["code", "day"]]
        values += [["b7" if row[-1] == ">50K" else "a3", f"2024-01-{n % 28 + 1:02d}"] for n, row in enumerate(rows[1:])]
        return [[*row, *more] for row, more in zip(rows, values, strict=True)]

    config = small_census(with_two_columns, rows=1000)
    settings = ["data.schema_file=null", "data.splits.test={source: train, fraction: 0.1}"]
    leak = [*settings, "features.code={kind: vocabulary, max_size: 9}", "data.ignored_columns=[fnlwgt, day]"]
    done = local_runner(config, tmp_path / "run", *flags(leak))
    check_rejection(done, 3, "error: data: code: explains 100.0%")
    assert "of the label 'income' by itself: is it known when a prediction is asked for?" in done.stderr
    date = [*settings, "features.day={kind: hash, num_ids: 9}", "data.ignored_columns=[fnlwgt, code]"]
    done = local_runner(config, tmp_path / "run", *flags(date))
    check_rejection(done, 3, "error: data: day: is a date ('2024-01-")
    # The policy decides.
    warned = [*date, "validation.severities=[{anomaly: DATE_AS_CATEGORY, features: [day], severity: warn}]"]
    done = local_runner(config, tmp_path / "run", "--dry-run", *flags(warned))
    assert (done.returncode, done.stderr) == (0, "")
    assert "warning    data: day: is a date" in done.stdout


def test_a_split_by_bounds_that_letters_do_not_order(small_census: Callable[..., Path], tmp_path: Path) -> None:
    config = small_census(rows=300)
    split = "data.splits.late={source: train, column: hours_per_week, at_least: %s}"
    done = local_runner(config, tmp_path / "run", "--dry-run", *flags([split % "'40'"]))
    check_rejection(done, 3, "train.csv:")
    assert "is not ordered against the bound '40' by its letters; give the bound without quotes" in done.stderr
    assert "hours_per_week: '" in done.stderr and "(data.splits.late)" in done.stderr
    done = local_runner(config, tmp_path / "run", "--dry-run", *flags([split % "40"]))
    assert (done.returncode, done.stderr) == (0, "")
    done = local_runner(config, tmp_path / "run", "--dry-run", *flags([split % "01/02/2013"]))
    check_rejection(done, 2, "'01/02/2013' is a date that its letters do not order; give date_format")


def flags(settings: list[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]
