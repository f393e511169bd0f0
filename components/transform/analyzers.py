"""Analysis of a `preprocessing_fn`, by TensorFlow in large batches: the first half of Transform.

TFT's own tracing finds the analyzers and TFT's own combiners do their arithmetic, so that a `preprocessing_fn` means
here what it means in stock Transform. What differs is how the data reaches them: records are read, parsed and counted
inside one graph, thousands of rows at a time, instead of in Beam. Analyzers may not build on each other, vocabularies
are of strings by frequency, and outputs are dense. Anything else raises NotImplementedError, with the reason why
Transform hands the work to the stock executor.
"""

import functools
import importlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform import analyzer_nodes, analyzers, annotators, graph_context, impl_helper
from tensorflow_transform.tf_metadata import schema_utils
from tfx.components.util import value_utils
from tfx.utils import import_utils, json_utils

from components.batch_rows import compute_batch_rows
from components.parallel_calls import call_for_batches

# Rows that go through TensorFlow together.
ROWS_TOGETHER = 8192
# One thread for all tracing: TFT keeps its state in global variables, and Dataflow's workers are threads. And a short
# stack: TensorFlow notes it down for every operation, and Beam's own stack is deep.
_TRACER = ThreadPoolExecutor(1, thread_name_prefix="tracer")
T = TypeVar("T")
_OUTPUT_TYPES = (tf.float32, tf.int64, tf.string)
# Of the values that analyzers leave in the graph.
_OUTPUT_NODES = (
    analyzer_nodes.ExtractCombineMergeOutputs,
    analyzer_nodes.VocabularyCount,
    analyzer_nodes.VocabularyOrderAndWrite,
)
_BY_FREQUENCY = analyzers._VocabOrderingType.FREQUENCY

# Grappler inlines the mapped function again for each of its function calls, one a column: minutes for a wide table.
# What it optimizes is not repeated often enough here to pay for that.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@dataclass(frozen=True)
class Preprocessing:
    """A `preprocessing_fn` and what it is given; it can be sent to workers.

    Attributes:
      function: its dotted path; with `file`, its name in there.
      custom_config: its second argument, as TFX's JSON.
      schema: schema of the raw examples, serialized.
      file: file of the module, local or remote; empty for a module that is installed.
    """

    function: str
    custom_config: str
    schema: bytes
    file: str = ""

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        if self.file:
            function = import_utils.import_func_from_source(self.file, self.function)
        else:
            module, name = self.function.rsplit(".", 1)
            function = getattr(importlib.import_module(module), name)
        # As in TFX, the second argument is optional.
        needs_config = value_utils.FunctionHasArg(function, "custom_config")
        arguments = {"custom_config": json_utils.loads(self.custom_config) or {}} if needs_config else {}
        outputs: dict[str, tf.Tensor] = function(inputs, **arguments)
        return outputs

    @functools.cached_property
    def feature_spec(self) -> dict[str, Any]:
        """How the raw examples are parsed."""
        schema = schema_pb2.Schema.FromString(self.schema)
        spec: dict[str, Any] = schema_utils.schema_as_feature_spec(schema).feature_spec
        return spec

    @property
    def type_specs(self) -> dict[str, tf.TypeSpec]:
        """The types of the parsed columns."""
        specs: dict[str, tf.TypeSpec] = impl_helper.get_type_specs_from_feature_specs(self.feature_spec)
        return specs


def map_batches(file: str, function: Any, columns: int) -> Iterator[Any]:
    """Yield what a function makes of each batch of a file, in order, as NumPy has it.

    Args:
      file: Serialized tf.Example, in gzipped TFRecord.
      function: Concrete function of records, [batch].
      columns: Number of columns of the examples.
    """
    for made in call_for_batches(function, file, compute_batch_rows(columns, ROWS_TOGETHER)):
        yield tf.nest.map_structure(lambda tensor: tensor.numpy(), made)


# No dataclasses: Beam would take those for rows of a table.
class Combined:
    """Accumulator of one of TFT's combiners: moments, extremes, quantiles."""

    def __init__(self, combiner: Any) -> None:
        self.combiner = combiner
        self.accumulator = combiner.create_accumulator()

    def add(self, values: tuple[Any, ...]) -> None:
        """Take in a batch, as the combiner's analyzer has reduced it."""
        self.accumulator = self.combiner.add_input(self.accumulator, values)

    def merge(self, other: "Combined") -> None:
        """Take in what was seen elsewhere."""
        self.accumulator = self.combiner.merge_accumulators([self.accumulator, other.accumulator])


class Counted:
    """How often each token of a vocabulary was seen."""

    def __init__(self) -> None:
        self.tokens: Counter[bytes] = Counter()

    def add(self, values: tuple[Any, ...]) -> None:
        """Take in a batch: its tokens and the count of each."""
        tokens, counts = values
        self.tokens.update(dict(zip(tokens.tolist(), counts.tolist(), strict=True)))

    def merge(self, other: "Counted") -> None:
        """Take in what was seen elsewhere."""
        self.tokens.update(other.tokens)

    def select_vocabulary(self, prune: Any) -> list[bytes]:
        """Return the tokens that are kept, in the order of their ids: the most frequent first, equals from z to a."""
        frequent = [(count, token) for token, count in self.tokens.items() if count >= prune.frequency_threshold]
        frequent = sorted(frequent, reverse=True)[: prune.top_k]
        # TensorFlow has no empty tables.
        return [token for _, token in frequent or [analyzers.get_empy_vocabulary_dummy_value(tf.string)]]


Learned = dict[str, Combined | Counted]


def merge_learned(parts: Iterable[Learned]) -> Learned:
    """Return what all files together have taught each analyzer, by its label."""
    total: Learned = {}
    for part in parts:
        for label, learned in part.items():
            if label in total:
                total[label].merge(learned)  # type: ignore[arg-type]
            else:
                total[label] = learned
    return total


class Analysis:
    """A `preprocessing_fn`, traced up to what its analyzers are fed with."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        """Trace the function.

        Raises:
          NotImplementedError: an analyzer or an output is of another kind than those above; the message names it.
        """
        self._preprocessing = preprocessing
        # What the graph refers to without keeping it alive: tables.
        self._tracker, self._module = annotators.ObjectTracker(), tf.Module()
        self._sinks: list[Any] = []
        records = tf.TensorSpec([None], tf.string)
        with tempfile.TemporaryDirectory() as folder, annotators.object_tracker_scope(self._tracker):
            self._context = graph_context.TFGraphContext(self._module, folder, {})
            self._fed = tf.function(self._trace, input_signature=[records], autograph=False).get_concrete_function()
        # The columns themselves are not needed here, so that no table is read for them.
        self._fed.graph.control_outputs.clear()

    def _trace(self, records: tf.Tensor) -> dict[str, tuple[tf.Tensor, ...]]:
        inputs = tf.io.parse_example(records, self._preprocessing.feature_spec)
        with self._context:
            outputs = self._preprocessing(inputs)
        for name, output in outputs.items():
            _check_output(name, output)
        self._sinks = tf.compat.v1.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS)
        stand_ins = {sink.tensor.op for sink in self._sinks}
        fed = {}
        for sink in self._sinks:
            definition = sink.future.parent_operation.operation_def
            if not isinstance(definition, _OUTPUT_NODES):
                raise NotImplementedError(f"the analyzer '{definition.label}' is not one of the fast executor")
            source = _find_source(sink.future.parent_operation)
            label, tensors = source.operation_def.label, _list_tensors(source)
            if _is_dependent(tensors, stand_ins):
                raise NotImplementedError(f"the analyzer '{label}' builds on another one")
            fed[label] = _count_tokens(*tensors) if _is_vocabulary(source) else tensors
        return fed

    def learn(self, file: str) -> Learned:
        """Return what one file of serialized tf.Example teaches each analyzer, by its label."""
        learned: Learned = {}
        for sink in self._sinks:
            source = _find_source(sink.future.parent_operation)
            learned[source.operation_def.label] = (
                Counted() if _is_vocabulary(source) else Combined(source.operation_def.combiner)
            )
        for batch in map_batches(file, self._fed, len(self._preprocessing.feature_spec)) if learned else ():
            for label, values in batch.items():
                learned[label].add(values)
        return learned

    def build_outputs(self, learned: Learned, folder: str) -> dict[str, tf.Tensor]:
        """Return what each analyzer puts in the graph, by the name of the tensor that stands for it in a trace.

        Args:
          learned: from all files.
          folder: folder of the vocabularies.
        """
        return {
            sink.tensor.name: tf.constant(
                _compute_output(
                    sink.future, learned[_find_source(sink.future.parent_operation).operation_def.label], folder
                ),
                sink.tensor.dtype,
            )
            for sink in self._sinks
        }


@functools.lru_cache(maxsize=1)
def load_analysis(preprocessing: Preprocessing) -> Analysis:
    """Return the `Analysis` of a `preprocessing_fn`; one process traces it once for all files. To be called
    through `run_in_tracer`.
    """
    return Analysis(preprocessing)


def run_in_tracer(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function that traces or loads graphs, where none other does so."""
    return _TRACER.submit(function, *arguments).result()


def _find_source(operation: Any) -> Any:
    """Return the operation that accumulates for an analyzer; all its outputs are made of that one's."""
    definition = operation.operation_def
    match definition:
        case analyzer_nodes.CacheableCombineAccumulate():
            return operation
        case analyzer_nodes.VocabularyAccumulate(vocab_ordering_type=ordering, input_dtype="string"):
            if ordering == _BY_FREQUENCY:
                return operation
        case (
            analyzer_nodes.ExtractCombineMergeOutputs()
            | analyzer_nodes.CacheableCombineMerge()
            | analyzer_nodes.VocabularyMerge()
            | analyzer_nodes.VocabularyCount()
            | analyzer_nodes.VocabularyPrune(key_fn=None)
            | analyzer_nodes.VocabularyOrderAndWrite(fingerprint_shuffle=False, file_format="text")
        ):
            if len(operation.inputs) == 1:
                return _find_source(operation.inputs[0].parent_operation)
    raise NotImplementedError(f"the analyzer '{definition.label}' is not one of the fast executor")


def _check_output(name: str, output: Any) -> None:
    """Raise NotImplementedError unless each row has the same number of values."""
    if not isinstance(output, tf.Tensor) or output.shape.rank not in (1, 2) or None in output.shape[1:]:
        raise NotImplementedError(f"the output '{name}' is not dense with one or two dimensions")
    if output.dtype not in _OUTPUT_TYPES:
        raise NotImplementedError(f"the output '{name}' is of {output.dtype.name}")


def _is_vocabulary(source: Any) -> bool:
    return isinstance(source.operation_def, analyzer_nodes.VocabularyAccumulate)


def _list_tensors(source: Any) -> tuple[tf.Tensor, ...]:
    """Return what an analyzer is fed with."""
    return tuple(source.inputs[0].parent_operation.operation_def.tensors)


def _count_tokens(tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the distinct tokens of a batch, and the count of each."""
    distinct = tf.unique_with_counts(tokens, tf.int64)
    return distinct.y, distinct.count


def _is_dependent(tensors: Iterable[tf.Tensor], on: set[tf.Operation]) -> bool:
    """Return whether tensors are made of the outputs of certain operations."""
    seen: set[tf.Operation] = set()
    operations = [tensor.op for tensor in tensors]
    while operations:
        operation = operations.pop()
        if operation not in seen:
            seen.add(operation)
            operations += [tensor.op for tensor in operation.inputs]
    return not seen.isdisjoint(on)


def _compute_output(future: Any, learned: Any, folder: str) -> Any:
    """Return the value that an analyzer's output has, now that everything was seen."""
    operation = future.parent_operation
    match operation.operation_def:
        case analyzer_nodes.ExtractCombineMergeOutputs():
            return learned.combiner.extract_output(learned.accumulator)[future.value_index]
        case analyzer_nodes.VocabularyCount():
            made_of = operation.inputs[0].parent_operation.operation_def
            is_pruned = isinstance(made_of, analyzer_nodes.VocabularyPrune)
            return len(learned.select_vocabulary(made_of)) if is_pruned else max(len(learned.tokens), 1)
        case analyzer_nodes.VocabularyOrderAndWrite(vocab_filename=name, store_frequency=has_frequency):
            file = os.path.join(folder, name)
            with tf.io.gfile.GFile(file, "wb") as opened:
                prune = operation.inputs[0].parent_operation.operation_def
                for token in learned.select_vocabulary(prune):
                    opened.write(b"%d %s\n" % (learned.tokens[token], token) if has_frequency else token + b"\n")
            return file
    raise AssertionError(f"{operation.operation_def.label}: the trace accepts no such output")
