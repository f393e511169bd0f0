"""Bytes that each component of ours reads and writes for a row: counts that do not depend on the machine's mood.

    python -m benchmarks.counts             # beside those of benchmarks/counts.json; a minute
    python -m benchmarks.counts --keep      # and keeps them there

They are the slope between two small runs, so that imports and fixed parts are left out. Whoever reads the data once
more, or writes it larger, is seen here whatever else the machine does: tests/benchmarks/test_counts.py.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from benchmarks.measuring import ROOT

COUNTS_FILE = Path(__file__).parent / "counts.json"
SIZES = (5_000, 25_000)
COUNTED = ("read_bytes", "written_bytes")
# InfraValidator starts a Python process, which imports 57 MB of modules. It reads source where a module has no byte
# code, and any process of the machine may write that between the two runs: 60 kB of it would pass for 3 bytes a row.
UNCOUNTED = frozenset({("InfraValidator", "read_bytes")})
# Of each component, by what is counted: bytes a row.
Counts = dict[str, dict[str, float]]


def count_bytes() -> Counts:
    """Run the pipeline on both sizes.

    Returns:
      Bytes a row of the input, of each component.
    """
    small, large = (_run(rows) for rows in SIZES)
    rows = SIZES[1] - SIZES[0]
    return {
        node: {
            name: round((used[name] - small[node][name]) / rows, 1) for name in COUNTED if (node, name) not in UNCOUNTED
        }
        for node, used in large.items()
    }


def _run(rows: int) -> Counts:
    """Run once, in a process of its own: what it has imported must be the same each time."""
    from benchmarks.household import write_config, write_rows

    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "data", rows)
        config_file = write_config(Path(folder) / "data")
        command = [sys.executable, "-m", "benchmarks.counts", "--one", folder, str(config_file)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        measured: Counts = json.loads((Path(folder) / "measured.json").read_text())["nodes"]
    return measured


def table(measured: Counts, recorded_counts: Counts) -> str:
    """Return a table of both, a line for each component that reads or writes more where there are more rows."""
    lines = [f"{'bytes a row':<16} {'read':>8} {'kept':>8}   {'written':>8} {'kept':>8}"]
    for node, counts in measured.items():
        before = recorded_counts.get(node, {})
        if max(counts.values()) >= 1:
            # Zero for what is not counted, too.
            cells = [f"{every.get(name, 0):>8.1f}" for name in COUNTED for every in (counts, before)]
            lines.append(f"{node:<16} {cells[0]} {cells[1]}   {cells[2]} {cells[3]}")
    return "\n".join(lines)


@click.command()
@click.option("--keep", is_flag=True, help="Keep them in benchmarks/counts.json.")
@click.option("--one", "single_run", nargs=2, hidden=True)
def main(keep: bool, single_run: tuple[str, str] | None) -> None:
    """Count the bytes that each component reads and writes for a row, and show them beside those that were kept."""
    if single_run is not None:
        from benchmarks.measuring import measure

        folder = Path(single_run[0])
        measured = measure("ours", folder, Path(single_run[1]), samples_memory=False)
        (folder / "measured.json").write_text(json.dumps(measured))
        return
    recorded_counts: Counts = json.loads(COUNTS_FILE.read_text()) if COUNTS_FILE.is_file() else {}
    counts = count_bytes()
    if keep:
        COUNTS_FILE.write_text(json.dumps(counts, indent=1) + "\n")
    click.echo(table(counts, recorded_counts))


if __name__ == "__main__":
    main()
