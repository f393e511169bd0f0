"""Makes the data, the traffic and the outcomes of docs/how-to/monitoring-walk.md, in the current folder.

`data` writes data/walk/span-1/rows.parquet and configs/walk.yaml. `traffic 1 --url URL` sends a thousand requests with
a planted shift, and writes labels-1.csv. `alerts --port 8502` prints the alerts that are posted there.
"""

import csv
import gzip
import http.server
import json
import urllib.request
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

# The planted shift: a client's form has mixed up two values.
_MIXED_UP = {"Married-civ-spouse": "Never-married", "Never-married": "Married-civ-spouse"}
_ROWS = 1000
_FIRST_SPAN_ROWS = 5000
_CONFIG: dict[str, Any] = {
    "name": "walk",
    "data": {
        "format": "parquet",
        "base": "../data/walk",
        "splits": {"train": {"files": "span-{SPAN}/*.parquet"}, "eval": {"source": "train", "fraction": 0.3}},
        "schema_file": "../schemas/census.pbtxt",
    },
    "monitoring": {"request_log": "../logs/walk"},
    "alerts": {"webhook_env": "ALERT_WEBHOOK"},
    "retrain": {"drift": True, "live_quality": True},
}


@click.group()
def main() -> None:
    """Make what docs/how-to/monitoring-walk.md needs."""


@main.command()
def data() -> None:
    """Write rows of census as the first span, and a config for it."""
    path = Path("data/walk/span-1/rows.parquet")
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(_read_rows("train")[:_FIRST_SPAN_ROWS]), path)
    config = yaml.safe_load(Path("configs/census.yaml").read_text()) | _CONFIG
    # The bounds of census are for all of its rows, and for data without a shift.
    config["evaluation"] |= {
        "split": "eval",
        "thresholds": [{"metric": "auc", "lower_bound": 0.8}],
        "challengers": {"linear": False, "trees": False},
    }
    Path("configs/walk.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    click.echo(f"{path} and configs/walk.yaml")


@main.command()
@click.argument("part", type=click.IntRange(1, 16))
@click.option("--url", required=True, help="URL of the model server.")
def traffic(part: int, url: str) -> None:
    """Send a thousand rows of the test data, one a request, with the shift; write their labels."""
    labels = [("person", "income")]
    for number, row in enumerate(_read_rows("test")[(part - 1) * _ROWS : part * _ROWS]):
        person = f"person-{part}-{number}"
        labels.append((person, row.pop("income")))
        row |= {"person": person, "marital_status": _MIXED_UP.get(row["marital_status"], row["marital_status"])}
        with urllib.request.urlopen(f"{url}/predict", json.dumps({"instances": [row]}).encode(), timeout=60) as answer:
            answer.read()
    with Path(f"labels-{part}.csv").open("w", newline="") as file:
        csv.writer(file).writerows(labels)
    click.echo(f"{len(labels) - 1:,} requests; labels-{part}.csv")


@main.command()
@click.option("--port", type=int, required=True)
def alerts(port: int) -> None:
    """Print the event and the text of each alert that is posted here, until Ctrl-C."""
    http.server.ThreadingHTTPServer(("127.0.0.1", port), _Receiver).serve_forever()


class _Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        alert = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()
        click.echo(f"event    {alert['event']}\n{alert['text']}")

    def log_message(self, *_: object) -> None:
        """Print no line for a request."""


def _read_rows(name: str) -> list[dict[str, Any]]:
    with gzip.open(f"data/census/{name}.csv.gz", "rt") as file:
        return [
            {column: _read_value(value) for column, value in row.items() if column != "fnlwgt"}
            for row in csv.DictReader(file)
        ]


def _read_value(text: str) -> int | str | None:
    if text in ("", "?"):
        return None
    return int(text) if text.isdigit() else text


if __name__ == "__main__":
    main()
