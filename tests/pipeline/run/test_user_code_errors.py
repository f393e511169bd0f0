"""An error of the user's own code in a component is one line with its place."""

import sys
from pathlib import Path

import pytest
from tfx.orchestration.pipeline import Pipeline

from pipeline.config.beam_args import build_beam_args
from pipeline.config.pipeline_config import load
from pipeline.database.sqlite import SQLiteFile
from pipeline.run import dag_runner
from tests.conftest import CENSUS_CONFIG

_MODULE = """
from tfx.dsl.component.experimental.annotations import OutputArtifact, OutputDict
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts


def helper(value):
    return int(value)


@component
def Broken(card: OutputArtifact[standard_artifacts.String]) -> None:
"""


class _Nobody:
    def on_node_start(self, node_id: str) -> None: ...

    def on_node_end(self, result: dag_runner.NodeResult) -> None: ...


@pytest.mark.parametrize(
    ("result", "body", "message", "line"),
    [
        ("None", 'helper("x")', "ValueError: invalid literal for int() with base 10: 'x'", 8),
        ("None", "raise SystemExit(3)", "SystemExit: 3", 13),
        ("None", "pass", "the output 'card' is empty; write to its uri, or set a property of it", 11),
        (
            "OutputDict(rows=int)",
            "open(card.uri, 'w').write('x')",
            "ValueError: Did not receive expected output 'rows'",
            11,
        ),
        ("None", "open(card.uri, 'w').write('x')", None, 0),
        ("None", "card.set_int_custom_property('rows', 1)", None, 0),
    ],
)
def test_an_error_of_an_extra_component_names_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str, body: str, message: str | None, line: int
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_cards", raising=False)
    (tmp_path / "broken_cards.py").write_text(f"{_MODULE.replace('None', result)}    {body}\n")
    import broken_cards  # type: ignore[import-not-found]

    (tmp_path / "artifacts").mkdir()
    pipeline = Pipeline(
        pipeline_name="p",
        pipeline_root=str(tmp_path / "artifacts"),
        components=[broken_cards.Broken()],
        beam_pipeline_args=build_beam_args(load(CENSUS_CONFIG)),
    )
    database = SQLiteFile(tmp_path / "metadata.sqlite")
    if message is None:
        dag_runner.run(pipeline, database, run_id="1", observer=_Nobody())
        return
    with pytest.raises(dag_runner.NodeFailedError) as error:
        dag_runner.run(pipeline, database, run_id="1", observer=_Nobody())
    text = str(error.value)
    assert text.startswith(f"Broken: {message}")
    assert "(extra_components: " in text
    assert text.endswith(f"broken_cards.py:{line}); correct it there, or the data")
    assert "\n" not in text
