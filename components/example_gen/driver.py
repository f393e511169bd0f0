"""ExampleGen's driver: TFX's cache follows the content of the input files, or the changes of tables in BigQuery.

TFX's own fingerprint is of sizes and times in whole seconds. The cached result is reused for another content of the
same size in the same second, and a `touch` runs everything again. Locally TFX's launcher calls ContentDriver; on Vertex
Pipelines this module is the container that runs before the cache is asked:

    python -m components.example_gen.driver --json_serialized_invocation_args {{$}}
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tfx.components.example_gen import driver, input_processor
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.proto import example_gen_pb2, range_config_pb2

from schemas.tables import bigquery
from schemas.tables.content_hash import FileContent, Memory, contents
from schemas.tables.data_files import matching_files

# Between a split's name and the span that one of its inputs holds.
SPAN_SEPARATOR = "@"
_MEMORY_FILE = "input_hashes.json"


def fingerprint(base: str, splits: Iterable[example_gen_pb2.Input.Split], memory: Memory) -> str:
    """Return a line for each split: the number of its files, their bytes, and a hash of their names and contents.

    Args:
      base: Folder of the files, or URI of the project that reads BigQuery.
      splits: Names and patterns, whose spans are resolved.
      memory: Hashes of earlier runs.

    Raises:
      DataError: A pattern matches no file, or a file, table or query cannot be read.
    """
    if bigquery.is_bigquery(base):
        return "\n".join(bigquery.fingerprint(base, split.name, split.pattern) for split in splits)
    files = [(split.name, matching_files(base, split.pattern, _split_name(split))) for split in splits]
    paths = list(dict.fromkeys(path for _, matching in files for path in matching))
    contents_by_path = dict(zip(paths, contents(paths, memory), strict=True))
    return "\n".join(_line(base, name, {path: contents_by_path[path] for path in matching}) for name, matching in files)


def _line(base: str, split: str, contents_of: dict[str, FileContent]) -> str:
    # With their names, for these are in error messages and in `rejects.jsonl`.
    named = [f"{path.removeprefix(base)}\0{content.digest}" for path, content in contents_of.items()]
    digest = hashlib.blake2b("\0".join(named).encode(errors="surrogateescape"), digest_size=16).hexdigest()
    total = sum(content.bytes for content in contents_of.values())
    return f"split:{split},num_files:{len(contents_of)},total_bytes:{total},content:{digest}"


def _split_name(split: example_gen_pb2.Input.Split) -> str:
    return str(split.name.split(SPAN_SEPARATOR)[0])


class ContentProcessor(input_processor.FileBasedInputProcessor):
    """Resolves no spans, which `components.example_gen.component` has done, and names the files' content."""

    memory = Memory()

    def resolve_span_and_version(self) -> tuple[int, int | None]:
        """Return what TFX does for patterns without spans."""
        return 0, None

    def get_input_fingerprint(self, span: int, version: int | None) -> str:
        """Return the fingerprint that becomes a parameter of the execution, and with it part of the cache's key."""
        del span, version
        return fingerprint(self._input_base_uri, self._splits, self.memory)


class ContentDriver(driver.FileBasedDriver):
    """The driver on this machine, which remembers the hashes of files below the run root."""

    _memory: Memory

    def run(self, execution_info: Any) -> Any:
        """Return the parameters and the artifact with the fingerprint."""
        (examples,) = execution_info.output_dict["examples"]
        # ARTIFACTS/ExampleGen/examples/ID; TFX has notes of its own below `.system`, which nobody takes for artifacts.
        self._memory = Memory(Path(examples.uri).parents[1] / ".system" / _MEMORY_FILE)
        return super().run(execution_info)

    def get_input_processor(
        self,
        splits: Iterable[example_gen_pb2.Input.Split],
        range_config: range_config_pb2.RangeConfig | None = None,
        input_base_uri: str | None = None,
    ) -> ContentProcessor:
        """Return the processor of the input's splits."""
        assert input_base_uri is not None
        processor = ContentProcessor(input_base_uri, splits, range_config)
        processor.memory = self._memory
        return processor


class ContentExampleGen(FileBasedExampleGen):
    """TFX's ExampleGen of files, with a driver that reads their content."""

    DRIVER_CLASS = ContentDriver


def _run_in_container() -> None:
    """Run TFX's driver for containers, which names its processor itself, with ours in that place."""
    # Needs the compiler's packages, which a run on this machine does not.
    from tfx.orchestration.kubeflow.v2.file_based_example_gen import driver as container_driver

    from components.task_entry import use_bucket

    container_driver.input_processor.FileBasedInputProcessor = ContentProcessor
    container_driver.app.run(
        container_driver.main, flags_parser=lambda arguments: container_driver._parse_flags(use_bucket(arguments))
    )


if __name__ == "__main__":
    _run_in_container()
