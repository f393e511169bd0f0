"""The one config of a pipeline: read, checked, and turned into a frozen object. Imports no TensorFlow.

config = load("configs/census.yaml", settings=["training.epochs=3"])
"""

import importlib
import json
import os
import re
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, NonNegativeInt, PrivateAttr, TypeAdapter, ValidationError, model_validator
from pydantic_core import ErrorDetails

from cli.errors import ConfigError
from cli.terminal import format_command, get_runner, quiet_stderr
from components.config import (
    ChangeThreshold,
    EvaluatedMetric,
    Evaluation,
    Implementation,
    InfraValidation,
    Name,
    Push,
    Rewritten,
    TfmaMetric,
    Threshold,
    TransformConfig,
    Validation,
)
from pipeline.alerts.config import Alerts
from pipeline.config.extra_components import ExtraComponent, add_extra_nodes
from pipeline.config.monitoring import Monitoring
from pipeline.config.node_names import NODES
from pipeline.database.config import MetadataBackend, SQLite
from pipeline.retrain.config import Retrain
from pipeline.vertex.config import RUN_ON_BEAM, Beam, Vertex
from schemas.data import TRAIN_SPLIT, Data
from schemas.decision import DecisionCosts
from schemas.declaration import Declaration, suggest_name
from schemas.features import (
    CategoricalFeature,
    Cross,
    Feature,
    FeatureSet,
    IdList,
    Label,
    LabelKind,
    Text,
    Timestamp,
    Vector,
)
from schemas.metrics import MEAN_COST, list_metrics, list_watchable
from schemas.sensitive import find_sensitive
from schemas.user_code import UserCode, is_file
from schemas.vocabularies import read_vocabulary
from serving.registry.settings import (
    AnyRegistrySettings,
    LocalRegistrySettings,
    OwnRegistrySettings,
    VertexRegistrySettings,
)
from serving.registry.vertex.config import MODEL_ID, Deployment, VertexProject
from trainer.config import Choices, Model, Training, apply_values


class PipelineConfig(Declaration):
    """All settings of one pipeline."""

    name: Name
    """Name of the pipeline in ML Metadata and on Vertex AI, whose rule it keeps: `[a-z0-9][a-z0-9-]{0,127}`."""
    seed: NonNegativeInt = 0
    """Seed of everything random: two runs of one config give the same splits and, nearly, the same model."""
    data: Data
    features: Annotated[dict[str, Feature], Field(min_length=1)]
    """By column name. The kind defines how values become ids or numbers; `wide` and `embedding` define their use. In
    the inputs of the served model, other than ASCII letters and digits are replaced: `a b` is `a_b`."""
    crosses: tuple[Cross, ...] = ()
    """Combinations of features, each of which the wide part learns weights for."""
    label: Label
    decision: DecisionCosts | None = None
    """Costs of the errors of a binary label. If omitted, both cost the same, and the model predicts the more likely
    value."""
    validation: Validation = Validation()
    transform: TransformConfig = TransformConfig()
    model: Model = Model()
    training: Training
    evaluation: Evaluation
    infra_validation: InfraValidation = InfraValidation()
    push: Push
    extra_components: tuple[ExtraComponent, ...] = ()
    """TFX components of your own, which the DAG has beside its nodes. docs/how-to/own-component.md"""
    implementation: Implementation | dict[Rewritten, Implementation] = "fast"
    """Executors of StatisticsGen, Transform and Evaluator: `stock` for those of stock TFX, for all or by component, as
    in `{Transform: stock}`. Splits, gate, history and registry are the same. docs/how-to/components.md"""
    metadata: MetadataBackend = SQLite()
    """The database of ML Metadata, for runs on this machine; Vertex Pipelines keeps its own. docs/metadata.md"""
    alerts: Alerts = Alerts()
    """If omitted, only the output and the exit code report a run."""
    monitoring: Monitoring = Monitoring()
    """If omitted, no request log is read."""
    retrain: Retrain | None = None
    """Needed by `python -m pipeline retrain`. docs/monitoring.md"""
    beam: Beam = Beam()
    """If omitted, everything runs on this machine; on Vertex, in each component's own container."""
    vertex: Vertex | None = None
    """Needed by `python vertex_runner.py` and by a push to Vertex AI; its own flags go first."""
    _file: Path | None = PrivateAttr(None)
    _set_keys: tuple[str, ...] = PrivateAttr(())

    @contextmanager
    def name_file_in_errors(self) -> Iterator[None]:
        """Begin each line of a ConfigError that names a key of the config with its source, as `load` does.

        Raises:
          ConfigError: The code inside raises it.
        """
        try:
            yield
        except ConfigError as error:
            if self._file is None:
                raise
            raise ConfigError(_add_sources(self._file, self._set_keys, str(error))) from error

    @model_validator(mode="before")
    @classmethod
    def _fill_replay_log(cls, values: Any) -> Any:
        """Give a replay without a log that of `monitoring`."""
        sections = [
            values.get(name) if isinstance(values, dict) else None for name in ("infra_validation", "monitoring")
        ]
        infra_validation, monitoring = [section if isinstance(section, dict) else {} for section in sections]
        replay, log = infra_validation.get("replay"), monitoring.get("request_log")
        if isinstance(replay, dict) and "log" not in replay and log is None:
            raise ValueError(
                "infra_validation.replay.log: is missing, and so is monitoring.request_log; give one the folder of the "
                "server's --log-requests"
            )
        if not isinstance(replay, dict) or "log" in replay:
            return values
        return {**values, "infra_validation": {**infra_validation, "replay": {"log": log, **replay}}}

    @model_validator(mode="after")
    def _check_sections(self) -> "PipelineConfig":
        if self.evaluation.split not in self.data.splits:
            hint = suggest_name(self.evaluation.split, list(self.data.splits))
            raise ValueError(f"evaluation.split: '{self.evaluation.split}' is not in data.splits; {hint}")
        if self.evaluation.split == TRAIN_SPLIT:
            raise ValueError("evaluation.split: 'train' is fitted, and shows what the model remembers; name another")
        for columns in self.evaluation.slice_by:
            for column in columns:
                if column not in self.feature_set.raw_features:
                    hint = suggest_name(column, list(self.feature_set.raw_features))
                    raise ValueError(f"evaluation.slice_by: '{column}' is not a declared feature; {hint}")
                if isinstance(self.features[column], (IdList, *_UNIQUE_KINDS)):
                    raise ValueError(
                        f"evaluation.slice_by: '{column}' is a {self.features[column].kind}; expected a feature with "
                        "one category or number in each row"
                    )
                if self.features[column].sensitive:
                    raise ValueError(
                        f"evaluation.slice_by: '{column}' is sensitive, and its values would name the slices; remove "
                        "it here, or slice by another column of coarser values that are not sensitive"
                    )
        self._check_sensitive_columns()
        self._check_missing_values()
        self._check_categories()
        self._check_validation()
        self._check_label_kind()
        self._check_architecture()
        self._check_push()
        # Rejects nodes and channels that do not exist, and circles.
        _ = self.node_names
        derived = {self.label.column} if self.label.expression is not None else set()
        used = {*self.feature_set.column_types, *self.label.inputs} - derived
        both = sorted(used & {*self.data.ignored_columns})
        if both:
            raise ValueError(
                f"data.ignored_columns: {', '.join(both)} cannot be ignored, the features, label or weight use it"
            )
        return self

    def get_implementation(self, component: Rewritten) -> Implementation:
        """Return whose executor does a component's work."""
        if isinstance(self.implementation, dict):
            return self.implementation.get(component, "fast")
        return self.implementation

    @property
    def node_names(self) -> tuple[str, ...]:
        """The nodes of the DAG, in order; a node that only some configs need is in it if this one does."""
        left_out = {
            *(() if self.data.example_gen is not None else ("SourceExampleGen",)),
            *(() if self.training.search is not None else ("Tuner",)),
            *(() if self.training.warm_start else ("WarmStart",)),
        }
        return add_extra_nodes([node for node in NODES if node not in left_out], self.extra_components)

    @property
    def gate_policy(self) -> Validation:
        """The policy of the gate, whose comparisons leave out the columns that do not come again."""
        columns = tuple(name for name, feature in self.features.items() if isinstance(feature, _UNIQUE_KINDS))
        drift, skew = (
            comparison.model_copy(update={"excluded": (*comparison.excluded, *columns)})
            for comparison in (self.validation.drift, self.validation.skew)
        )
        return self.validation.model_copy(update={"drift": drift, "skew": skew})

    def _check_sensitive_columns(self) -> None:
        """Reject a name that masks nothing, which a misspelt one would."""
        label = self.label.column
        others = [
            name for name in self.data.build_read_options(label, *self.label.inputs).other_columns if name != label
        ]
        for name in self.data.sensitive_columns:
            if name == self.feature_set.weight:
                continue
            if name in self.feature_set.column_types:
                section = "label" if name == label else f"features.{name}"
                raise ValueError(
                    f"data.sensitive_columns: '{name}' is declared under {section}; set {section}.sensitive: true "
                    "instead"
                )
            if name not in others:
                raise ValueError(
                    f"data.sensitive_columns: '{name}' is neither ignored, nor the weight, nor a group, and decides "
                    f"on no split; {suggest_name(name, others)}"
                )

    def _check_missing_values(self) -> None:
        if "" in self.data.missing_values:
            return
        for name, feature in self.features.items():
            if (
                isinstance(feature, CategoricalFeature)
                and feature.expression is None
                and feature.missing is not None
                and feature.missing_values is None
            ):
                raise ValueError(
                    f"data.missing_values: needs '' for '{name}', which may be missing: the model takes '' for a "
                    "missing value"
                )

    def _check_categories(self) -> None:
        """Reject categories that no row can have."""
        if not self.data.csv.strip_spaces:
            return
        for name, feature in self.features.items():
            for category in feature.categories:
                if category != category.strip():
                    raise ValueError(
                        f"features.{name}: the category {category!r} has spaces around it, which "
                        "data.csv.strip_spaces removes from the rows; remove them"
                    )

    def _check_validation(self) -> None:
        columns = self.feature_set.validated_types
        used = [
            (f"severities.{i}", name) for i, rule in enumerate(self.validation.severities) for name in rule.features
        ]
        used += [(f"allowed.{i}", allowance.feature) for i, allowance in enumerate(self.validation.allowed)]
        for section, comparison in (("drift", self.validation.drift), ("skew", self.validation.skew)):
            used += [(f"{section}.features", name) for name in comparison.features]
            for name, distance in comparison.features.items():
                if distance.measure == "l_infinity" and columns.get(name) in ("float", "int"):
                    raise ValueError(
                        f"validation.{section}.features.{name}: l_infinity is for categories; use jensen_shannon"
                    )
        for where, name in used:
            if name not in columns:
                hint = suggest_name(name, list(columns))
                raise ValueError(f"validation.{where}: '{name}' is not a declared feature or the label; {hint}")

    def _check_label_kind(self) -> None:
        """Reject metrics and options that the kind of the label does not have."""
        kind = self.label.kind
        if self.decision is not None and kind != "binary":
            raise ValueError(f"decision: is for a binary label, and '{self.label.column}' is {kind}; remove it")
        self._check_metrics(kind)
        self._check_search(kind)
        self._check_options_of_kind(kind)

    def _check_metrics(self, kind: LabelKind) -> None:
        evaluation, stopping = self.evaluation, self.training.early_stopping
        label_metrics = list_metrics(kind, has_costs=self.decision is not None)
        bounds: tuple[Threshold | ChangeThreshold, ...] = (*evaluation.thresholds, *evaluation.change_thresholds)
        names = [("metrics", name) for name in evaluation.named_metrics]
        own = [metric.name for metric in evaluation.tfma_metrics]
        names += [("thresholds", bound.metric) for bound in bounds if bound.metric not in own]
        for where, name in names:
            if name == MEAN_COST and kind == "binary" and name not in label_metrics:
                raise ValueError(f"evaluation.{where}: '{name}' needs the costs of the errors, section 'decision'")
            if name not in label_metrics:
                metrics = ", ".join(label_metrics)
                raise ValueError(f"evaluation.{where}: '{name}' is not for a {kind} label, which has {metrics}")
        if stopping is not None:
            _check_watched("training.early_stopping.metric", stopping.metric, kind)

    def _check_search(self, kind: LabelKind) -> None:
        search = self.training.search
        if search is None:
            return
        _check_watched("training.search.metric", search.metric, kind)
        for path, values in (search.parameters or {}).items():
            for value in values.choices if isinstance(values, Choices) else (values.low, values.high):
                try:
                    model, training = apply_values(self.model, self.training, {path: value})
                    changed = self.model_copy(update={"model": model, "training": training})
                    changed._check_options_of_kind(kind)
                    changed._check_architecture()
                except ValueError as error:
                    raise ValueError(f"training.search.parameters: {error}") from error

    def _check_options_of_kind(self, kind: LabelKind) -> None:
        """Reject options of the network and the training that this kind of label does not have."""
        for key in ("imbalance", "calibration", "label_smoothing"):
            value = getattr(self.training, key)
            if kind == "regression" and value not in (Training.model_fields[key].default, "mean"):
                raise ValueError(f"training.{key}: '{value}' needs classes; the label is a number")
        if kind == "regression":
            return
        if self.training.calibration == "mean":
            raise ValueError(f"training.calibration: 'mean' needs a label that is a number; it has classes ({kind})")
        for key in ("label_scale", "clip_predictions"):
            value = getattr(self.model, key)
            if value != Model.model_fields[key].default:
                raise ValueError(f"model.{key}: '{value}' needs a label that is a number; it has classes ({kind})")

    def _check_architecture(self) -> None:
        """Reject a network without inputs, and members of a part that is absent."""
        model = self.model
        ids, numbers = self.feature_set.id_columns, self.feature_set.number_columns
        has_wide = any(column.wide for column in ids) or any(column.wide for column in numbers)
        has_deep = any(column.embedding != "none" for column in ids) or any(
            (column.encoding or model.number_encoding) != "none" for column in numbers
        )
        match model.architecture:
            case "wide_and_deep":
                part, has_inputs = "any", has_wide or has_deep
            case "wide":
                part, has_inputs = "the wide", has_wide
            case "deep":
                part, has_inputs = "the deep", has_deep
        if not has_inputs:
            raise ValueError(f"model.architecture: no feature is for {part} part; see wide, embedding and encoding")
        if model.architecture == "wide" and model.members > 1:
            raise ValueError(
                f"model.members: {model.members} members share the deep part, which model.architecture: wide leaves out"
            )

    def _check_push(self) -> None:
        if self.push.target == "vertex":
            for name, section in (("vertex", self.vertex), ("push.vertex", self.push.vertex)):
                if section is None:
                    raise ValueError(f"push.target: vertex needs the section '{name}'; docs/config.md explains it")
        extra_names = [component.name for component in self.extra_components]
        names = [*RUN_ON_BEAM, *extra_names]
        for name in self.beam.components:
            if name not in names:
                raise ValueError(f"beam.components: '{name}' does not run on Beam; {suggest_name(name, names)}")
        names = [*NODES, *extra_names]
        for name in self.vertex.machines if self.vertex is not None else ():
            if name not in names:
                raise ValueError(f"vertex.machines: '{name}' is not a component; {suggest_name(name, names)}")
        several = self.vertex is not None and any(machine.replicas > 1 for machine in self.vertex.machines.values())
        if several and self.training.distribution != "multi_worker":
            raise ValueError(
                "vertex.machines.Trainer.replicas: several machines need training.distribution: multi_worker, found "
                f"'{self.training.distribution}'"
            )
        if self.vertex is not None and self.vertex.input_base is None and self.data.reads_files:
            raise ValueError("vertex.input_base: is missing; give the gs:// folder that replaces data.base")
        if self.vertex is not None and self.name[0].isdecimal():
            raise ValueError(
                f"name: '{self.name}' starts with a digit, and so would the ids of its jobs on Vertex AI, which start "
                "with a letter"
            )
        if self.push.vertex is not None and not MODEL_ID.fullmatch(self.push.model_name):
            raise ValueError(
                f"push.model_name: '{self.push.model_name}' cannot be a model's id on Vertex AI: at most 63 of "
                "lowercase letters, digits, _ and -, a letter first"
            )

    @property
    def place(self) -> VertexProject:
        """Where on Vertex AI models are pushed to.

        Raises:
          ConfigError: there is no section `vertex`.
        """
        if self.vertex is None:
            raise self._build_missing_error()
        return VertexProject(
            project=self.vertex.project,
            region=self.vertex.region,
            staging=self.vertex.pipeline_root,
            api_endpoint=self.vertex.api_endpoint,
            service_account=self.vertex.service_account,
            cmek_key=self.vertex.cmek_key,
            labels=self.vertex.labels,
        )

    @property
    def deployment(self) -> Deployment:
        """How a pushed model is served on Vertex AI.

        Raises:
          ConfigError: there is no section `push.vertex`.
        """
        if self.push.vertex is None:
            raise self._build_missing_error()
        return self.push.vertex

    def check_vertex_sections(self) -> None:
        """Check that all sections of Vertex AI exist, which runs there need together.

        Raises:
          ConfigError: at least one is missing; with all that are.
        """
        if self.vertex is None or self.push.vertex is None:
            raise self._build_missing_error()

    def _build_missing_error(self) -> ConfigError:
        sections = {
            "vertex (project, region, pipeline_root, input_base, image)": self.vertex,
            "push.vertex (serving_image at least)": self.push.vertex,
        }
        missing = [name for name, section in sections.items() if section is None]
        return ConfigError(
            f"{' and '.join(missing)}: missing in the config; write them there, or put both "
            f"into a file: {format_command(*get_runner('vertex_runner.py'))} COMMAND --vertex-file configs/vertex.yaml"
        )

    def build_registry_settings(self, folder: Path) -> AnyRegistrySettings:
        """Return the settings of the registry that `push.target` names.

        Args:
          folder: Folder of the local registry.

        Raises:
          ConfigError: a section is missing, or the file of a class of the user's own.
        """
        match self.push.target:
            case "registry":
                return LocalRegistrySettings(
                    model_name=self.push.model_name, folder=str(folder), promote=self.push.promote
                )
            case "vertex":
                return self.vertex_registry_settings
            case own:
                code = UserCode.read("push.target", own).to_json()
                return OwnRegistrySettings(model_name=self.push.model_name, code=code, config=self.push.config)

    @property
    def vertex_registry_settings(self) -> VertexRegistrySettings:
        """The settings of the registry on Vertex AI, which runs there push to.

        Raises:
          ConfigError: a section is missing.
        """
        return VertexRegistrySettings(model_name=self.push.model_name, place=self.place, deployment=self.deployment)

    @property
    def sensitive_columns(self) -> tuple[str, ...]:
        """The columns whose values no message, log, alert, reject file or page shows."""
        return find_sensitive(self.feature_set, self.data.build_read_options(self.label.column, *self.label.inputs))

    @property
    def feature_set(self) -> FeatureSet:
        """The features, crosses, label and weight together, with all that derives from them."""
        return FeatureSet(
            features=self.features, crosses=self.crosses, label=self.label, weight=self.data.weight_column
        )


# Kinds of features whose values hardly come again.
_UNIQUE_KINDS = (Text, Timestamp, Vector)
_PATHS = (
    ("data", "base"),
    ("data.example_gen.arguments", "input_base"),
    ("data", "schema_file"),
    ("push", "registry"),
    ("infra_validation.replay", "log"),
    ("alerts", "webhook_file"),
    ("monitoring", "request_log"),
    ("beam", "setup_file"),
    ("metadata", "password_file"),
    *(("metadata.tls", name) for name in ("ca", "cert", "key")),
)


# Code of the user's own: a file or a dotted path.
_CODE = (("transform", "module"), ("model", "module"), ("push", "target"))


# A line that begins with a key of the config.
_KEY = re.compile(rf"({'|'.join(PipelineConfig.model_fields)})(\.[^:]+)?:")


def _check_watched(key: str, metric: str | None, kind: LabelKind) -> None:
    """Reject a metric that is not measured on `eval` after each epoch."""
    if metric is not None and metric not in list_watchable(kind):
        raise ValueError(f"{key}: '{metric}' is not for a {kind} label: {' or '.join(list_watchable(kind))}")


class _UniqueKeyLoader(yaml.SafeLoader):
    """Rejects a duplicate key; plain YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key '{key}' is a duplicate", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _construct_date(loader: _UniqueKeyLoader, node: yaml.ScalarNode) -> Any:
    """Return a date; PyYAML raises no error of its own for one that is in no calendar, such as 2026-13-01."""
    try:
        return loader.construct_yaml_timestamp(node)
    except (AttributeError, ValueError) as error:
        why = error if isinstance(error, ValueError) else "expected one such as 2024-03-31"
        raise yaml.MarkedYAMLError(
            problem=f"'{node.value}' is not a date: {why}", problem_mark=node.start_mark
        ) from error


def _construct_int(loader: _UniqueKeyLoader, node: yaml.ScalarNode) -> int:
    """Return a whole number that TensorFlow and Beam can hold."""
    number = loader.construct_yaml_int(node)
    if not -(2**63) <= number < 2**63:
        problem = f"{node.value} needs more than 64 bits; quote it if it is a string"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return int(number)


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:timestamp", _construct_date)
_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def load(file: str | Path, settings: Sequence[str] = ()) -> PipelineConfig:
    """Read and check a config.

    Args:
      file: the YAML file; relative paths in it start at its own folder.
      settings: `dotted.key=value` texts that override single keys, values in YAML's notation.

    Raises:
      ConfigError: naming the source (the file, or `--set`), the key, the rule and the value received.
    """
    path = Path(file)
    data = _read(path)
    for setting in settings:
        _override(data, setting)
    set_keys = tuple(setting.partition("=")[0].strip() for setting in settings)
    try:
        _resolve_paths(data, path.resolve().parent)
    except ConfigError as error:
        raise ConfigError(_add_sources(path, set_keys, str(error))) from error
    try:
        config = PipelineConfig.model_validate(data)
    except ValidationError as error:
        # The name of a threshold is derived from that of its class.
        problems = _select_problems(error.errors(include_url=False), data)
        lines = [*_find_wrong_metrics(data), *(_describe(problem, data) for problem in problems)]
        raise ConfigError("\n".join(f"{_find_source(path, set_keys, line)}{line}" for line in lines)) from error
    config._file, config._set_keys = path, set_keys
    return config


def _add_sources(path: Path, set_keys: Sequence[str], text: str) -> str:
    """Return an error with the source before each line that begins with a section of the config."""
    return "\n".join(
        f"{_find_source(path, set_keys, line)}{line}" if _KEY.match(line) and not line.startswith(f"{path}: ") else line
        for line in text.split("\n")
    )


def _find_source(path: Path, set_keys: Sequence[str], line: str) -> str:
    """Return the start of a message about a key: `--set` if that gave the key or its value, or the file."""
    match = _KEY.match(line)
    key = match[0].removesuffix(":") if match else ""
    is_set = any(
        key == set_key or key.startswith(f"{set_key}.") or line.startswith(_describe_unknown(set_key))
        for set_key in set_keys
    )
    return "--set " if is_set else f"{path}: "


def _describe_unknown(key: str) -> str:
    """Return the start of the message that the config has no such key."""
    section, _, name = key.rpartition(".")
    return f"{section}: unknown key '{name}'".removeprefix(": ")


def _find_wrong_metrics(data: dict[str, Any]) -> list[str]:
    """Return what is wrong with the classes of `evaluation.metrics`, for which TFMA is imported."""
    evaluation = data.get("evaluation")
    values = evaluation.get("metrics") if isinstance(evaluation, dict) else None
    try:
        metrics = TypeAdapter(tuple[EvaluatedMetric, ...]).validate_python(values or ())
        classes = [metric for metric in metrics if isinstance(metric, TfmaMetric)]
        if classes:
            with quiet_stderr():
                importlib.import_module("components.evaluator.tfma_metrics").build_metrics(classes)
    except ValidationError:
        # It is among the other problems.
        return []
    except ConfigError as error:
        return [str(error)]
    return []


def read_vertex_settings(file: Path) -> list[str]:
    """Return the sections `vertex` and `push.vertex` of a file that several configs share, as settings of `load`.

    Raises:
      ConfigError: the file has another section, or none of these.
    """
    data = _read(file)
    push = data.pop("push", {})
    sections = {"vertex": data.pop("vertex", None), "push.vertex": push.pop("vertex", None)}
    surplus = [*data, *(f"push.{name}" for name in push)]
    settings = [f"{name}={json.dumps(values)}" for name, values in sections.items() if values is not None]
    if surplus or not settings:
        others = ", ".join(surplus) or "neither"
        raise ConfigError(f"{file}: expected the sections vertex and push.vertex alone, found {others}")
    return settings


def read_name(file: str | Path, settings: Sequence[str] = ()) -> str | None:
    """Return the pipeline's name in a config that is wrong otherwise; None if it cannot be read."""
    try:
        data = _read(Path(file))
        for setting in settings:
            with suppress(ConfigError):
                _override(data, setting)
        return TypeAdapter(Name).validate_python(data.get("name"))
    except (ConfigError, ValidationError):
        return None


def _parse_yaml(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except RecursionError as error:
        raise yaml.YAMLError("is nested too deeply") from error
    except (AttributeError, TypeError, ValueError) as error:
        # PyYAML lets Python's errors through, as of `!!int abc` and of a list as a key.
        raise yaml.YAMLError(str(error)) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        data = _parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}; give the path of a config with --config"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        where = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{where}: is not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping with the sections of a config, found {type(data).__name__}")
    return data


def _override(data: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {setting}: expected key=value, such as training.epochs=3")
    try:
        value = _parse_yaml(text)
    except yaml.YAMLError as error:
        why = error.problem if isinstance(error, yaml.MarkedYAMLError) else " ".join(str(error).split())
        raise ConfigError(f"--set {setting}: the value is not valid YAML: {why}") from error
    *parents, last = key.strip().split(".")
    section: Any = data
    for parent in parents:
        section = section.setdefault(parent, {}) if isinstance(section, dict) else _get_item(section, parent, setting)
    if isinstance(section, dict):
        section[last] = value
    else:
        _get_item(section, last, setting)
        section[int(last)] = value


def _get_item(section: Any, index: str, setting: str) -> Any:
    """Return an item of a list in the config, such as the 0 in crosses.0.num_ids."""
    if not isinstance(section, list):
        raise ConfigError(f"--set {setting}: '{index}' lies below a plain value, not a section")
    if not index.isdecimal() or int(index) >= len(section):
        raise ConfigError(f"--set {setting}: '{index}' is not an index of that list; it has {len(section)} items")
    return section[int(index)]


def _resolve_paths(data: dict[str, Any], folder: Path) -> None:
    """Make the config's paths absolute and read its vocabularies, so that the result stands alone."""
    for section, key in _PATHS:
        values: Any = data
        for step in section.split("."):
            values = values.get(step) if isinstance(values, dict) else None
        if isinstance(values, dict) and isinstance(values.get(key), str) and "://" not in values[key]:
            values[key] = os.path.normpath(folder / Path(values[key]).expanduser())
    evaluation = data.get("evaluation")
    metrics: Any = evaluation.get("metrics") if isinstance(evaluation, dict) else None
    for number, metric in enumerate(metrics if isinstance(metrics, list) else ()):
        name = metric.get("class_name") if isinstance(metric, dict) else metric
        if isinstance(name, str) and ":" in name and is_file(name):
            path = os.path.normpath(folder / Path(name).expanduser())
            metrics[number] = {**metric, "class_name": path} if isinstance(metric, dict) else path
    for section, key in _CODE:
        values = data.get(section)
        if isinstance(values, dict) and isinstance(values.get(key), str) and is_file(values[key]):
            values[key] = os.path.normpath(folder / Path(values[key]).expanduser())
    features = data.get("features")
    for name, feature in features.items() if isinstance(features, dict) else ():
        if (
            isinstance(feature, dict)
            and feature.get("kind") == "vocabulary_file"
            and isinstance(feature.get("file"), str)
        ):
            feature["values"] = _load_vocabulary(folder / feature["file"], name)


def _load_vocabulary(path: Path, feature: str) -> list[str]:
    try:
        values = read_vocabulary(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"features.{feature}.file: {path} cannot be read: {reason}") from error
    if not values:
        raise ConfigError(f"features.{feature}.file: {path} is empty; expected one category a line")
    return values


def _find_members(problem: ErrorDetails, data: Any) -> Iterator[tuple[int, Any]]:
    """Yield the places in a problem's path where pydantic names a member of a union, and the value there.

    The user wrote no such key.
    """
    here, parts = data, problem["loc"]
    for number, part in enumerate(parts):
        if isinstance(here, dict):
            is_missing = problem["type"] == "missing" and number == len(parts) - 1
            if part not in here and not is_missing:
                yield number, here
                continue
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            yield number, here


def _select_problems(problems: Sequence[ErrorDetails], data: Any, depth: int = 0) -> Iterator[ErrorDetails]:
    """Yield the problems; where all members of a union reject a value, those of the member that is meant.

    That is the one whose keys fit best. A value that is of no member's type has one problem, with all types.
    """
    groups: dict[Any, list[tuple[ErrorDetails, Any]]] = {}
    for problem in problems:
        members = [*_find_members(problem, data)][depth:]
        place = problem["loc"][: members[0][0]] if members else (*problem["loc"], len(groups))
        groups.setdefault(place, []).append((problem, members[0] if members else None))
    for group in groups.values():
        if group[0][1] is None:
            yield group[0][0]
            continue
        number, value = group[0][1]
        by_member: dict[Any, list[ErrorDetails]] = {}
        for problem, _ in group:
            by_member.setdefault(problem["loc"][number], []).append(problem)
        inside = [own for own in by_member.values() if not _has_wrong_type(own[0], value)]
        if inside:
            yield from _select_problems(min(inside, key=_count_wrong_keys), data, depth + 1)
            continue
        rules = dict.fromkeys(_describe_type(own[0]) for own in by_member.values())
        first = next(iter(by_member.values()))[0]
        yield {**first, "msg": f"Input should be {' or '.join(rules)}"}


def _has_wrong_type(problem: ErrorDetails, value: Any) -> bool:
    """Return whether a problem is that the whole value has another type than a member."""
    return problem["input"] is value and problem["msg"].startswith(_SHOULD_BE)


def _count_wrong_keys(problems: Sequence[ErrorDetails]) -> int:
    """Return how little the keys of a mapping are those of a member; an unknown key counts more than a missing one."""
    return sum(2 * ("unknown key" in problem["msg"]) + (problem["type"] == "missing") for problem in problems)


_SHOULD_BE = "Input should be "


def _describe_type(problem: ErrorDetails) -> str:
    """Return the type of a member of a union."""
    rule = problem["msg"].removeprefix(_SHOULD_BE).partition(", unable to parse")[0]
    return "a mapping" if rule.startswith("a valid dictionary") else rule


def _describe(problem: ErrorDetails, data: Any) -> str:
    """Return one line: the key as the user wrote it, the rule, the value received."""
    members = {number for number, _ in _find_members(problem, data)}
    key = [str(part) for number, part in enumerate(problem["loc"]) if number not in members]
    rule = problem["msg"].removeprefix("Value error, ")
    where = f"{'.'.join(key)}: " if key else ""
    received = problem["input"]
    # Whatever stands in `metadata` may be a password in the wrong place.
    is_named = f"found {received!r}" in rule
    is_hidden = is_named or isinstance(received, dict) or problem["type"] == "missing" or key[:1] == ["metadata"]
    value_note = "" if is_hidden else f", found {received!r}"
    return f"{where}{rule[0].lower() + rule[1:]}{value_note}"
