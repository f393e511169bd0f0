"""ExampleGen's driver: TFX's cache follows the content of the input files, or the changes of tables in BigQuery.

TFX's own fingerprint is of sizes and times in whole seconds. The cached result is reused for another content of the
same size in the same second, and a `touch` runs everything again. Locally TFX's launcher calls ContentDriver; on Vertex
Pipelines this module is the container that runs before the cache is asked:

    python -m components.example_gen.driver --json_serialized_invocation_args {{$}}
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tfx.components.example_gen import driver, input_processor
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.proto import example_gen_pb2, range_config_pb2

from components.example_gen.input_fingerprint import MEMORY_FILE, compute_fingerprint
from schemas.tables.content_hash import Memory


class ContentProcessor(input_processor.FileBasedInputProcessor):
    """Resolves no spans, which `components.example_gen.component` has done, and names the files' content."""

    memory = Memory()

    def resolve_span_and_version(self) -> tuple[int, int | None]:
        """Return what TFX does for patterns without spans."""
        return 0, None

    def get_input_fingerprint(self, span: int, version: int | None) -> str:
        """Return the fingerprint that becomes a parameter of the execution, and with it part of the cache's key."""
        del span, version
        return compute_fingerprint(self._input_base_uri, self._splits, self.memory)


class ContentDriver(driver.FileBasedDriver):
    """The driver on this machine, which remembers the hashes of files below the run root."""

    _memory: Memory

    def run(self, execution_info: Any) -> Any:
        """Return the parameters and the artifact with the fingerprint."""
        (examples,) = execution_info.output_dict["examples"]
        # ARTIFACTS/ExampleGen/examples/ID; TFX has notes of its own below `.system`, which nobody takes for artifacts.
        self._memory = Memory(Path(examples.uri).parents[1] / MEMORY_FILE)
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
