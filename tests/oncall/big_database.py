"""Makes a run root with very many runs, to measure with: python -m tests.oncall.big_database FOLDER [RUNS].

10,000 runs have 120,000 executions and 200,000 artifacts. The first runs are made as all tests make them; the others
are rows of the database, inserted in one transaction, and copies of a record. A tenth of the runs trains again; the
others find all but what is never cached in the cache.
"""

import sqlite3
import sys
import time
from contextlib import closing
from itertools import count
from pathlib import Path

import click

from tests.oncall.run_roots import GRAPH, NAME, NOT_CACHED, Runs

RUNS = 10_000
_CACHED, _COMPLETE, _LIVE, _INPUT, _OUTPUT = 4, 3, 2, 3, 4
# Of a run, besides: of components that are not ours.
_EXTRA_ARTIFACTS = 17


class _Rows:
    """Rows to insert, by table."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database
        self._last = {
            table: count((database.execute(f"SELECT max(id) FROM {table}").fetchone()[0] or 0) + 1)
            for table in ("Context", "Execution", "Artifact", "Event")
        }
        self.types = dict(database.execute("SELECT name, id FROM Type"))
        self.contexts = dict(database.execute("SELECT name, id FROM Context"))
        self.now = int(time.time() * 1000)

    def insert(self, table: str, **values: object) -> int:
        """Insert one row; return its ID."""
        if table in self._last:
            values = {"id": next(self._last[table]), **values}
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        self.database.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))
        return int(str(values.get("id", 0)))

    def event(self, artifact: int, execution: int, kind: int, key: str) -> None:
        id_ = self.insert("Event", artifact_id=artifact, execution_id=execution, type=kind)
        self.insert("EventPath", event_id=id_, is_index_step=0, step_key=key)

    def create_timestamps(self, number: int) -> dict[str, int]:
        at = self.now + number
        return {"create_time_since_epoch": at, "last_update_time_since_epoch": at}


def _run(rows: _Rows, root: Path, number: int, last: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Insert one run; return what it gave out."""
    run_id = f"20270101T{number:06d}.000000"
    run = rows.insert("Context", type_id=rows.types["pipeline_run"], name=run_id, **rows.create_timestamps(number))
    answered = number % 10 != 0
    made: dict[str, dict[str, int]] = {}
    for node, (kind, inputs, outputs) in GRAPH.items():
        cached = answered and node not in NOT_CACHED
        execution = rows.insert(
            "Execution",
            type_id=rows.types[kind],
            last_known_state=_CACHED if cached else _COMPLETE,
            **rows.create_timestamps(number),
        )
        for context in (run, rows.contexts[NAME], rows.contexts[f"{NAME}.{node}"]):
            rows.insert("Association", context_id=context, execution_id=execution)
        for key, source, output in inputs:
            rows.event(made[source][output], execution, _INPUT, key)
        made[node] = last[node] if cached else {}
        for key, type_name in outputs:
            if not cached:
                uri = str(root / "artifacts" / node / key / str(execution))
                made[node][key] = rows.insert(
                    "Artifact", type_id=rows.types[type_name], uri=uri, state=_LIVE, **rows.create_timestamps(number)
                )
            rows.event(made[node][key], execution, _OUTPUT, key)
            rows.insert("Attribution", context_id=run, artifact_id=made[node][key])
            if not cached:
                rows.insert("Attribution", context_id=rows.contexts[f"{NAME}.{node}"], artifact_id=made[node][key])
    for extra in range(_EXTRA_ARTIFACTS):
        uri = f"elsewhere://{number}/{extra}"
        id_ = rows.insert(
            "Artifact", type_id=rows.types["JsonValue"], uri=uri, state=_LIVE, **rows.create_timestamps(number)
        )
        rows.insert("Attribution", context_id=run, artifact_id=id_)
    return made


def make(folder: Path, number_of_runs: int) -> Runs:
    """Return a run root with so many runs; the last one crashed."""
    runs = Runs(folder)
    first = runs.run("20260101T000000.000000")
    runs.run("20260102T000000.000000")
    last = {node: {key: artifact.id for key, artifact in outputs.items()} for node, outputs in first.items()}
    template = runs.root.locate_record("20260101T000000.000000").read_text()
    with closing(sqlite3.connect(runs.root.metadata)) as database, database:
        rows = _Rows(database)
        for number in range(number_of_runs - 3):
            last = {**last, **_run(rows, folder, number, last)}
            run_id = f"20270101T{number:06d}.000000"
            runs.root.locate_record(run_id).write_text(template.replace("20260101T000000.000000", run_id))
    runs.run("20280101T000000.000000", crashes_in="Trainer")
    return runs


if __name__ == "__main__":
    started = time.monotonic()
    make(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else RUNS)
    click.echo(f"made in {time.monotonic() - started:.0f} s")
