"""The data, schema and verdicts behind a model, through the executions that made them."""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from oncall.metadata import Artifact, Id, Metadata

_ROWS, _CONTENT, _FINGERPRINT, _COLUMNS = "rows", "content", "input_fingerprint", "columns"
_HASH_CHARS = 8
_MAX_SHOWN_COLUMNS = 8
_OTHER_ROWS = "all columns have other values: other rows"
# After these values comes a hash or, from an older ExampleGen, the times of the files; `content` is more exact.
_INPUT = re.compile(r"split:(.+),num_files:(\d+),total_bytes:(\d+),")
_MODEL = "Model"
_EQUAL_ROWS = "equal_rows"
T = TypeVar("T")


@dataclass(frozen=True)
class InputData:
    """The data and the schema of a run or a model.

    Attributes:
      rows: number of rows by split.
      content: hash of the records by split; empty if ExampleGen did not keep it.
      fingerprint: fingerprint of the input files: their number, bytes and content.
      schema_hash: hash of the Schema artifact; empty if its file is missing.
      columns: hashes of each column's values and of the rows without it, by split and column; empty if not kept.
      in_train: number of rows with an equal row in train, by split; empty if ExampleGen did not keep it.
    """

    rows: dict[str, int] = field(default_factory=dict)
    content: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    schema_hash: str = ""
    in_train: dict[str, str] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)

    def list_facts(self) -> dict[str, int | str]:
        """Return the properties in which the data of two runs may differ, by name."""
        # With an older ExampleGen, other file times need not mean other rows.
        files = {"files": self.fingerprint.replace("\n", "; ")} if self.fingerprint and not self.content else {}
        return {
            **{f"rows of {split}": rows for split, rows in self.rows.items()},
            **{f"content of {split}": name for split, name in self.content.items()},
            **{f"rows of {split} with an equal row in train": count for split, count in self.in_train.items()},
            **{f"bytes read for {split}": size for split, _, size in self._inputs},
            **files,
        }

    def describe_files(self) -> str:
        """Return the number and size of the input files, for people."""
        return "; ".join(f"{split}: {n} file{'' if n == 1 else 's'}, {size:,} bytes" for split, n, size in self._inputs)

    @property
    def _inputs(self) -> list[tuple[str, int, int]]:
        matches = map(_INPUT.match, self.fingerprint.splitlines())
        return [(match[1], int(match[2]), int(match[3])) for match in matches if match]


def collect_ancestors(metadata: Metadata, artifact_id: Id) -> dict[Id, Artifact]:
    """Return the artifact and all that it was made from, but not the ancestors of another model, such as a baseline."""
    ancestors: dict[Id, Artifact] = {}
    level = {artifact_id}
    while level:
        artifacts = metadata.get_artifacts(level)
        ancestors.update(artifacts)
        # The model of a warm start, or a baseline, has data of its own.
        followed = [i for i, artifact in artifacts.items() if artifact.type != _MODEL or i == artifact_id]
        makers = metadata.find_makers(followed)
        events = metadata.get_execution_events(maker.id for maker in makers.values())
        level = {event.artifact_id for event in events if not event.is_output} - set(ancestors)
    return ancestors


def read_input_data(artifacts: list[Artifact]) -> InputData:
    """Return the newest data and the newest schema among artifacts."""
    examples: Mapping[str, Any] = {}
    schema = ""
    for artifact in sorted(artifacts, key=lambda artifact: (artifact.create_time_since_epoch, artifact.id)):
        if artifact.type == "Examples" and _FINGERPRINT in artifact.properties:
            examples = artifact.properties
        if artifact.type == "Schema":
            schema = read_schema_hash(artifact.folder)
    return InputData(
        rows=_parse_by_split(examples.get(_ROWS), int),
        content=_parse_by_split(examples.get(_CONTENT), str),
        fingerprint=str(examples.get(_FINGERPRINT, "")),
        schema_hash=schema,
        in_train=_parse_equal_rows(examples.get(_EQUAL_ROWS)),
        columns=_parse_by_split(examples.get(_COLUMNS), dict),
    )


def compare_columns(old: InputData, new: InputData) -> dict[str, str]:
    """Return by split which columns changed; for splits whose records changed, if both runs kept hashes of columns.

    Rows that are drawn by their content move to another split with a change. So splits of other rows are compared
    together, too.
    """
    changed = [
        split for split in new.columns if split in old.columns and old.content.get(split) != new.content.get(split)
    ]
    described = {
        split: _describe_columns(old.columns[split], new.columns[split], old.rows.get(split) == new.rows.get(split))
        for split in changed
    }
    redrawn = [split for split, text in described.items() if text == _OTHER_ROWS]
    if len(redrawn) > 1:
        has_same_rows = sum(old.rows.get(s, 0) for s in redrawn) == sum(new.rows.get(s, 0) for s in redrawn)
        together = [_add_up([data.columns[split] for split in redrawn]) for data in (old, new)]
        text = _describe_columns(together[0], together[1], has_same_rows)
        if text != _OTHER_ROWS:
            rest = {split: text for split, text in described.items() if split not in redrawn}
            return {f"{' and '.join(redrawn)} together": text, **rest}
    return described


def _add_up(splits: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the hashes of the columns of several splits together."""
    sums: dict[str, list[int]] = {}
    for columns in splits:
        for name, text in columns.items():
            pair = sums.setdefault(name, [0, 0])
            for number, half in enumerate((text[:_HASH_CHARS], text[_HASH_CHARS:])):
                pair[number] = (pair[number] + int(half, 16)) % (1 << 4 * _HASH_CHARS)
    return {name: "".join(f"{value:0{_HASH_CHARS}x}" for value in pair) for name, pair in sums.items()}


def _describe_columns(old: Mapping[str, str], new: Mapping[str, str], same_rows: bool) -> str:
    names = [name for name in new if name in old]
    other = [name for name in {**old, **new} if name not in old or name not in new]
    changed = [name for name in names if old[name][:_HASH_CHARS] != new[name][:_HASH_CHARS]]
    # The rows without such a column are the same.
    alone = [name for name in names if old[name][_HASH_CHARS:] == new[name][_HASH_CHARS:]]
    if other:
        return f"columns that only one of them has: {_join(other)}"
    if not changed and len(alone) == len(names):
        return "the same rows in another order"
    if not changed:
        if alone and same_rows:
            return f"{_join(alone)}: the same values, and on other rows: shuffled. All other columns are as before"
        return "each column has the same values, in other combinations: columns were shuffled"
    if same_rows and alone == changed:
        return f"{_join(changed)}: other values; all other columns are as before"
    if len(changed) == len(names):
        return _OTHER_ROWS
    return f"other values in {_join(changed)}; the same in {_join([n for n in names if n not in changed])}"


def _join(names: Sequence[str]) -> str:
    more = len(names) - _MAX_SHOWN_COLUMNS
    return ", ".join(names[:_MAX_SHOWN_COLUMNS]) + (f" and {more} more" if more > 0 else "")


def _parse_equal_rows(text: Any) -> dict[str, str]:
    """Return the counts by split; empty if the text is damaged or missing."""
    try:
        counts = json.loads(str(text))["in_train"].items()
        return {str(split): f"{count['in_train']:,} of {count['rows']:,}" for split, count in counts}
    except (ValueError, AttributeError, KeyError, TypeError):
        return {}


def _parse_by_split(text: Any, kind: Callable[[Any], T]) -> dict[str, T]:
    """Return the values that ExampleGen kept as JSON; empty if the text is damaged."""
    try:
        return {str(split): kind(value) for split, value in json.loads(str(text)).items()}
    except (ValueError, AttributeError, TypeError):
        return {}


def read_schema_hash(folder: Path) -> str:
    """Return the hash of a Schema artifact; empty if it cannot be read."""
    # Loads protobuf and pydantic's models, which few commands need.
    from cli.errors import ConfigError
    from schemas.curated.schema_file import SCHEMA_FILE_NAME, hash_schema, load_schema

    try:
        return hash_schema(load_schema(str(folder / SCHEMA_FILE_NAME)))
    except ConfigError:
        return ""


def find_blessings(metadata: Metadata, model_id: Id, of_run: Collection[Id]) -> dict[str, bool]:
    """Return the verdicts on a model by type, `ModelBlessing` and `InfraBlessing`, if they exist.

    Args:
      metadata: ML Metadata.
      model_id: ID of the model.
      of_run: IDs of the run's artifacts; another run may have another verdict on the same model.
    """
    events = metadata.get_artifact_events([model_id])
    judges = [event.execution_id for event in events if not event.is_output and event.key == "model"]
    outputs = [event.artifact_id for event in metadata.get_execution_events(judges) if event.is_output]
    blessings = {}
    for artifact in metadata.get_artifacts(id_ for id_ in outputs if id_ in of_run).values():
        if artifact.type in ("ModelBlessing", "InfraBlessing"):
            blessings[artifact.type] = artifact.properties.get("blessed") == 1
    return blessings
