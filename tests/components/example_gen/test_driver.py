"""TFX's cache follows the content of the input files: real runs of ExampleGen alone, by the launcher and as on Vertex."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfx.orchestration.pipeline import Pipeline

from components.example_gen.component import build_example_gen
from pipeline.config import pipeline_config
from pipeline.config.beam_args import build_beam_args
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.database.sqlite import SQLiteFile
from pipeline.run import dag_runner
from pipeline.vertex.compiler import compile_job
from pipeline.vertex.rehearsal import Rehearsal
from schemas.data import Data
from schemas.features import FeatureSet
from schemas.tables import content_hash
from tests.bigquery_fixtures import PROJECT, Warehouse
from tests.components.example_gen.test_bigquery import SETTINGS, TAKEN_SPLITS, census_table
from tests.conftest import CENSUS_CONFIG

FEATURES = FeatureSet.model_validate(
    {"features": {"x": {"kind": "numeric"}}, "label": {"column": "y", "positive": "1", "negative": "0"}}
)
ODD_NAME = "a [b] c#d%20é?*"


class _Seen:
    def __init__(self) -> None:
        self.results: list[dag_runner.NodeResult] = []

    def on_node_start(self, node_id: str) -> None:
        pass

    def on_node_end(self, result: dag_runner.NodeResult) -> None:
        self.results.append(result)


class Runs:
    """Runs of ExampleGen in one run root."""

    def __init__(self, folder: Path, data: Data) -> None:
        self.root, self.data, self.count = folder, data, 0
        (folder / "artifacts").mkdir(parents=True)

    def run(self) -> dag_runner.NodeResult:
        self.count += 1
        seen = _Seen()
        pipeline = Pipeline(
            pipeline_name="p",
            pipeline_root=str(self.root / "artifacts"),
            components=[build_example_gen(data=self.data, features=FEATURES, code_fingerprint="")],
            enable_cache=True,
            beam_pipeline_args=build_beam_args(pipeline_config.load(CENSUS_CONFIG)),
        )
        dag_runner.run(pipeline, SQLiteFile(self.root / "metadata.sqlite"), run_id=str(self.count), observer=seen)
        (result,) = seen.results
        return result


def test_a_touch_is_answered_from_the_cache_and_other_content_of_the_same_second_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / ODD_NAME / "data"
    base.mkdir(parents=True)
    file = base / f"{ODD_NAME}.csv"
    rows = [f"{number},{number % 2}" for number in range(10, 60)]
    file.write_text("\n".join(["x,y", *rows]) + "\n")
    data = Data.model_validate(
        {
            "base": str(base),
            "splits": {"train": {"files": f"{ODD_NAME}.csv"}, "eval": {"source": "train", "fraction": 0.2}},
        }
    )
    runs = Runs(tmp_path / ODD_NAME / "run", data)
    first = runs.run()
    assert first.state == dag_runner.COMPLETE
    ((examples,),) = first.outputs.values()
    line = examples.custom_properties["input_fingerprint"].string_value
    assert line.startswith(f"split:train,num_files:1,total_bytes:{file.stat().st_size},content:")
    file.touch()
    assert runs.run().state == dag_runner.CACHED
    # Nothing of the driver's is taken for an artifact or left behind in the data's folder.
    assert [path.name for path in base.iterdir()] == [file.name]
    before = file.stat()
    file.write_text(file.read_text().replace("59,1", "58,1"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    third = runs.run()
    assert (file.stat().st_size, third.state) == (before.st_size, dag_runner.COMPLETE)
    # As if the last change were long past.
    monkeypatch.setattr(content_hash, "_RACY_NS", 0)
    assert runs.run().state == dag_runner.CACHED
    memory = runs.root / "artifacts" / "ExampleGen" / ".system" / "input_hashes.json"
    assert [path for path, *_ in json.loads(memory.read_text())] == [str(file)]


def take_example_gens(jobs: dict[str, Any]) -> Any:
    """Return a job of nothing but ExampleGen of each job, under the job's name."""
    merged: Any = {"runtimeConfig": {}, "pipelineSpec": {"components": {}, "deploymentSpec": {"executors": {}}}}
    tasks: dict[str, Any] = {}
    for name, job in jobs.items():
        spec, made = job["pipelineSpec"], merged["pipelineSpec"]
        task = spec["root"]["dag"]["tasks"]["ExampleGen"]
        component = spec["components"][task["componentRef"]["name"]]
        executor = spec["deploymentSpec"]["executors"][component["executorLabel"]]
        tasks[name] = {**task, "componentRef": {"name": name}}
        made["components"][name] = {**component, "executorLabel": name}
        made["deploymentSpec"]["executors"][name] = executor
        made["root"] = {**spec["root"], "dag": {"tasks": tasks}}
        merged["runtimeConfig"] = job["runtimeConfig"]
    return merged


@pytest.mark.proof
def test_on_vertex_the_driver_before_the_cache_names_the_content_and_asks_bigquery(
    small_census: Callable[..., Path], warehouse: Warehouse, tmp_path: Path
) -> None:
    vertex = pipeline_config.load(CENSUS_CONFIG).vertex
    assert vertex is not None
    update = {"input_base": f"gs://bucket/{ODD_NAME}", "pipeline_root": "gs://bucket/root", "image": "image:1"}
    vertex = vertex.model_copy(update=update)
    of_file = pipeline_config.load(small_census(rows=500), ["vertex.image=image:1"])
    of_file = of_file.model_copy(update={"vertex": vertex})
    warehouse.write("census", census_table(300))
    splits = {
        "train": {"table": "shop.census"},
        "test": {"query": "SELECT * FROM shop.census WHERE age > 30"},
        **TAKEN_SPLITS,
    }
    data = {**SETTINGS, "format": "bigquery", "bigquery": {"project": PROJECT}, "splits": splits}
    of_table = PipelineConfig.model_validate(
        {**of_file.model_dump(), "data": data, "vertex": {**vertex.model_dump(), "input_base": None}}
    )
    job = take_example_gens({"File": compile_job(of_file), "Table": compile_job(of_table)})
    storage = tmp_path / ODD_NAME / "storage"
    (storage / "bucket").mkdir(parents=True)
    (storage / "bucket" / ODD_NAME).symlink_to(of_file.data.base)
    file = Path(of_file.data.base) / "train.csv"

    def run_job(number: int) -> dict[str, tuple[str, str]]:
        run = Rehearsal(job, tmp_path / ODD_NAME / "rehearsal", job_id=f"run-{number}", storage=storage)
        return {name: (result.state, result.error) for name, result in run.run().items()}

    assert run_job(1) == {"File": ("SUCCEEDED", ""), "Table": ("SUCCEEDED", "")}
    os.utime(file, (1, 1))
    assert run_job(2) == {"File": ("CACHED", ""), "Table": ("CACHED", "")}
    text = file.read_text()
    file.write_text(text.replace("39", "38", 1))
    os.utime(file, (1, 1))
    assert len(file.read_text()) == len(text)
    warehouse.write("census", census_table(299))
    assert run_job(3) == {"File": ("SUCCEEDED", ""), "Table": ("SUCCEEDED", "")}
