"""An error of the user's own code in a component is one line with its place."""

import sys
from pathlib import Path

import pytest
from tfx.orchestration.pipeline import Pipeline

from pipeline.config.beam_args import beam_args
from pipeline.config.pipeline_config import load
from pipeline.database.sqlite import SQLiteFile
from pipeline.run import dag_runner
from tests.conftest import CENSUS_CONFIG

_MODULE = """
from tfx.dsl.component.experimental.annotations import OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts


def helper(value):
    return int(value)


@component
def Broken(card: OutputArtifact[standard_artifacts.String]) -> None:
    helper("x")
"""


class _Nobody:
    def node_started(self, node_id: str) -> None: ...

    def node_finished(self, result: dag_runner.NodeResult) -> None: ...


def test_an_error_of_an_extra_component_names_the_innermost_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_cards", raising=False)
    (tmp_path / "broken_cards.py").write_text(_MODULE)
    import broken_cards  # type: ignore[import-not-found]

    (tmp_path / "artifacts").mkdir()
    pipeline = Pipeline(
        pipeline_name="p",
        pipeline_root=str(tmp_path / "artifacts"),
        components=[broken_cards.Broken()],
        beam_pipeline_args=beam_args(load(CENSUS_CONFIG)),
    )
    with pytest.raises(dag_runner.NodeFailedError) as error:
        dag_runner.run(pipeline, SQLiteFile(tmp_path / "metadata.sqlite"), run_id="1", observer=_Nobody())
    text = str(error.value)
    assert text.startswith("Broken: ValueError: invalid literal for int() with base 10: 'x' (extra_components: ")
    assert text.endswith("broken_cards.py:8); correct it there, or the data")
    assert "\n" not in text
