"""docs/how-to/components.md: its pipeline runs as it is written there."""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow_transform as tft

from pipeline.database.sqlite import SQLiteFile
from pipeline.run import dag_runner
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "how-to" / "components.md").read_text()
PIPELINE, FEATURES = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


class Results:
    """Keeps how each node ended."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}

    def on_node_start(self, node_id: str) -> None:
        pass

    def on_node_end(self, result: dag_runner.NodeResult) -> None:
        self.states[result.node_id] = result.state


def import_file(name: str, text: str, folder: Path) -> Any:
    (folder / f"{name}.py").write_text(text)
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_pipeline_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "my_features", import_file("my_features", FEATURES, tmp_path))
    (tmp_path / "data").mkdir()
    lines = ["size,price", *(f"{number}.5,{number % 7}" for number in range(300))]
    (tmp_path / "data" / "rows.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "root").mkdir()
    pipeline = import_file("own_pipeline", PIPELINE, tmp_path).build(str(tmp_path / "data"), str(tmp_path / "root"))
    results = Results()
    dag_runner.run(pipeline, SQLiteFile(tmp_path / "metadata.sqlite"), run_id="1", observer=results)
    names = ("CsvExampleGen", "StatisticsGen", "SchemaGen", "Transform")
    assert results.states == dict.fromkeys(names, "complete")
    (graph,) = (tmp_path / "root" / "Transform" / "transform_graph").iterdir()
    assert {*tft.TFTransformOutput(str(graph)).transformed_feature_spec()} == {"size", "price"}
