"""What a model was made from, by way of the executions that really made it."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from oncall.graph import Artifact, Graph, Id, key, properties

_ROWS, _FINGERPRINT = "rows", "input_fingerprint"
_MODEL = "Model"


@dataclass(frozen=True)
class Data:
    """What went into a run or a model.

    Attributes:
      rows: by split.
      fingerprint: of the input files, by TFX.
      schema_hash: of the Schema artifact; empty if its file is gone.
    """

    rows: dict[str, int] = field(default_factory=dict)
    fingerprint: str = ""
    schema_hash: str = ""

    def lines(self) -> str:
        """The rows, for people."""
        return ", ".join(f"{split} {rows:,}" for split, rows in self.rows.items())


def ancestors(metadata: Graph, artifact_id: Id) -> dict[Id, Artifact]:
    """All that an artifact was made from, itself included; not what another model, a baseline, was made from."""
    found: dict[Id, Artifact] = {}
    level = {artifact_id}
    while level:
        artifacts = metadata.artifacts(level)
        found.update(artifacts)
        # A warm start or a baseline has a story of its own.
        asked = [i for i, artifact in artifacts.items() if artifact.type != _MODEL or i == artifact_id]
        makers = metadata.makers(asked)
        events = metadata.events_of_executions(maker.id for maker in makers.values())
        level = {event.artifact_id for event in events if metadata.is_input(event)} - set(found)
    return found


def data_of(artifacts: list[Artifact]) -> Data:
    """The data and the schema among artifacts, the newest of each."""
    rows: dict[str, int] = {}
    fingerprint = schema = ""
    for artifact in sorted(artifacts, key=lambda artifact: (artifact.create_time_since_epoch, artifact.id)):
        known = properties(artifact)
        if artifact.type == "Examples" and _FINGERPRINT in known:
            fingerprint = str(known[_FINGERPRINT])
            rows = _rows(str(known.get(_ROWS, "")))
        if artifact.type == "Schema":
            schema = schema_hash_of(artifact.folder)
    return Data(rows, fingerprint, schema)


def _rows(text: str) -> dict[str, int]:
    try:
        found = json.loads(text)
        return {str(split): int(rows) for split, rows in found.items()}
    except (ValueError, AttributeError, TypeError):
        return {}


def schema_hash_of(folder: Path) -> str:
    """The hash of a Schema artifact; empty if it cannot be read."""
    # Protobuf and pydantic's models, which not every command needs.
    from schemas.curated import SCHEMA_FILE_NAME, load_schema, schema_hash
    from schemas.errors import ConfigError

    try:
        return schema_hash(load_schema(str(folder / SCHEMA_FILE_NAME)))
    except ConfigError:
        return ""


def verdicts(metadata: Graph, model_id: Id, of_run: Collection[Id]) -> dict[str, bool]:
    """What judged a model, and how: `ModelBlessing` and `InfraBlessing`, as far as there are any.

    Args:
      metadata: where it is.
      model_id: the model.
      of_run: the artifacts of the run that is asked about; another may have judged the same model otherwise.
    """
    events = metadata.events_of_artifacts([model_id])
    judged = [e.execution_id for e in events if metadata.is_input(e) and key(e) == "model"]
    outputs = [e.artifact_id for e in metadata.events_of_executions(judged) if metadata.is_output(e)]
    found = {}
    for artifact in metadata.artifacts(id_ for id_ in outputs if id_ in of_run).values():
        if artifact.type in ("ModelBlessing", "InfraBlessing"):
            found[artifact.type] = properties(artifact).get("blessed") == 1
    return found
