"""What a model was made from, by way of the executions that really made it."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from oncall.graph import Artifact, Graph, Id, key, properties

_ROWS, _CONTENT, _FINGERPRINT = "rows", "content", "input_fingerprint"
# What follows is a hash, or, of an older ExampleGen, the times at which files were written: `content` says more.
_INPUT = re.compile(r"split:(.+),num_files:(\d+),total_bytes:(\d+),")
_MODEL = "Model"
_EQUAL_ROWS = "equal_rows"
T = TypeVar("T")


@dataclass(frozen=True)
class Data:
    """What went into a run or a model.

    Attributes:
      rows: by split.
      content: what names the records of each split; empty where ExampleGen did not keep it.
      fingerprint: fingerprint of the input files: their number, bytes and content.
      schema_hash: hash of the Schema artifact; empty if its file is gone.
      in_train: by split, how many of its rows have an equal row in train; empty where ExampleGen did not keep it.
    """

    rows: dict[str, int] = field(default_factory=dict)
    content: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    schema_hash: str = ""
    in_train: dict[str, str] = field(default_factory=dict)

    def facts(self) -> dict[str, int | str]:
        """All that two runs' data may differ in, by its name."""
        # Of an older ExampleGen it is not known whether other times mean other rows.
        unknown = {"files": self.fingerprint.replace("\n", "; ")} if self.fingerprint and not self.content else {}
        return {
            **{f"rows of {split}": rows for split, rows in self.rows.items()},
            **{f"content of {split}": name for split, name in self.content.items()},
            **{f"rows of {split} with an equal row in train": count for split, count in self.in_train.items()},
            **{f"bytes read for {split}": size for split, _, size in self._inputs},
            **unknown,
        }

    def files(self) -> str:
        """Return the files that were read, for people."""
        return "; ".join(f"{split}: {n} file{'' if n == 1 else 's'}, {size:,} bytes" for split, n, size in self._inputs)

    @property
    def _inputs(self) -> list[tuple[str, int, int]]:
        found = map(_INPUT.match, self.fingerprint.splitlines())
        return [(one[1], int(one[2]), int(one[3])) for one in found if one]


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
    """Return the data and the schema among artifacts, the newest of each."""
    examples: Mapping[str, Any] = {}
    schema = ""
    for artifact in sorted(artifacts, key=lambda artifact: (artifact.create_time_since_epoch, artifact.id)):
        known = properties(artifact)
        if artifact.type == "Examples" and _FINGERPRINT in known:
            examples = known
        if artifact.type == "Schema":
            schema = schema_hash_of(artifact.folder)
    rows, content = _by_split(examples.get(_ROWS), int), _by_split(examples.get(_CONTENT), str)
    return Data(rows, content, str(examples.get(_FINGERPRINT, "")), schema, _in_train(examples.get(_EQUAL_ROWS)))


def _in_train(text: Any) -> dict[str, str]:
    """By split; empty where that is damaged, or was not kept."""
    try:
        found = json.loads(str(text))["in_train"].items()
        return {str(split): f"{counts['in_train']:,} of {counts['rows']:,}" for split, counts in found}
    except (ValueError, AttributeError, KeyError, TypeError):
        return {}


def _by_split(text: Any, kind: Callable[[Any], T]) -> dict[str, T]:
    """Return what ExampleGen kept as JSON; nothing where that is damaged."""
    try:
        return {str(split): kind(value) for split, value in json.loads(str(text)).items()}
    except (ValueError, AttributeError, TypeError):
        return {}


def schema_hash_of(folder: Path) -> str:
    """Return the hash of a Schema artifact; empty if it cannot be read."""
    # Protobuf and pydantic's models, which not every command needs.
    from cli.errors import ConfigError
    from schemas.curated.schema_file import SCHEMA_FILE_NAME, load_schema, schema_hash

    try:
        return schema_hash(load_schema(str(folder / SCHEMA_FILE_NAME)))
    except ConfigError:
        return ""


def verdicts(metadata: Graph, model_id: Id, of_run: Collection[Id]) -> dict[str, bool]:
    """Return what judged a model, and how: `ModelBlessing` and `InfraBlessing`, as far as there are any.

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
