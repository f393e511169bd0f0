"""The DAG: which components there are, and what flows between them.

ExampleGen -> StatisticsGen -> Schema -> ExampleValidator -> Gate -> Transform -> Trainer -> Evaluator -> Pusher
                                                            History -^                         Baseline -^

Before Trainer there may be Tuner, a search for hyper-parameters, and WarmStart, the model whose weights it starts from.
"""

from typing import Any

from google.protobuf import text_format
from tfx import v1 as tfx
from tfx.dsl.components.base import base_node

import components
import schemas
import serving
import trainer
from components import transform
from components.baseline import baseline_resolver
from components.config import EVAL_SPLIT, INFERRED_MIN_DOMAIN_MASS, TRAIN_SPLIT
from components.evaluation import eval_config
from components.evaluator import Evaluator
from components.example_gen import example_gen
from components.gate import AnomalyGate
from components.history import last_pushed
from components.pusher import NEXT_VERSION, RegistryPusher
from components.schema import CuratedSchema, InferredSchema
from pipeline.config import PipelineConfig
from pipeline.fingerprint import code_fingerprint
from schemas.curated import load_schema
from trainer.run import run_fn


def create_pipeline(
    config: PipelineConfig,
    *,
    pipeline_root: str,
    registry: str,
    run_id: str,
    metadata: Any,
    enable_cache: bool,
    beam_pipeline_args: list[str],
    transformed_splits: tuple[str, ...] = (TRAIN_SPLIT, EVAL_SPLIT),
) -> tfx.dsl.Pipeline:
    """The pipeline of a config.

    Args:
      config: what to build.
      pipeline_root: where artifacts go.
      registry: the folder that models are pushed to.
      run_id: names the run in what is pushed.
      metadata: ML Metadata's connection config.
      enable_cache: whether unchanged components are answered from earlier runs.
      beam_pipeline_args: for all components that run on Beam.
      transformed_splits: what Transform writes; Trainer reads no others.
    """
    nodes: list[base_node.BaseNode] = [*_data_nodes(config)]
    examples_node, schema, gate = nodes[0], nodes[2], nodes[5]
    examples = examples_node.outputs["examples"]
    transform_node = _transform(config, examples, schema.outputs["schema"], transformed_splits)
    transform_node.add_upstream_node(gate)
    training_nodes = _trainer(config, transform_node, schema.outputs["schema"], _trainer_settings(config))
    trainer_node = training_nodes[-1]
    baseline = baseline_resolver(trainer_node.outputs["model"])
    evaluator_node = Evaluator(
        examples=examples,
        model=trainer_node.outputs["model"],
        baseline_model=baseline.outputs["model"],
        split=config.evaluation.split,
        config=eval_config(config.evaluation, config.label.kind),
        code_fingerprint=code_fingerprint(components, serving),
    )
    pusher = RegistryPusher(
        model=trainer_node.outputs["model"],
        model_blessing=evaluator_node.outputs["blessing"],
        registry=registry,
        model_name=config.push.model_name,
        pipeline=config.name,
        run_id=run_id,
        version=NEXT_VERSION if config.push.version is None else config.push.version,
    ).with_id("Pusher")
    nodes += [transform_node, *training_nodes, baseline, evaluator_node, pusher]
    return tfx.dsl.Pipeline(
        pipeline_name=config.name,
        pipeline_root=pipeline_root,
        components=nodes,
        metadata_connection_config=metadata,
        enable_cache=enable_cache,
        beam_pipeline_args=beam_pipeline_args,
    )


def _data_nodes(config: PipelineConfig) -> tuple[base_node.BaseNode, ...]:
    """From files to validated examples: ExampleGen, StatisticsGen, Schema, ExampleValidator, History, Gate."""
    examples_node = example_gen(
        data=config.data, features=config.feature_set, code_fingerprint=code_fingerprint(components, schemas)
    )
    statistics_gen = tfx.components.StatisticsGen(examples=examples_node.outputs["examples"])
    statistics = statistics_gen.outputs["statistics"]
    if config.data.schema_file is None:
        schema = InferredSchema(
            statistics=statistics,
            optional=",".join(name for name, feature in config.features.items() if feature.missing is not None),
            min_domain_mass=INFERRED_MIN_DOMAIN_MASS,
        )
    else:
        schema = CuratedSchema(schema_text=text_format.MessageToString(load_schema(config.data.schema_file)))
    schema = schema.with_id("Schema")
    validator = tfx.components.ExampleValidator(statistics=statistics, schema=schema.outputs["schema"])
    history = last_pushed()
    gate = AnomalyGate(
        anomalies=validator.outputs["anomalies"],
        statistics=statistics,
        schema=schema.outputs["schema"],
        pushed_statistics=history.outputs["statistics"],
        policy=config.validation.model_dump_json(),
        compared_splits=",".join(config.data.independent_splits),
    ).with_id("Gate")
    return examples_node, statistics_gen, schema, validator, history, gate


def _transform(config: PipelineConfig, examples: Any, schema: Any, splits: tuple[str, ...]) -> tfx.components.Transform:
    return tfx.components.Transform(
        examples=examples,
        schema=schema,
        preprocessing_fn=_dotted(transform.preprocessing_fn),
        # Vocabularies, means and quantiles are learned from `train` alone; other splits are only encoded.
        splits_config=tfx.proto.SplitsConfig(analyze=[TRAIN_SPLIT], transform=list(splits)),
        disable_statistics=True,
        # The cache of analyses pays for rolling windows of large spans; here it costs a third of the time.
        disable_analyzer_cache=True,
        custom_config={
            transform.FEATURE_SET_KEY: config.feature_set.model_dump_json(),
            "code_fingerprint": code_fingerprint(components, schemas),
        },
    )


def _trainer_settings(config: PipelineConfig) -> dict[str, Any]:
    """What Trainer and Tuner are told."""
    return {
        "feature_set": config.feature_set.model_dump_json(),
        "model": config.model.model_dump_json(),
        "training": config.training.model_dump_json(),
        "seed": config.seed,
        "code_fingerprint": code_fingerprint(trainer, schemas, serving),
    }


def _trainer(
    config: PipelineConfig, transform_node: tfx.components.Transform, schema: Any, settings: dict[str, Any]
) -> list[base_node.BaseNode]:
    """Trainer, last, behind the nodes that it starts from: a search, a model."""
    examples, graph = transform_node.outputs["transformed_examples"], transform_node.outputs["transform_graph"]
    splits = {
        "train_args": tfx.proto.TrainArgs(splits=[TRAIN_SPLIT]),
        "eval_args": tfx.proto.EvalArgs(splits=[EVAL_SPLIT]),
    }
    nodes: list[base_node.BaseNode] = []
    found: dict[str, Any] = {}
    if config.training.search is not None:
        tuner = tfx.components.Tuner(
            tuner_fn="trainer.search.tuner_fn",
            examples=examples,
            transform_graph=graph,
            schema=schema,
            custom_config=settings,
            **splits,
        )
        nodes.append(tuner)
        found["hyperparameters"] = tuner.outputs["best_hyperparameters"]
    if config.training.warm_start:
        last = tfx.dsl.Resolver(
            strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
            model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
            model_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ModelBlessing),
        ).with_id("WarmStart")
        nodes.append(last)
        found["base_model"] = last.outputs["model"]
    trainer_node = tfx.components.Trainer(
        run_fn=_dotted(run_fn),
        examples=examples,
        transform_graph=graph,
        schema=schema,
        custom_config=settings,
        **splits,
        **found,
    )
    return [*nodes, trainer_node]


def _dotted(function: Any) -> str:
    """The dotted path of a function, which TFX imports; derived, so that a renamed function cannot be missed."""
    return f"{function.__module__}.{function.__qualname__}"
