"""The DAG: its components, and the artifacts that flow between them.

ExampleGen -> StatisticsGen -> SchemaGen -> ExampleValidator -> Gate -> Transform -> Trainer -> Evaluator ->
                                                            History -^                         Baseline -^
  InfraValidator -> Pusher

On Vertex Pipelines the DAG is the same. History reads the serving version there. In a rerun Baseline may be the
candidate itself, since Vertex runs no resolvers but its own.
Before ExampleGen there may be SourceExampleGen, any other ExampleGen whose records it checks.
Before Trainer there may be Tuner, a search for hyper-parameters, and WarmStart, the model whose weights it starts from.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from google.protobuf import text_format
from tfx.components import Trainer, Tuner
from tfx.components import Transform as StockTransform
from tfx.dsl.components.base import base_beam_component, base_node
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import trainer_pb2, transform_pb2

import components
import schemas
import serving
import trainer
from cli.errors import ConfigError
from components.config import INFERRED_MIN_DOMAIN_MASS
from components.evaluator.baseline import build_baseline_resolver, build_blessed_resolver
from components.evaluator.component import Evaluator
from components.evaluator.own_model import OwnModelEvaluator
from components.example_gen.component import build_example_gen
from components.example_gen.source import build_source
from components.example_validator.component import ExampleValidator
from components.gate.component import AnomalyGate
from components.history.local import build_history_resolver
from components.infra_validator.component import InfraValidator
from components.infra_validator.replay import ReplayContext
from components.pusher.component import NEXT_VERSION, Pusher
from components.schema_gen.component import CuratedSchema, InferredSchema
from components.statistics_gen.component import StatisticsGen
from components.transform import own_preprocessing, preprocessing
from components.transform.component import Transform
from pipeline.config.beam_args import build_beam_args
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.config.user_code import has_own_run_fn, read_code
from pipeline.extra_components import build_extra_components
from pipeline.run.fingerprint import hash_code
from schemas.curated.derived_features import complete_schema
from schemas.curated.schema_file import load_schema
from schemas.data import EVAL_SPLIT, TRAIN_SPLIT
from serving.beam.option_names import check_beam_args
from serving.registry.settings import AnyRegistrySettings
from trainer import own_run
from trainer.run import run_fn

# The nodes of a DAG by their names, in the order in which they run.
Nodes = dict[str, base_node.BaseNode]
_RECIPE_SECTIONS = {"seed", "features", "crosses", "label", "decision", "transform", "model", "training"}


def create_pipeline(
    config: PipelineConfig,
    *,
    pipeline_root: str,
    registry: AnyRegistrySettings,
    run_id: str,
    enable_cache: bool = True,
    on_vertex: bool = False,
    transformed_splits: tuple[str, ...] = (TRAIN_SPLIT, EVAL_SPLIT),
) -> Pipeline:
    """Return the pipeline of a config.

    Args:
      config: Config of the pipeline.
      pipeline_root: Folder of the artifacts.
      registry: Settings of the registry that models are pushed to.
      run_id: ID of the run, which is kept with each pushed version.
      enable_cache: Whether unchanged components are reused from earlier runs.
      on_vertex: Whether it is compiled for Vertex Pipelines.
      transformed_splits: Splits that Transform writes; Trainer reads no others.
    """
    nodes = _map_by_name(*_build_data_nodes(config, on_vertex=on_vertex))
    transform = _build_transform(config, nodes, transformed_splits)
    transform.add_upstream_node(nodes["Gate"])
    nodes |= _map_by_name(transform)
    nodes |= _map_by_name(*_build_training_nodes(config, nodes, on_vertex=on_vertex))
    baseline = (
        build_blessed_resolver("Baseline") if on_vertex else build_baseline_resolver(nodes["Trainer"].outputs["model"])
    )
    nodes |= _map_by_name(baseline)
    nodes |= _map_by_name(_build_evaluator(config, nodes))
    nodes |= _map_by_name(_build_infra_validator(config, nodes, registry=registry, run_id=run_id, on_vertex=on_vertex))
    nodes |= _map_by_name(_build_pusher(config, nodes, registry=registry, run_id=run_id))
    nodes |= build_extra_components(config, nodes)
    arguments = build_beam_args(config)
    check_beam_args(arguments)
    for name in config.beam.components.keys() & nodes.keys():
        own_arguments = build_beam_args(config, name)
        check_beam_args(own_arguments)
        node = nodes[name]
        if not isinstance(node, base_beam_component.BaseBeamComponent):
            raise ConfigError(f"beam.components.{name}: {type(node).__name__} does not run on Beam; remove the entry")
        node.with_beam_pipeline_args(own_arguments)
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=pipeline_root,
        components=list(nodes.values()),
        enable_cache=enable_cache,
        beam_pipeline_args=arguments,
    )


def _map_by_name(*nodes: base_node.BaseNode) -> Nodes:
    return {node.id: node for node in nodes}


def _build_evaluator(config: PipelineConfig, nodes: Nodes) -> base_node.BaseNode:
    if has_own_run_fn(config):
        return OwnModelEvaluator(
            examples=nodes["ExampleGen"].outputs["examples"],
            model=nodes["Trainer"].outputs["model"],
            baseline_model=nodes["Baseline"].outputs["model"],
            schema=nodes["SchemaGen"].outputs["schema"],
            evaluation=config.evaluation,
            label=config.label.column,
            features=config.feature_set,
            transform_graph=nodes["Transform"].outputs["transform_graph"],
            golden_requests=config.infra_validation.golden_requests,
            golden_tolerance=config.infra_validation.golden_tolerance,
            seed=config.seed,
            pipeline=config.name,
            code_fingerprint=hash_code(components, serving),
        ).with_id("Evaluator")
    return Evaluator(
        examples=nodes["ExampleGen"].outputs["examples"],
        model=nodes["Trainer"].outputs["model"],
        baseline_model=nodes["Baseline"].outputs["model"],
        evaluation=config.evaluation,
        label=config.label.kind,
        has_costs=config.decision is not None,
        weight=config.data.weight_column,
        imbalance=config.training.imbalance,
        implementation=config.get_implementation("Evaluator"),
        hyperparameters=nodes["Tuner"].outputs["best_hyperparameters"] if "Tuner" in nodes else None,
        transform_graph=nodes["Transform"].outputs["transform_graph"],
        transformed_examples=nodes["Transform"].outputs["transformed_examples"],
        golden_requests=config.infra_validation.golden_requests,
        golden_tolerance=config.infra_validation.golden_tolerance,
        seed=config.seed,
        pipeline=config.name,
        code_fingerprint=hash_code(components, serving),
    )


def _build_infra_validator(
    config: PipelineConfig, nodes: Nodes, *, registry: AnyRegistrySettings, run_id: str, on_vertex: bool
) -> base_node.BaseNode:
    replay = config.infra_validation.replay
    if replay is not None and on_vertex and "://" not in replay.log:
        raise ConfigError(
            f"infra_validation.replay.log: {replay.log} is a folder of this machine; on Vertex AI expected a gs:// "
            "folder with a copy of its shards"
        )
    return InfraValidator(
        model=nodes["Trainer"].outputs["model"],
        serving_spec=None,
        model_blessing=nodes["Evaluator"].outputs["blessing"],
        evaluation=nodes["Evaluator"].outputs["evaluation"],
        settings=config.infra_validation,
        replay_context=None if replay is None else ReplayContext.build(config.evaluation, registry, run_id),
        code_fingerprint=hash_code(components, serving),
    )


def _build_pusher(
    config: PipelineConfig, nodes: Nodes, *, registry: AnyRegistrySettings, run_id: str
) -> base_node.BaseNode:
    return Pusher(
        model=nodes["Trainer"].outputs["model"],
        model_blessing=nodes["Evaluator"].outputs["blessing"],
        infra_blessing=nodes["InfraValidator"].outputs["blessing"],
        examples=nodes["ExampleGen"].outputs["examples"],
        statistics=nodes["StatisticsGen"].outputs["statistics"],
        evaluation=nodes["Evaluator"].outputs["evaluation"],
        registry=registry.model_dump_json(),
        pipeline=config.name,
        run_id=run_id,
        version=NEXT_VERSION if config.push.version is None else config.push.version,
        recipe=_hash_recipe(config),
    ).with_id("Pusher")


def _hash_recipe(config: PipelineConfig) -> str:
    """Return a hash of what makes a model beside the rows: the code and the config that it is trained by.

    The names of files are not in it: a rollback is not undone because a file was written again or moved.
    """
    settings = config.model_dump(mode="json", include=_RECIPE_SECTIONS)
    settings["data"] = config.data.model_dump(mode="json", exclude={"base", "splits", "schema_file", "example_gen"})
    code = hash_code(components, schemas, serving, trainer)
    return hashlib.sha256(f"{json.dumps(settings, sort_keys=True)}\0{code}".encode()).hexdigest()[:16]


def _build_data_nodes(config: PipelineConfig, *, on_vertex: bool) -> tuple[base_node.BaseNode, ...]:
    """Return the nodes from the files to validated examples."""
    sources = [] if config.data.example_gen is None else [build_source(config.data.example_gen)]
    examples_node = build_example_gen(
        data=config.data,
        features=config.feature_set,
        code_fingerprint=hash_code(components, schemas),
        files_are_here=not on_vertex,
        source=sources[0].outputs["examples"] if sources else None,
    )
    statistics_gen = StatisticsGen(
        examples=examples_node.outputs["examples"],
        column_types=config.feature_set.column_types,
        weight=config.data.weight_column,
        implementation=config.get_implementation("StatisticsGen"),
        sensitive_columns=config.sensitive_columns,
        delimiters=config.feature_set.list_delimiters,
        derived_columns=config.feature_set.derived_columns,
        code_fingerprint=hash_code(components, schemas),
    )
    statistics = statistics_gen.outputs["statistics"]
    if config.data.schema_file is None:
        declared: dict[str, Any] = {
            "types": config.feature_set.validated_types,
            "optional": [name for name, feature in config.features.items() if feature.missing is not None],
        }
        if config.transform.module is not None:
            # TFX's modules expect what SchemaGen infers: dense columns.
            declared["dense"] = True
        schema = InferredSchema(
            statistics=statistics,
            columns=json.dumps(declared, sort_keys=True),
            min_domain_mass=INFERRED_MIN_DOMAIN_MASS,
        )
    else:
        curated = complete_schema(load_schema(config.data.schema_file), config.feature_set)
        schema = CuratedSchema(schema_text=text_format.MessageToString(curated))
    schema = schema.with_id("SchemaGen")
    validator = ExampleValidator(
        statistics=statistics,
        schema=schema.outputs["schema"],
        code_fingerprint=hash_code(components, schemas),
    )
    history = _build_history(config) if on_vertex else build_history_resolver(config.push.model_name)
    gate = AnomalyGate(
        examples=examples_node.outputs["examples"],
        anomalies=validator.outputs["anomalies"],
        statistics=statistics,
        schema=schema.outputs["schema"],
        pushed_statistics=history.outputs["statistics"],
        policy=config.gate_policy.model_dump_json(),
        compared_splits=",".join(config.data.independent_splits),
        requirements=config.evaluation.without_paths().model_dump_json(),
        features=config.feature_set.model_dump_json(),
    ).with_id("Gate")
    return *sources, examples_node, statistics_gen, schema, validator, history, gate


def _build_history(config: PipelineConfig) -> base_node.BaseNode:
    from components.history.vertex import PublishedStatistics

    place = config.place.model_dump_json()
    return PublishedStatistics(place=place, model_name=config.push.model_name).with_id("History")


def build_transform_settings(config: PipelineConfig) -> dict[str, Any]:
    """Return the custom_config of Transform, which `preprocessing_fn` gets."""
    code = read_code(config).get("transform.module")
    settings = {
        **config.transform.custom_config,
        preprocessing.FEATURE_SET_KEY: config.feature_set.to_model_json(),
        "code_fingerprint": hash_code(components, schemas),
    }
    if code is not None:
        settings |= {
            own_preprocessing.CODE_KEY: code.to_json(),
            own_preprocessing.IS_NETWORK_OURS_KEY: not has_own_run_fn(config),
        }
    return settings


def _build_transform(config: PipelineConfig, nodes: Nodes, splits: tuple[str, ...]) -> StockTransform:
    module = preprocessing if config.transform.module is None else own_preprocessing
    component = Transform if config.get_implementation("Transform") == "fast" else StockTransform
    return component(
        examples=nodes["ExampleGen"].outputs["examples"],
        schema=nodes["SchemaGen"].outputs["schema"],
        preprocessing_fn=_get_dotted_path(module.preprocessing_fn),
        # Vocabularies, means and quantiles are learned from `train` alone; other splits are only encoded.
        splits_config=transform_pb2.SplitsConfig(analyze=[TRAIN_SPLIT], transform=list(splits)),
        disable_statistics=True,
        # The cache of analyses pays for rolling windows of large spans; here it costs a third of the time.
        disable_analyzer_cache=True,
        custom_config=build_transform_settings(config),
    )


def _build_trainer_settings(config: PipelineConfig) -> dict[str, Any]:
    """Return the settings of Trainer and Tuner."""
    code = read_code(config).get("model.module")
    own = {} if code is None else {own_run.CODE_KEY: code.to_json()}
    return {
        **config.model.custom_config,
        **own,
        "feature_set": config.feature_set.to_model_json(),
        # The code is a parameter of its own; the path of its file means nothing elsewhere.
        "model": config.model.model_copy(update={"module": None}).model_dump_json(),
        "training": config.training.model_dump_json(),
        "seed": config.seed,
        "read_options": config.data.build_read_options(config.label.column, *config.label.inputs).model_dump_json(),
        "code_fingerprint": hash_code(trainer, schemas, serving),
    }


def _build_training_nodes(config: PipelineConfig, nodes: Nodes, *, on_vertex: bool) -> Iterator[base_node.BaseNode]:
    """Yield Trainer, after the nodes that it starts from: a search, a model."""
    settings = _build_trainer_settings(config)
    inputs = {
        "examples": nodes["Transform"].outputs["transformed_examples"],
        "transform_graph": nodes["Transform"].outputs["transform_graph"],
        "schema": nodes["SchemaGen"].outputs["schema"],
        "train_args": trainer_pb2.TrainArgs(splits=[TRAIN_SPLIT], num_steps=config.training.train_steps),
        "eval_args": trainer_pb2.EvalArgs(splits=[EVAL_SPLIT], num_steps=config.training.eval_steps),
    }
    start: dict[str, Any] = {}
    if config.training.search is not None:
        tuner = Tuner(tuner_fn="trainer.search.tuner_fn", custom_config=settings, **inputs)
        yield tuner
        start["hyperparameters"] = tuner.outputs["best_hyperparameters"]
    if config.training.warm_start:
        warm_start = build_blessed_resolver("WarmStart")
        yield warm_start
        start["base_model"] = warm_start.outputs["model"]
    trainer_class = Trainer
    machine = config.vertex.machines.get("Trainer") if on_vertex and config.vertex is not None else None
    if machine is not None and machine.replicas > 1:
        from components.trainer import custom_job

        assert config.vertex is not None
        settings = {
            **settings,
            custom_job.SETTINGS_KEY: custom_job.build_settings(
                place=config.place,
                image=config.vertex.image,
                service_account=config.vertex.service_account,
                network=config.vertex.network,
                **machine.model_dump(),
            ),
        }
        trainer_class = custom_job.Trainer
    if config.decision is not None:
        # A search does not depend on the costs.
        settings = {**settings, "decision": config.decision.model_dump_json()}
    train = own_run.run_fn if has_own_run_fn(config) else run_fn
    yield trainer_class(run_fn=_get_dotted_path(train), custom_config=settings, **inputs, **start)


def _get_dotted_path(function: Any) -> str:
    """Return the dotted path of a function, which TFX imports; derived, so that a renamed function cannot be missed."""
    return f"{function.__module__}.{function.__qualname__}"
