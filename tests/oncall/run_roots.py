"""Small run roots as runs leave them, made without running any: records, ML Metadata, artifacts, logs, a registry."""

import functools
import itertools
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_metadata
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from pipeline.config import pipeline_config
from pipeline.config.nodes import list_nodes
from pipeline.run.records import PushResult, RecordFile, RunRecord, create_record
from pipeline.run.run_root import RunRoot
from serving.registry import Candidate, LocalRegistry
from tests.conftest import CENSUS_CONFIG, ROOT

NAME = "census-income"
FINGERPRINT = "split:train,num_files:1,total_bytes:398782,xor_checksum:1795556447,sum_checksum:1795556447"

# Of each node: TFX's type of the execution, inputs as (key, node, output), outputs as (key, type).
GRAPH: dict[str, tuple[str, list[tuple[str, str, str]], list[tuple[str, str]]]] = {
    "ExampleGen": ("tfx.components.example_gen.component.FileBasedExampleGen", [], [("examples", "Examples")]),
    "StatisticsGen": (
        "tfx.components.statistics_gen.component.StatisticsGen",
        [("examples", "ExampleGen", "examples")],
        [("statistics", "ExampleStatistics")],
    ),
    "SchemaGen": ("components.schema_gen.component.CuratedSchema", [], [("schema", "Schema")]),
    "ExampleValidator": (
        "components.example_validator.component.ExampleValidator",
        [("statistics", "StatisticsGen", "statistics"), ("schema", "SchemaGen", "schema")],
        [("anomalies", "ExampleAnomalies")],
    ),
    "History": ("tfx.dsl.components.common.resolver.Resolver", [], []),
    "Gate": (
        "components.gate.component.AnomalyGate",
        [("anomalies", "ExampleValidator", "anomalies"), ("statistics", "StatisticsGen", "statistics")],
        [("report", "JsonValue")],
    ),
    "Transform": (
        "components.transform.component.Transform",
        [("examples", "ExampleGen", "examples"), ("schema", "SchemaGen", "schema")],
        [("transform_graph", "TransformGraph"), ("transformed_examples", "Examples")],
    ),
    "Trainer": (
        "tfx.components.trainer.component.Trainer",
        [
            ("examples", "Transform", "transformed_examples"),
            ("transform_graph", "Transform", "transform_graph"),
            ("schema", "SchemaGen", "schema"),
        ],
        [("model", "Model"), ("model_run", "ModelRun")],
    ),
    "Baseline": ("tfx.dsl.components.common.resolver.Resolver", [], []),
    "Evaluator": (
        "components.evaluator.component.Evaluator",
        [("examples", "ExampleGen", "examples"), ("model", "Trainer", "model")],
        [("evaluation", "ModelEvaluation"), ("blessing", "ModelBlessing")],
    ),
    "InfraValidator": (
        "components.infra_validator.component.InfraValidator",
        [("model", "Trainer", "model"), ("evaluation", "Evaluator", "evaluation")],
        [("blessing", "InfraBlessing")],
    ),
    "Pusher": (
        "components.pusher.component.Pusher",
        [("model", "Trainer", "model"), ("infra_blessing", "InfraValidator", "blessing")],
        [("pushed_model", "PushedModel")],
    ),
}
NOT_CACHED = ("History", "Gate", "Baseline", "Pusher")
Artifacts = dict[str, dict[str, mlmd.Artifact]]
# Node, its execution, and what that read and wrote.
_Step = tuple[str, mlmd.Execution, list[tuple[mlmd.Artifact, mlmd.Event]]]


@functools.cache
def _template() -> RunRecord:
    config = pipeline_config.load(CENSUS_CONFIG)
    return create_record(config, "template", log=None, expected=list_nodes(config), resumes=None)


def _store(file: Path) -> ml_metadata.MetadataStore:
    connection = mlmd.ConnectionConfig()
    connection.sqlite.filename_uri = str(file)
    connection.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    return ml_metadata.MetadataStore(connection)


@functools.cache
def _empty_metadata() -> bytes:
    """Return a store without runs, but with the types of their nodes: each write to one waits for the disk."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "metadata.sqlite"
        _put_types(_store(file))
        return file.read_bytes()


def _put_types(store: ml_metadata.MetadataStore) -> None:
    for context in ("pipeline", "pipeline_run", "node"):
        store.put_context_type(mlmd.ContextType(name=context))
    for execution, _, outputs in GRAPH.values():
        store.put_execution_type(mlmd.ExecutionType(name=execution))
        for _, artifact in outputs:
            store.put_artifact_type(mlmd.ArtifactType(name=artifact))


class _RecordFile(RecordFile):
    """Writes the record of a run once, when it is complete."""

    def _write(self) -> None:
        pass

    def save(self) -> None:
        super()._write()


class Runs:
    """Makes runs in one run root, in the order in which it is asked."""

    def __init__(self, folder: Path) -> None:
        self.root = RunRoot(folder)
        for path in (folder, self.root.artifacts, folder / "logs"):
            path.mkdir(parents=True, exist_ok=True)
        is_new = not self.root.metadata.exists()
        if is_new:
            self.root.metadata.write_bytes(_empty_metadata())
        self.store = _store(self.root.metadata)
        if not is_new:
            _put_types(self.store)
        types = self.store.get_context_types(), self.store.get_execution_types(), self.store.get_artifact_types()
        self._types = {type_.name: type_.id for type_ in itertools.chain(*types)}
        self.registry = LocalRegistry(folder / "registry", NAME)

    def run(
        self,
        run_id: str,
        *,
        cached: Artifacts | None = None,
        fails: tuple[str, str, int] | None = None,
        crashes_in: str | None = None,
        log: str = "",
        on_record: bool = True,
        overrides: Mapping[str, Any] | None = None,
        auc: float = 0.92,
        mean: float = 38.0,
        rows: int = 3000,
        pushes: bool = True,
        blessed: bool = True,
        until: str | None = None,
    ) -> Artifacts:
        """Make one run; return its artifacts by node and output.

        Args:
          cached: ID of the run whose results all nodes reuse, but those that are never cached.
          fails: the node, its error, and the run's exit code.
          crashes_in: the node in which the process is killed.
          log: text that the last node writes.
          on_record: whether there is a record.
          overrides: fields of the record.
          auc, mean, rows: values in metrics, statistics and data.
          pushes: whether Pusher pushes to the registry.
          blessed: whether what judges the model blesses it.
          until: the node after which it stops, as asked.
        """
        record = _template().model_copy(deep=True, update={"run_id": run_id, "until": until, **(overrides or {})})
        record.log = str(self.root.locate_log(run_id))
        self.root.locate_log(run_id).write_text("starting\n")
        file = _RecordFile(self.root, record)
        facts = {"auc": auc, "mean": mean, "rows": rows, "pushes": pushes, "run_id": run_id, "blessed": blessed}
        facts["destination"] = str(self.registry.find_folder(max(len(self.registry.list_numbers()) + pushes, 1)))
        made = self._nodes(file, cached or {}, fails or ("", "", 0), crashes_in, log, facts)
        if crashes_in is None:
            code = fails[2] if fails else 0
            champion = self.registry.read_champion()
            destination = f"{self.registry.folder}/{champion}"
            pushed = PushResult(version=champion, wrote=True, destination=destination) if pushes else PushResult()
            results = {} if fails or until else {"push": pushed, "summary": {"serving": "version 1"}}
            file.end(exit_code=code, error=fails[1] if fails else "", reason="", **{"summary": {}, **results})
        if on_record:
            file.save()
        return made

    def _nodes(
        self,
        file: _RecordFile,
        cached: Artifacts,
        fails: tuple[str, str, int],
        crashes_in: str | None,
        log: str,
        facts: Mapping[str, Any],
    ) -> Artifacts:
        run_id, last = file.record.run_id, crashes_in or fails[0] or file.record.until or "Pusher"
        reached = list(GRAPH)[: list(GRAPH).index(last) + 1]
        executions = [
            mlmd.Execution(type_id=self._types[GRAPH[node][0]], last_known_state=mlmd.Execution.RUNNING)
            for node in reached
        ]
        for execution, id_ in zip(executions, self.store.put_executions(executions), strict=True):
            execution.id = id_
        steps: list[_Step] = []
        made: Artifacts = {}
        for node, execution in zip(reached, executions, strict=True):
            file.on_node_start(node)
            if node in (crashes_in, fails[0]):
                with self.root.locate_log(run_id).open("a", newline="") as out:
                    out.write(log)
                state = mlmd.Execution.RUNNING if node == crashes_in else mlmd.Execution.FAILED
                steps.append(self._finish(node, execution, made, state, {}))
                if node == fails[0]:
                    file.on_node_end(node, "failed", fails[1])
                break
            answered = node in cached and node not in NOT_CACHED
            state = mlmd.Execution.CACHED if answered else mlmd.Execution.COMPLETE
            steps.append(self._finish(node, execution, made, state, facts, cached[node] if answered else None))
            if node == "Trainer":
                # Evaluator and Pusher write the ID of the model.
                self._save(steps, run_id)
                steps.clear()
            if node == "Pusher" and facts["pushes"]:
                self._push(made["Trainer"]["model"], facts)
            file.on_node_end(node, "cached" if answered else "complete", "")
        if steps:
            self._save(steps, run_id)
        return made

    def _finish(
        self,
        node: str,
        execution: mlmd.Execution,
        made: Artifacts,
        state: Any,
        facts: Mapping[str, Any],
        cached: dict[str, mlmd.Artifact] | None = None,
    ) -> _Step:
        """Write the files of a node, and add its artifacts to those that were made."""
        _, inputs, outputs = GRAPH[node]
        read = [(made[source][output], _event(key, mlmd.Event.INPUT)) for key, source, output in inputs]
        finished = state in (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED)
        artifacts = cached or (self._outputs(node, execution.id, outputs, made, facts) if finished else {})
        written = [(artifact, _event(key, mlmd.Event.OUTPUT)) for key, artifact in artifacts.items()]
        execution.last_known_state = state
        if state == mlmd.Execution.RUNNING and outputs:
            partial = self.root.artifacts / node / outputs[0][0] / str(execution.id)
            partial.mkdir(parents=True)
            (partial / "half").write_text("ha")
        if finished:
            made[node] = artifacts
        return node, execution, [*read, *written]

    def _save(self, steps: list[_Step], run_id: str) -> None:
        """Write nodes in a few transactions: each waits for the disk."""
        artifacts = list({id(artifact): artifact for *_, pairs in steps for artifact, _ in pairs}.values())
        indices = {id(artifact): index for index, artifact in enumerate(artifacts)}
        edges = [
            (number, indices[id(artifact)], event)
            for number, (*_, pairs) in enumerate(steps)
            for artifact, event in pairs
        ]
        names = [("pipeline", NAME), ("pipeline_run", run_id), *(("node", f"{NAME}.{node}") for node, *_ in steps)]
        shared, of_nodes = (contexts := self._contexts(names))[:2], contexts[2:]
        executions = [execution for _, execution, _ in steps]
        _, ids, _ = self.store.put_lineage_subgraph(executions, artifacts, shared, edges, True)
        for artifact, id_ in zip(artifacts, ids, strict=True):
            artifact.id = id_
        self.store.put_attributions_and_associations(
            [
                mlmd.Attribution(artifact_id=artifact.id, context_id=context.id)
                for context, (*_, pairs) in zip(of_nodes, steps, strict=True)
                for artifact in {id(artifact): artifact for artifact, _ in pairs}.values()
            ],
            [
                mlmd.Association(execution_id=execution.id, context_id=context.id)
                for context, execution in zip(of_nodes, executions, strict=True)
            ],
        )

    def _outputs(
        self, node: str, execution: int, outputs: list[tuple[str, str]], made: Artifacts, facts: Mapping[str, Any]
    ) -> dict[str, mlmd.Artifact]:
        artifacts = {}
        for key, kind in outputs:
            folder = self.root.artifacts / node / key / str(execution)
            uri = folder / "value" if kind == "JsonValue" else folder
            artifact = mlmd.Artifact(type_id=self._types[kind], uri=str(uri), state=mlmd.Artifact.LIVE)
            folder.mkdir(parents=True)
            fill(artifact, kind, node, folder, facts)
            if kind == "ModelBlessing":
                artifact.custom_properties["current_model_id"].int_value = made["Trainer"]["model"].id
            artifacts[key] = artifact
        return artifacts

    def _push(self, model: mlmd.Artifact, facts: Mapping[str, Any]) -> None:
        folder, metrics = Path(model.uri) / "Format-Serving", {"overall": {"auc": facts["auc"]}}
        self.registry.push(Candidate(NAME, run_id=facts["run_id"], model_id=model.id, folder=folder, metrics=metrics))

    def _contexts(self, names: list[tuple[str, str]]) -> list[mlmd.Context]:
        contexts = [
            self.store.get_context_by_type_and_name(kind, name) or mlmd.Context(type_id=self._types[kind], name=name)
            for kind, name in names
        ]
        for context, id_ in zip(contexts, self.store.put_contexts(contexts), strict=True):
            context.id = id_
        return contexts


def _event(key: str, kind: Any) -> mlmd.Event:
    event = mlmd.Event(type=kind)
    event.path.steps.add().key = key
    event.path.steps.add().index = 0
    return event


def fill(artifact: mlmd.Artifact, kind: str, node: str, folder: Path, facts: Mapping[str, Any]) -> None:
    """Add the properties and files by which components report their findings."""
    properties = artifact.custom_properties
    match kind:
        case "Examples" if node == "ExampleGen":
            properties["rows"].string_value = json.dumps({"train": facts["rows"], "test": 1500})
            properties["input_fingerprint"].string_value = FINGERPRINT
            properties["content"].string_value = json.dumps({"train": f"{facts['rows']:012x}", "test": "0" * 12})
            (folder / "data").write_bytes(b"x" * 1000)
        case "ExampleStatistics":
            (folder / "Split-train").mkdir()
            (folder / "Split-train" / "FeatureStats.pb").write_bytes(_statistics(facts).SerializeToString())
        case "Schema":
            shutil.copy(ROOT / "schemas" / "census.pbtxt", folder / "schema.pbtxt")
        case "ExampleAnomalies":
            (folder / "Split-train").mkdir()
            (folder / "Split-train" / "SchemaDiff.pb").write_bytes(_anomalies().SerializeToString())
        case "JsonValue":
            report = {"warnings": ["train: age: a little old"], "history": False, "compared": {"SKEW": 14, "DRIFT": 0}}
            (folder / "value").write_text(json.dumps(report))
        case "Model":
            (folder / "Format-Serving").mkdir()
            (folder / "Format-Serving" / "saved_model.pb").write_bytes(f"model of {facts['run_id']}".encode())
        case "ModelEvaluation":
            metrics = {
                "overall": {"auc": facts["auc"], "brier": None},
                "sex=Male": {"auc": facts["auc"] - 0.01},
            }
            summary = {
                "metrics": metrics,
                "failures": ["auc 0.9000; at least 0.95 expected"],
                "warnings": ["brier on sex=Male: undefined"],
                "constant_predictor": {"text": "log loss 0.3 of the model against 0.6 of the class shares of train"},
                "decision": {"text": "threshold 0.17 (false positive 1, false negative 5; chosen on 900 rows of eval)"},
                "weight_column": "fnlwgt",
                "intervals": {"overall": {"auc": [facts["auc"] - 0.004, facts["auc"] + 0.004]}},
                "challengers": {
                    "linear": {
                        "text": "log loss 0.29; the model is better by 0.016 [0.013, 0.019]",
                        "gains": {"overall": [facts["auc"] - 0.9, facts["auc"] - 0.91, facts["auc"] - 0.89]},
                    }
                },
            }
            (folder / "summary.json").write_text(json.dumps(summary))
        case "ModelBlessing" | "InfraBlessing":
            properties["blessed"].int_value = int(facts["blessed"])
        case "PushedModel":
            properties["pushed"].int_value = int(facts["pushes"])
            properties["pushed_destination"].string_value = facts["destination"]


def _statistics(facts: Mapping[str, Any]) -> statistics_pb2.DatasetFeatureStatisticsList:
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    data = statistics.datasets.add(name="train", num_examples=facts["rows"])
    age = data.features.add(name="age")
    age.num_stats.mean = facts["mean"]
    age.num_stats.common_stats.num_non_missing = facts["rows"]
    sex = data.features.add(name="sex", type=statistics_pb2.FeatureNameStatistics.STRING)
    sex.string_stats.unique = 2
    sex.string_stats.common_stats.num_non_missing = facts["rows"]
    return statistics


def _anomalies() -> anomalies_pb2.Anomalies:
    anomalies = anomalies_pb2.Anomalies()
    reason = anomalies.anomaly_info["workclass"].reason.add()
    reason.type = anomalies_pb2.AnomalyInfo.ENUM_TYPE_UNEXPECTED_STRING_VALUES
    reason.description = "Examples contain values missing from the schema: Gig (~5%)."
    return anomalies
