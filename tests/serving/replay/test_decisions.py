"""A model's decisions on logged requests are those that it would have made; what cannot be judged is named."""

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

from cli.errors import NotBlessedError
from components.config import Evaluation, Replay
from components.infra_validator.replay import ReplayContext, replay_requests
from serving.model.predictor import Predictor
from serving.registry.settings import LocalRegistrySettings
from serving.replay.__main__ import main
from serving.replay.decisions import ReplayOptions, ReplayResult, replay
from serving.request_log.shards import (
    ERROR,
    ID,
    KEY,
    LOG_FIELDS,
    ROW,
    TIME,
    VERSION,
    RequestLogError,
    ShardDescription,
    write_shard,
)
from tests.serving.models import export_model, push
from tests.serving.running import RunningServer, registry_of

pytestmark = pytest.mark.integration

START = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
COLORS = ("red", "green", "blue", "grey")
ROWS = [
    {"color": COLORS[n % 12 // 3], "size": float(n % 12) - 6, "shop name": "north", "rank": None, "weight": None}
    for n in range(120)
]
INPUTS = [
    pa.field("color", pa.string()),
    pa.field("size", pa.float64()),
    pa.field("shop name", pa.string()),
    pa.field("rank", pa.int64()),
    pa.field("weight", pa.float64()),
]
OUTPUTS = [pa.field("_prediction_predicted_label", pa.string()), pa.field("_prediction_probability", pa.float32())]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("exported")
    return [export_model(folder / str(offset), float(offset)) for offset in (-9, -7)]


def _predict(model: Path, rows: Sequence[Any]) -> list[dict[str, Any]]:
    return Predictor(model).predict([{key: value for key, value in row.items() if value is not None} for row in rows])


def write_log(
    folder: Path,
    model: Path,
    rows: Sequence[dict[str, Any]] = ROWS,
    *,
    number: int = 1,
    version: int = 1,
    name: str = "shop-model",
    masked: tuple[str, ...] = (),
) -> Path:
    """Write a shard of rows with the answers of a model, and a rejected request behind them."""
    answers = _predict(model, rows)
    count = len(rows)
    columns: dict[str, list[Any]] = {
        TIME: [START + datetime.timedelta(days=number, seconds=second) for second in range(count + 1)],
        ID: [f"id-{number}-{row}" for row in range(count + 1)],
        ROW: [0] * (count + 1),
        KEY: [None] * (count + 1),
        VERSION: [version] * count + [None],
        ERROR: [None] * count + ["size: the value is missing"],
        **{field.name: [row[field.name] for row in rows] + [None] for field in INPUTS},
        "_prediction_predicted_label": [answer["predicted_label"] for answer in answers] + [None],
        "_prediction_probability": [answer["probability"] for answer in answers] + [None],
    }
    schema = pa.schema([*LOG_FIELDS, *INPUTS, *OUTPUTS])
    table = pa.table(columns, schema=schema).drop_columns([*masked])
    folder.mkdir(exist_ok=True)
    description = ShardDescription(model=name, sample=1.0, masked=masked)
    write_shard(folder / f"requests-{number}.parquet", table, description)
    return folder


def _replay(log: Path, model: Path, **options: Any) -> ReplayResult:
    return replay(log, "shop-model", 1, Predictor(model), ReplayOptions(**options))


def test_the_model_that_answered_decides_alike(exported: list[Path], tmp_path: Path) -> None:
    result = _replay(write_log(tmp_path, exported[0]), exported[0])
    assert (result.rows, result.changed, result.rejected) == (120, 0, 0)
    assert result.largest_difference < 1e-6
    assert (result.since, result.until) == ("2026-11-02T00:00:00+00:00", "2026-11-02T00:01:59+00:00")
    assert result.find_excess(0.0) == ""
    assert result.headline == "replay: 0.00% of 120 decisions of version 1 changed"


def test_a_bound_of_numbers_names_the_tolerance() -> None:
    result = ReplayResult(3, rows=200, changed=150, tolerance=0.01)
    assert result.headline == "replay: 75.00% of 200 decisions of version 3 changed by more than the tolerance of 0.01"
    assert result.find_excess(0.05) == (
        "150 of 200 decisions differ from those of version 3 by more than the tolerance of 0.01 (75.00%); at most "
        "5.00% may"
    )


def test_changed_decisions_are_counted_overall_and_by_slice(exported: list[Path], tmp_path: Path) -> None:
    before, after = (_predict(model, ROWS) for model in exported)
    changed = [
        first["predicted_label"] != second["predicted_label"] for first, second in zip(before, after, strict=True)
    ]
    differences = [abs(x["probability"] - y["probability"]) for x, y in zip(before, after, strict=True)]
    assert 0 < sum(changed) < len(ROWS)
    result = _replay(
        write_log(tmp_path, exported[0]), exported[1], slice_by=[["color"], ["color", "size"]], min_slice_rows=30
    )
    assert result.changed == sum(changed)
    assert result.mean_difference == pytest.approx(sum(differences) / len(ROWS), abs=1e-5)
    assert result.largest_difference == pytest.approx(max(differences), abs=1e-5)
    by_color = {
        f"color={color}": sum(c for c, row in zip(changed, ROWS, strict=True) if row["color"] == color)
        for color in COLORS
    }
    assert {part.name: part.changed for part in result.slices} == by_color
    # Of color and size, 10 rows each.
    assert result.small_slices == 12
    assert ReplayResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    share = sum(changed) / len(ROWS)
    worst = result.slices[0]
    assert worst.share > share
    assert result.find_excess(worst.share) == ""
    assert result.find_excess(share) == (
        f"{worst.changed} of 30 decisions of {worst.name} differ from those of version 1 ({worst.share:.2%}); at most "
        f"{share:.2%} may"
    )
    assert result.find_excess(0.01).startswith(f"{sum(changed)} of 120 decisions differ from those of version 1 (")


def test_a_row_that_the_model_rejects_is_another_decision(exported: list[Path], tmp_path: Path) -> None:
    log = write_log(tmp_path, exported[0])
    import pyarrow.parquet as pq

    path = log / "requests-1.parquet"
    table = pq.read_table(path)
    sizes = [None if row in (7, 100) else size for row, size in enumerate(table.column("size").to_pylist())]
    table = table.set_column(table.schema.get_field_index("size"), INPUTS[1], pa.array(sizes, pa.float64()))
    pq.write_table(table, path)
    result = _replay(log, exported[0])
    assert (result.changed, result.rejected) == (2, 2)
    assert result.rejection == "instances[0]: size: the value is missing"
    assert result.find_excess(0.01).endswith(
        "; 2 rows are rejected, the first: instances[0]: size: the value is missing"
    )


def test_the_latest_rows_of_the_version_are_taken(exported: list[Path], tmp_path: Path) -> None:
    write_log(tmp_path, exported[0], ROWS[:50], number=1)
    write_log(tmp_path, exported[1], ROWS[:50], number=2, version=2)
    write_log(tmp_path, exported[0], ROWS[:50], number=3)
    result = _replay(tmp_path, exported[0], rows=60, min_rows=10)
    assert (result.rows, result.changed) == (60, 0)
    assert (result.since, result.until) == ("2026-11-02T00:00:40+00:00", "2026-11-04T00:00:49+00:00")


def test_rows_from_before_a_column_was_logged_are_left_out(exported: list[Path], tmp_path: Path) -> None:
    write_log(tmp_path, exported[0], ROWS[:50], number=1, masked=("shop name",))
    write_log(tmp_path, exported[0], ROWS[:50], number=2)
    assert _replay(tmp_path, exported[0], min_rows=50).rows == 50
    message = r"requests-1\.parquet: column 'shop name' is sensitive .*; wait for 51 rows with it, or push once"
    with pytest.raises(RequestLogError, match=message):
        _replay(tmp_path, exported[0], min_rows=51)


def test_too_few_rows_are_not_judged(exported: list[Path], tmp_path: Path) -> None:
    log = write_log(tmp_path, exported[0], ROWS[:50])
    result = _replay(log, exported[1])
    assert result.find_excess(0.0) == ""
    assert result.headline == "replay not judged: 50 logged rows of version 1; at least 100 needed"
    other = replay(log, "shop-model", 7, Predictor(exported[1]), ReplayOptions())
    assert other.reason == "0 logged rows of version 7; at least 100 needed"
    assert "no version serves" in replay(log, "shop-model", None, Predictor(exported[1]), ReplayOptions()).headline


def test_a_log_that_does_not_fit_is_named(exported: list[Path], tmp_path: Path) -> None:
    predictor = Predictor(exported[0])
    log = write_log(tmp_path / "masked", exported[0], masked=("shop name",))
    message = r"requests-1\.parquet: column 'shop name' is sensitive and was not logged; a replay needs it; log it with"
    with pytest.raises(RequestLogError, match=message):
        replay(log, "shop-model", 1, predictor, ReplayOptions())
    log = write_log(tmp_path / "other", exported[0], name="house-model")
    with pytest.raises(RequestLogError, match=r"is of the model 'house-model', expected 'shop-model'; name"):
        replay(log, "shop-model", 1, predictor, ReplayOptions())
    log = write_log(tmp_path / "slices", exported[0])
    with pytest.raises(RequestLogError, match=r"has no column 'region'; a replay needs it; wait for 100 rows"):
        replay(log, "shop-model", 1, predictor, ReplayOptions(slice_by=[["region"]]))
    log = write_log(tmp_path / "outputs", exported[0], masked=("_prediction_predicted_label",))
    with pytest.raises(RequestLogError, match=r"the outputs differ: .*; the log is of a model with another label$"):
        replay(log, "shop-model", 1, predictor, ReplayOptions())


def test_infra_validation_rejects_what_changes_too_much(exported: list[Path], tmp_path: Path) -> None:
    registry = registry_of(tmp_path / "registry")
    push(registry, exported[0])
    settings = LocalRegistrySettings(model_name="shop-model", folder=str(tmp_path / "registry"))
    evaluation = Evaluation(slice_by=(("color",),), min_rows_per_slice=30)
    context = ReplayContext.build(evaluation, settings, "run-2")
    bound = Replay(log=str(write_log(tmp_path / "log", exported[0])), max_changed=0.01)
    assert replay_requests(exported[0], bound, context).rows == 120
    message = r"^infra validation: replay: \d+ of 120 decisions differ from those of version 1 \(.*\(infra_validation\."
    with pytest.raises(NotBlessedError, match=message):
        replay_requests(exported[1], bound, context)
    missing = bound.model_copy(update={"log": str(tmp_path / "missing")})
    with pytest.raises(RequestLogError, match=r"missing: there is no such folder; a server writes one with"):
        replay_requests(exported[1], missing, context)
    # Before the first push nothing has answered, and there is no log.
    nothing = ReplayContext.build(evaluation, settings.model_copy(update={"folder": str(tmp_path / "new")}), "run-1")
    assert "no version serves" in replay_requests(exported[1], missing, nothing).headline


def test_the_command_replays_the_candidate(exported: list[Path], tmp_path: Path) -> None:
    registry = registry_of(tmp_path / "registry")
    push(registry, exported[0])
    log = write_log(tmp_path / "log", exported[0])
    flags = ["--log", str(log), "--model-dir", str(registry.folder)]
    runner = CliRunner()
    outcome = runner.invoke(main, flags)
    assert (outcome.exit_code, outcome.stderr) == (
        2,
        f"error: --version: {registry.folder} has no candidate; name a version\n",
    )
    outcome = runner.invoke(main, ["--log", str(log), "--model-dir", str(tmp_path / "nowhere")])
    assert outcome.stderr == (
        f"error: --model-dir: {tmp_path / 'nowhere'} is not a folder; expected the model's, in its registry\n"
    )
    outcome = runner.invoke(main, [*flags, "--version", "9"])
    assert (outcome.exit_code, "has no version 9; it has 1" in outcome.stderr) == (2, True)
    push(registry, exported[1], run_id="run-2", promote=False)
    outcome = runner.invoke(main, [*flags, "--max-changed", "1", "--slice-by", "color", "--json"])
    document = json.loads(outcome.stdout)
    assert (outcome.exit_code, document["candidate"], document["version"], document["rows"]) == (0, 2, 1, 120)
    outcome = runner.invoke(main, [*flags, "--max-changed", "0.01"])
    assert outcome.exit_code == 4
    assert outcome.stdout.startswith("replay: ")
    assert outcome.stderr.startswith("error: replay of version 2: ")
    assert "Traceback" not in outcome.output


def test_the_log_of_a_server_is_replayed(exported: list[Path], tmp_path: Path) -> None:
    registry = registry_of(tmp_path / "registry")
    push(registry, exported[0])
    log = tmp_path / "log"
    with RunningServer("--model-dir", str(registry.folder), "--log-requests", str(log)) as server:
        rows = [{key: value for key, value in row.items() if value is not None} for row in ROWS]
        assert server.post("/predict", {"instances": rows})[0] == 200
        assert server.post("/predict", {"instances": [{"color": "red"}]})[0] == 400
        assert server.stop() == 0
    result = _replay(log, exported[0], slice_by=[["color"]], min_slice_rows=30)
    assert (result.rows, result.changed, result.rejected, len(result.slices)) == (120, 0, 0, 4)
    assert result.largest_difference < 1e-6
    before, after = (_predict(model, ROWS) for model in exported)
    changed = sum(x["predicted_label"] != y["predicted_label"] for x, y in zip(before, after, strict=True))
    assert _replay(log, exported[1]).changed == changed
