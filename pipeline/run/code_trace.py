"""Traces the user's `preprocessing_fn` and builds their network, without data. Imports TensorFlow and TFX."""

import contextlib
import sys
import tempfile
from functools import partial
from typing import Any

import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform import annotators, graph_context, impl_helper
from tfx.utils import json_utils

from cli.errors import ConfigError, PipelineError
from components.schema_gen.component import add_shapes
from components.transform import own_preprocessing
from components.transform.analyzers import Preprocessing, run_in_tracer
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.config.user_code import has_own_run_fn, read_code
from pipeline.create_pipeline import build_transform_settings
from schemas.curated.derived_features import complete_schema
from schemas.curated.schema_file import SCHEMA_TYPES, load_schema
from schemas.features import TRANSFORMED_WEIGHT, FeatureSet, OwnColumn
from trainer.model import build_model
from trainer.own_model import build_own_outputs

# The data gives the number of ids of a column of the user's own; any will do for a network that is not fitted.
_ANY_NUMBER_OF_IDS = 2


def trace_code(config: PipelineConfig) -> None:
    """Trace the `preprocessing_fn` of `transform.module` and call the `build_model` of `model.module`.

    Raises:
      ConfigError: One of them raises, or returns what the pipeline cannot use.
    """
    try:
        # A function that prints must not spoil the output of a command.
        with contextlib.redirect_stdout(sys.stderr):
            _trace_code(config)
    except PipelineError as error:
        raise ConfigError(str(error)) from error


def _trace_code(config: PipelineConfig) -> None:
    codes = read_code(config)
    features = config.feature_set
    if "transform.module" in codes:
        outputs = run_in_tracer(_trace, config)
        if not has_own_run_fn(config):
            features = _add_own_columns(features, outputs)
    if "model.module" in codes and not has_own_run_fn(config):
        code, model = codes["model.module"], config.model
        build_model(features, model, build_outputs=partial(build_own_outputs, code, features, model))


def _trace(config: PipelineConfig) -> dict[str, Any]:
    """Return the outputs of the `preprocessing_fn`."""
    function = own_preprocessing.preprocessing_fn
    preprocessing = Preprocessing(
        f"{function.__module__}.{function.__name__}",
        json_utils.dumps(build_transform_settings(config)),
        _build_schema(config).SerializeToString(),
    )
    tracker = annotators.ObjectTracker()
    with tempfile.TemporaryDirectory() as folder, annotators.object_tracker_scope(tracker):
        context = graph_context.TFGraphContext(tf.Module(), folder, {})
        traced = impl_helper.get_traced_transform_fn(preprocessing, preprocessing.type_specs, context)
        outputs: dict[str, Any] = traced.get_concrete_function().structured_outputs
    return outputs


def _build_schema(config: PipelineConfig) -> schema_pb2.Schema:
    """Return the curated schema; or the types and shapes that are inferred of the columns, whatever their values."""
    if config.data.schema_file is not None:
        return complete_schema(load_schema(config.data.schema_file), config.feature_set)
    schema = schema_pb2.Schema()
    for name, kind in config.feature_set.column_types.items():
        feature = schema.feature.add(name=name, type=SCHEMA_TYPES[kind])
        is_optional = name in config.features and config.features[name].missing is not None
        feature.presence.min_fraction = 0.0 if is_optional else 1.0
    add_shapes(schema)
    return schema


def _add_own_columns(features: FeatureSet, outputs: dict[str, Any]) -> FeatureSet:
    declared = {column.name for column in features.id_columns} | {column.name for column in features.number_columns}
    declared |= {features.label.name, TRANSFORMED_WEIGHT}
    own = [
        OwnColumn(name=name, width=spec.shape[1] or 1 if spec.shape.rank == 2 else 1)
        if spec.dtype == tf.float32
        else OwnColumn(name=name, num_ids=_ANY_NUMBER_OF_IDS)
        for name, spec in sorted(outputs.items())
        if name not in declared
    ]
    return features.model_copy(update={"own_columns": tuple(own)})
