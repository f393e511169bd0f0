"""The stock TFX pipeline, against which ours is timed: TFX's taxi template, every step switched on."""

from pathlib import Path
from typing import Any

import tensorflow_model_analysis as tfma
from ml_metadata.proto import metadata_store_pb2
from tfx import v1 as tfx

# Beam's own defaults, spelt out: the templates pass nothing. On two cores and 50,000 rows, starting worker processes
# (the examples' multi_processing) costs more than it gains.
BEAM_ARGS = ["--direct_running_mode=in_memory", "--direct_num_workers=1"]
# About as many rows as the split that our pipeline watches after each epoch: a tenth of the training rows.
VALIDATION_SHARE = 0.1
SPLITS = {"train": "train", "eval": "test"}
SLICES = ("sex", "race", "education")
OTHER_METRICS = ["AUCPrecisionRecall", "BinaryCrossentropy", "BinaryAccuracy", "Precision", "Recall"]
OTHER_METRICS += ["Calibration", "ExampleCount"]


def eval_config() -> tfma.EvalConfig:
    """Return what TFMA measures, and the overall AUC that a model must have to be blessed."""
    auc = tfma.MetricThreshold(
        value_threshold=tfma.GenericValueThreshold(lower_bound={"value": 0.8}),
        change_threshold=tfma.GenericChangeThreshold(
            direction=tfma.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -0.003}
        ),
    )
    # A plain `threshold` would judge every slice: the 181 test rows with a doctorate (AUC 0.78) would block each model.
    overall = {"slicing_specs": [tfma.SlicingSpec()], "threshold": auc}
    metrics = [tfma.MetricConfig(class_name="AUC", per_slice_thresholds=[overall])]
    metrics += [tfma.MetricConfig(class_name=name) for name in OTHER_METRICS]
    model = tfma.ModelSpec(
        signature_name="serving_default",
        label_key="income_xf",
        preprocessing_function_names=["transform_features"],
    )
    return tfma.EvalConfig(
        model_specs=[model],
        slicing_specs=[tfma.SlicingSpec(), *(tfma.SlicingSpec(feature_keys=[key]) for key in SLICES)],
        metrics_specs=[tfma.MetricsSpec(metrics=metrics)],
    )


def create_stock_pipeline(
    *, data_folder: str, work_folder: str, rows: int, epochs: int, batch_size: int, seed: int = 0
) -> tfx.dsl.Pipeline:
    """Return the pipeline.

    Args:
      data_folder: holds train/*.csv and test/*.csv.
      work_folder: gets the artifacts, metadata.db and the pushed model.
      rows: rows of train.
      epochs: passes over the training rows.
      batch_size: rows a training step.
      seed: seed of weights, dropout and shuffling.
    """
    work = Path(work_folder).absolute()
    return tfx.dsl.Pipeline(
        pipeline_name="stock",
        pipeline_root=str(work / "root"),
        components=_components(data_folder, work, rows, {"epochs": epochs, "batch_size": batch_size, "seed": seed}),
        enable_cache=False,
        metadata_connection_config=_database(work),
        beam_pipeline_args=BEAM_ARGS,
    )


def _database(work: Path) -> metadata_store_pb2.ConnectionConfig:
    return tfx.orchestration.metadata.sqlite_metadata_connection_config(str(work / "metadata.db"))


def _components(data_folder: str, work: Path, rows: int, training: dict[str, int]) -> list[Any]:
    splits = [tfx.proto.Input.Split(name=name, pattern=f"{folder}/*.csv") for name, folder in SPLITS.items()]
    example_gen = tfx.components.CsvExampleGen(data_folder, input_config=tfx.proto.Input(splits=splits))
    examples = example_gen.outputs["examples"]
    statistics_gen = tfx.components.StatisticsGen(examples=examples)
    statistics = statistics_gen.outputs["statistics"]
    schema_gen = tfx.components.SchemaGen(statistics=statistics)
    schema = schema_gen.outputs["schema"]
    example_validator = tfx.components.ExampleValidator(statistics=statistics, schema=schema)
    transform = tfx.components.Transform(
        examples=examples, schema=schema, preprocessing_fn="benchmarks.stock.user_code.preprocessing_fn"
    )
    steps = rows * training["epochs"] // training["batch_size"]
    validation_steps = max(1, round(rows * VALIDATION_SHARE / training["batch_size"]))
    trainer = tfx.components.Trainer(
        run_fn="benchmarks.stock.user_code.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema,
        train_args=tfx.proto.TrainArgs(num_steps=steps),
        eval_args=tfx.proto.EvalArgs(num_steps=validation_steps),
        custom_config=training,
    )
    model = trainer.outputs["model"]
    resolver = tfx.dsl.Resolver(
        strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
        model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ModelBlessing),
    ).with_id("latest_blessed_model_resolver")
    evaluator = tfx.components.Evaluator(
        examples=examples, model=model, baseline_model=resolver.outputs["model"], eval_config=eval_config()
    )
    folder = tfx.proto.PushDestination.Filesystem(base_directory=str(work / "serving"))
    pusher = tfx.components.Pusher(
        model=model,
        model_blessing=evaluator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(filesystem=folder),
    )
    data = [example_gen, statistics_gen, schema_gen, example_validator, transform]
    return [*data, trainer, resolver, evaluator, pusher]
