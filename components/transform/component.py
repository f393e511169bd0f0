"""TFX's Transform with an executor that works in large batches; its artifacts are those of the stock one.

TFT still traces the `preprocessing_fn`, does the arithmetic of its analyzers and writes the graph. Files are
read, parsed, analyzed and encoded thousands of rows at a time, each by one Beam element, in one Beam job. The graph is
written once, when all is learned.

The component takes the arguments of stock Transform, and hands to the stock executor what this one does not support.
These are statistics, the cache of analyses, and several or other examples than tf.Example. It does so,
too, for analyzers and outputs that components/transform/analyzers.py does not support.
"""

import contextlib
import functools
import importlib
import json
import os
import sys
import tempfile
import uuid
from typing import Any

import apache_beam as beam
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format
from tensorflow.python.eager import wrap_function
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform import analyzer_nodes, annotators, graph_context, impl_helper, schema_inference
from tensorflow_transform.saved import saved_transform_io_v2
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io
from tfx import components, types
from tfx.components.transform import executor, executor_utils
from tfx.components.util import udf_utils
from tfx.dsl.components.base import executor_spec
from tfx.proto import transform_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils

from cli.errors import DataError
from components.artifact_files import list_files
from components.example_records import GzipFile, deflate, frame_records, serialize_columns
from components.stock_executor import explain_unreadable, log_handover
from components.transform.analyzers import (
    Learned,
    Preprocessing,
    load_analysis,
    map_batches,
    merge_learned,
    run_in_tracer,
)
from schemas.user_code import PREPROCESSING_FN
from serving.model.literal_paths import make_literal_path
from serving.model.served_model import TransformGraph


class BatchedTransformExecutor(executor.Executor):
    """Learns from the splits to analyze, writes the graph, and encodes the splits to transform.

    What it does not support, it hands to the stock executor.
    """

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write `transform_graph` and `transformed_examples`.

        Raises:
          DataError: a split has no files.
        """
        reason = _explain_stock(input_dict, output_dict, exec_properties)
        schema = _read_schema(input_dict)
        module, packages = udf_utils.decode_user_module_key(
            exec_properties.get(standard_component_specs.MODULE_PATH_KEY)
        )
        packages = [io_utils.ensure_local(package) for package in packages]
        preprocessing = _find_preprocessing(module, exec_properties, schema)
        try:
            # Of the wheel that the constructor has made of a module file.
            with udf_utils.TempPipInstallContext([] if reason else packages):
                if packages:
                    # A wheel of another content may have had the same module.
                    sys.modules.pop(module, None)
                    importlib.invalidate_caches()
                if not reason:
                    reason = _explain_unparsed(schema) or _explain_untraced(preprocessing)
                if not reason:
                    self._log_startup(input_dict, output_dict, exec_properties)
                    self._beam_pipeline_args += [f"--extra_package={package}" for package in packages]
                    splits = executor_utils.ResolveSplitsConfig(
                        exec_properties.get(standard_component_specs.SPLITS_CONFIG_KEY), input_dict["examples"]
                    )
                    self._transform(preprocessing, schema, splits, input_dict, output_dict)
                    return
            log_handover("Transform", reason)
            super().Do(input_dict, output_dict, exec_properties)
        finally:
            # In this process, if it was the worker too.
            load_analysis.cache_clear()
            _load_graph.cache_clear()

    def _transform(
        self,
        preprocessing: Preprocessing,
        schema: schema_pb2.Schema,
        splits: transform_pb2.SplitsConfig,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
    ) -> None:
        graph_uri = artifact_utils.get_single_uri(output_dict["transform_graph"])
        metadata_io.write_metadata(
            dataset_metadata.DatasetMetadata(schema),
            os.path.join(graph_uri, tft.TFTransformOutput.RAW_METADATA_DIR),
        )
        analyzed = [file for split in splits.analyze for file in _list_split_files(input_dict["examples"], split)]
        # Empty unless they are materialized.
        outputs = output_dict.get(standard_component_specs.TRANSFORMED_EXAMPLES_KEY) or []
        executor_utils.SetSplitNames(splits.transform, outputs)
        transformed = [
            (file, os.path.join(output.uri, f"Split-{split}", f"transformed_examples-{part}.gz"))
            for output in outputs
            for split in splits.transform
            for files in [_list_split_files(input_dict["examples"], split)]
            for file, part in ((file, f"{index:05d}-of-{len(files):05d}") for index, file in enumerate(files))
        ]
        for path in {os.path.dirname(path) for _, path in transformed}:
            tf.io.gfile.makedirs(path)
        with self._make_beam_pipeline() as pipeline:
            _transform(pipeline, preprocessing, analyzed, transformed, graph_uri)


class Transform(components.Transform):
    """TFX's Transform; fast with `disable_statistics=True` and `disable_analyzer_cache=True`."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(BatchedTransformExecutor)


def _find_preprocessing(
    module: str | None, exec_properties: dict[str, Any], schema: schema_pb2.Schema
) -> Preprocessing:
    """Return the function of a module, of a module file, or of a dotted path, as stock Transform finds it.

    Raises:
      ValueError: there are a module and a dotted path.
    """
    name = exec_properties.get(standard_component_specs.PREPROCESSING_FN_KEY) or ""
    file = "" if module else exec_properties.get(standard_component_specs.MODULE_FILE_KEY) or ""
    # The constructor of stock Transform rejects both, and so does its executor.
    if name and (module or file):
        raise ValueError(
            f"Transform: module '{module or file}' and preprocessing_fn '{name}' exclude each other; give one of them"
        )
    if module:
        name = f"{module}.{PREPROCESSING_FN}"
    return Preprocessing(
        name or PREPROCESSING_FN,
        exec_properties.get(standard_component_specs.CUSTOM_CONFIG_KEY) or "null",
        schema.SerializeToString(),
        file,
    )


def _explain_stock(
    input_dict: dict[str, list[types.Artifact]],
    output_dict: dict[str, list[types.Artifact]],
    exec_properties: dict[str, Any],
) -> str:
    """Return why the stock executor has to do the work; empty if no argument requires it."""
    keys = standard_component_specs
    if not any(
        exec_properties.get(key) for key in (keys.PREPROCESSING_FN_KEY, keys.MODULE_FILE_KEY, keys.MODULE_PATH_KEY)
    ):
        return "there is no preprocessing_fn"
    if not exec_properties.get(keys.DISABLE_STATISTICS_KEY):
        return "disable_statistics is false"
    if keys.UPDATED_ANALYZER_CACHE_KEY in output_dict or input_dict.get(keys.ANALYZER_CACHE_KEY):
        return "disable_analyzer_cache is false"
    if exec_properties.get(keys.FORCE_TF_COMPAT_V1_KEY):
        return "force_tf_compat_v1 is true"
    if len(input_dict["examples"]) > 1 or len(output_dict.get(keys.TRANSFORMED_EXAMPLES_KEY, ())) > 1:
        return "there are several Examples artifacts"
    return explain_unreadable(input_dict["examples"])


def _read_schema(input_dict: dict[str, list[types.Artifact]]) -> schema_pb2.Schema:
    file = io_utils.get_only_uri_in_dir(artifact_utils.get_single_uri(input_dict["schema"]))
    return text_format.Parse(io_utils.read_string_file(file), schema_pb2.Schema())


def _explain_unparsed(schema: schema_pb2.Schema) -> str:
    """Return why the fast executor does not parse the examples; empty if it does."""
    if schema.sparse_feature or schema.tensor_representation_group:
        return "the schema has sparse features or tensor representations"
    return ""


def _explain_untraced(preprocessing: Preprocessing) -> str:
    """Return what of a `preprocessing_fn` the fast executor does not support; empty if it supports all."""
    try:
        run_in_tracer(load_analysis, preprocessing)
    except NotImplementedError as error:
        return str(error)
    return ""


def _list_split_files(examples: list[types.Artifact], split: str) -> list[str]:
    uris = artifact_utils.get_split_uris(examples, split)
    files = [file for uri in uris for file in list_files(uri)]
    if not files:
        raise DataError(f"Transform: split '{split}' has no files in {', '.join(uris)}; run ExampleGen again")
    return files


def _transform(
    pipeline: beam.Pipeline,
    preprocessing: Preprocessing,
    analyzed: list[str],
    transformed: list[tuple[str, str]],
    graph_uri: str,
) -> None:
    """Add the whole transformation to a Beam pipeline."""
    graph = (
        pipeline
        | "AnalyzedFiles" >> beam.Create(analyzed)
        | "SpreadAnalysis" >> beam.Reshuffle()
        | "Analyze" >> beam.Map(_learn, preprocessing)
        | "Merge" >> beam.CombineGlobally(merge_learned).without_defaults()
        | "WriteGraph" >> beam.Map(_write_graph, preprocessing, graph_uri)
    )
    _ = (
        pipeline
        | "TransformedFiles" >> beam.Create(transformed)
        | "SpreadEncoding" >> beam.Reshuffle()
        | "Encode" >> beam.ParDo(_Encode(), graph_uri=beam.pvalue.AsSingleton(graph))
    )


def _learn(file: str, preprocessing: Preprocessing) -> Learned:
    return run_in_tracer(load_analysis, preprocessing).learn(file)


def _write_graph(learned: Learned, preprocessing: Preprocessing, graph_uri: str) -> str:
    """Write what `tft.TFTransformOutput` reads, whole or not at all; return where."""
    temporary = os.path.join(graph_uri, f"temporary-{uuid.uuid4().hex}")
    run_in_tracer(_trace_and_write, learned, preprocessing, temporary)
    for name in tf.io.gfile.listdir(temporary):
        final = os.path.join(graph_uri, name.rstrip("/"))
        if tf.io.gfile.exists(final):
            tf.io.gfile.rmtree(final)
        tf.io.gfile.rename(os.path.join(temporary, name.rstrip("/")), final)
    tf.io.gfile.rmtree(temporary)
    return graph_uri


def _trace_and_write(learned: Learned, preprocessing: Preprocessing, folder: str) -> None:
    """Trace a `preprocessing_fn` with what was learned in the place of its analyzers, and write that."""
    analysis = load_analysis(preprocessing)
    with tempfile.TemporaryDirectory() as vocabularies:
        context = graph_context.TFGraphContext(tf.Module(), vocabularies, analysis.build_outputs(learned, vocabularies))
        function = impl_helper.get_traced_transform_fn(preprocessing, preprocessing.type_specs, context)
        written = saved_transform_io_v2.write_v2_saved_model(
            context.module_to_export,
            function,
            "transform_fn",
            os.path.join(folder, tft.TFTransformOutput.TRANSFORM_FN_DIR),
        )
        unknown = written.graph.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS)
        if unknown:
            raise RuntimeError(f"{unknown[0].tensor.name}: the preprocessing_fn was traced twice and was not the same")
        schema = schema_inference.infer_feature_schema_v2(written.structured_outputs, lambda: _annotate(written), True)
    metadata_folder = os.path.join(folder, tft.TFTransformOutput.TRANSFORMED_METADATA_DIR)
    metadata_io.write_metadata(dataset_metadata.DatasetMetadata(schema), metadata_folder)
    assets = annotators.get_asset_annotations(written.graph)
    if assets:
        with tf.io.gfile.GFile(os.path.join(metadata_folder, tft.TFTransformOutput.ASSET_MAP), "w") as file:
            file.write(json.dumps(assets))


def _annotate(written: Any) -> dict[str, Any]:
    """Return the column annotations of a `preprocessing_fn`, from the existing graph: TFT traces it once more
    for that.
    """
    graph = written.graph
    # What is returned is a copy of the tensor that was described.
    names = {output.op.inputs[0].name: name for name, output in written.structured_outputs.items()}
    with graph.as_default():
        ranges = schema_inference._get_schema_overrides(
            graph,
            names,
            schema_inference._TF_METADATA_TENSOR_COLLECTION,
            [
                schema_inference._TF_METADATA_TENSOR_MIN_COLLECTION,
                schema_inference._TF_METADATA_TENSOR_MAX_COLLECTION,
            ],
        )
        annotations = schema_inference._get_schema_overrides(
            graph,
            names,
            schema_inference._TF_METADATA_EXTRA_ANNOTATION,
            [
                schema_inference._TF_METADATA_EXTRA_ANNOTATION_TYPE_URL,
                schema_inference._TF_METADATA_EXTRA_ANNOTATION_PROTO,
            ],
            schema_inference._TF_METADATA_EXTRA_ANNOTATION_GLOBAL,
        )
        fetches = tf.nest.map_structure(tf.convert_to_tensor, {**ranges, **annotations})
    if not fetches:
        return {}
    holder = wrap_function.VariableHolder(share_variables=True)
    analysis: dict[str, Any] = wrap_function.WrappedFunction(graph, variable_holder=holder).prune([], fetches)()
    return analysis


class _Encode(beam.DoFn):
    """Writes one file of raw tf.Example as transformed ones."""

    def process(self, files: tuple[str, str], graph_uri: str) -> None:
        source, target = files
        graph = run_in_tracer(_load_graph, graph_uri)
        # Where another attempt at the same file does no harm.
        temporary = f"{target}.temporary-{uuid.uuid4().hex}"
        with contextlib.closing(GzipFile(tf.io.gfile.GFile(temporary, "wb"))) as file:
            for matrices in map_batches(source, graph.transform, len(graph.spec)):
                records = frame_records(serialize_columns(graph.build_columns(matrices)))
                file.write(records, deflate(records))
        tf.io.gfile.rename(temporary, target, overwrite=True)


class _Graph:
    """A transform graph, loaded to be called with records."""

    def __init__(self, uri: str) -> None:
        self._graph = TransformGraph(tft.TFTransformOutput(make_literal_path(uri)))
        self.spec = self._graph.raw_feature_spec

        self._names: dict[str, list[str]] = {}
        # Traced once for all files.
        self.transform = tf.function(
            self._build_matrices, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
        ).get_concrete_function()

    def _build_matrices(self, records: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return serialized raw tf.Example, [batch], as transformed columns: a matrix [columns, batch] for each type,
        and each column of several values in a row as it is, [batch, width].
        """
        columns = self._graph(tf.io.parse_example(records, dict(self.spec)))
        self._names = {}
        for name in sorted(columns):
            key = columns[name].dtype.name if columns[name].shape.rank == 1 else name
            self._names.setdefault(key, []).append(name)
        return {
            key: columns[key] if names == [key] else tf.stack([columns[name] for name in names])
            for key, names in self._names.items()
        }

    def build_columns(self, matrices: dict[str, Any]) -> pa.RecordBatch:
        """Return what `transform` has made, as columns in the order of their names."""
        named: dict[str, Any] = {}
        for key, names in self._names.items():
            if names == [key]:
                rows = matrices[key]
                named[key] = pa.FixedSizeListArray.from_arrays(rows.reshape(-1), rows.shape[1])
            else:
                named |= zip(names, matrices[key], strict=True)
        return pa.RecordBatch.from_pydict(dict(sorted(named.items())))


@functools.lru_cache(maxsize=1)
def _load_graph(uri: str) -> _Graph:
    return _Graph(uri)
