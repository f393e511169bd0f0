"""ExampleGen behind another ExampleGen: its records pass the checks and the division that files pass."""

from typing import Any, ClassVar

from tfx import types
from tfx.components.example_gen import base_example_gen_executor
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import component_spec, standard_artifacts


class CheckedExamplesSpec(types.ComponentSpec):
    """Parameters, input and output of `CheckedExampleGen`."""

    PARAMETERS: ClassVar[dict[str, Any]] = {
        "input_config": component_spec.ExecutionParameter(type=example_gen_pb2.Input),
        "custom_config": component_spec.ExecutionParameter(type=example_gen_pb2.CustomConfig),
    }
    INPUTS: ClassVar[dict[str, Any]] = {"source": component_spec.ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS: ClassVar[dict[str, Any]] = {"examples": component_spec.ChannelParameter(type=standard_artifacts.Examples)}


class CheckedExampleGen(base_beam_component.BaseBeamComponent):
    """ExampleGen of the records that another one has written. As in TFX's own, the executor is an argument."""

    SPEC_CLASS = CheckedExamplesSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(base_example_gen_executor.BaseExampleGenExecutor)

    def __init__(
        self, source: types.BaseChannel, *, custom_executor_spec: executor_spec.ExecutorSpec, **parameters: Any
    ) -> None:
        examples = types.Channel(type=standard_artifacts.Examples)
        spec = CheckedExamplesSpec(source=source, examples=examples, **parameters)
        super().__init__(spec=spec, custom_executor_spec=custom_executor_spec)
