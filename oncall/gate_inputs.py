"""The inputs and the policy of a run's gate, by which its data was compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from tensorflow_metadata.proto.v0 import schema_pb2

from cli.errors import DataError
from components.config import Validation
from oncall.metadata import Artifact, Metadata
from schemas.curated.schema_file import SCHEMA_FILE_NAME, load_schema

_GATE, _POLICY, _COMPARED_SPLITS = "Gate", "policy", "compared_splits"


@dataclass(frozen=True)
class GateInputs:
    """The inputs of the gate by name, and its policy."""

    artifacts: Mapping[str, Artifact]
    policy: Validation
    compared_splits: Sequence[str]

    def load_schema(self) -> schema_pb2.Schema:
        """Return the schema; empty if the gate had none.

        Raises:
          ConfigError: it cannot be read.
        """
        if "schema" not in self.artifacts:
            return schema_pb2.Schema()
        return load_schema(str(self.artifacts["schema"].folder / SCHEMA_FILE_NAME))


def read_gate_inputs(metadata: Metadata, run_id: str) -> GateInputs:
    """Return the inputs of the run's gate.

    Raises:
      DataError: the run did not reach its gate, or the policy does not fit this checkout.
    """
    executions = [e for e in metadata.get_run_executions(run_id) if metadata.get_run_and_node(e.id)[1] == _GATE]
    if not executions:
        raise DataError("the gate was not reached")
    execution = executions[-1]
    try:
        policy = Validation.model_validate_json(str(execution.properties.get(_POLICY, "{}")))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise DataError(f"the gate's policy does not fit this checkout ({problem})") from error
    events = metadata.get_execution_events([execution.id])
    inputs = {event.key: event.artifact_id for event in events if not event.is_output}
    artifacts = metadata.get_artifacts(inputs.values())
    by_name = {name: artifacts[id_] for name, id_ in inputs.items() if id_ in artifacts}
    splits = [split for split in str(execution.properties.get(_COMPARED_SPLITS, "")).split(",") if split]
    return GateInputs(by_name, policy, splits)
