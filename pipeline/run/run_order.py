"""The order of the runs of a run root, by ML Metadata's IDs: a clock may be wrong. Imports no TensorFlow."""

import json
from collections.abc import Iterable, Sequence

from cli.errors import RunRootError
from pipeline.run.run_root import RunRoot

# Executions of a run are made one after the other, under the run root's lock.
_FIRST_EXECUTIONS = (
    "SELECT c.name, min(a.execution_id) FROM Context c JOIN Type t ON c.type_id = t.id "
    "JOIN Association a ON a.context_id = c.id WHERE t.name = 'pipeline_run' GROUP BY c.name"
)
# More than any pipeline has: the last execution of the newest run is not its first.
_EXECUTIONS_PER_RUN = 1000
_Key = tuple[int, int, str]


def list_runs(root: RunRoot) -> list[str]:
    """Return the IDs of all runs, on record or in ML Metadata, the newest first.

    Without a database that can be read, they are in the order of their IDs, which start with their time.
    """
    on_record = [file.stem for file in root.records.glob("*.json")]
    return sort_runs(root, on_record, read_first_executions(root))


def read_first_executions(root: RunRoot) -> dict[str, int]:
    """Return the ID of the first execution by run; none if the database cannot be read."""
    try:
        database = root.database
        if not database.exists:
            return {}
        with database.open_session() as ask:
            return {_to_text(name): int(first) for name, first in ask(_FIRST_EXECUTIONS)}
    except RunRootError:
        # The commands that need the database report it.
        return {}


def sort_runs(root: RunRoot, on_record: Iterable[str], first_executions: dict[str, int]) -> list[str]:
    """Return the IDs of runs, the newest first.

    Args:
      root: Run root of the runs.
      on_record: IDs of the runs on record.
      first_executions: ID of the first execution by run.
    """
    if not first_executions:
        return sorted(on_record, reverse=True)
    keys: dict[str, _Key] = {run_id: (first, 0, run_id) for run_id, first in first_executions.items()}
    placed = sorted(keys.items())
    for run_id in on_record:
        if run_id not in keys:
            keys[run_id] = (_read_last_execution(root, run_id, placed), 1, run_id)
    return sorted(keys, key=keys.__getitem__, reverse=True)


def _read_last_execution(root: RunRoot, run_id: str, placed: Sequence[tuple[str, _Key]]) -> int:
    """Return the last execution before a run that made none itself, or that is another database's."""
    try:
        record = json.loads(root.locate_record(run_id).read_bytes())
        before, has_executions = record["last_execution"], any(node.get("ended") for node in record["nodes"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        before, has_executions = None, False
    newest = max((key[0] for _, key in placed), default=0)
    # A run with executions that the database does not have was made with another one, whose IDs mean nothing here.
    if isinstance(before, int) and not has_executions and before <= newest + _EXECUTIONS_PER_RUN:
        return before
    return max((key[0] for name, key in placed if name < run_id), default=0)


def _to_text(name: object) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
