"""The model server with traces and the same server without, by turns on one machine.

    make run && python -m benchmarks.traces        # needs wrk: apt-get install wrk

Each round starts both, one after the other. A thread of this process takes the traces, on the same cores.
`benchmarks.request_log` describes the intervals.
"""

import contextlib
import http.server
import json
import threading
from pathlib import Path

import click

from benchmarks.request_log import CONNECTIONS, find_interval, open_server
from benchmarks.serving import read_champion
from serving.registry import LocalRegistry

_WARM_UP_SECONDS = 2


class _Receiver(http.server.BaseHTTPRequestHandler):
    """Takes traces and drops them."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@click.command()
@click.option("--registry", type=click.Path(path_type=Path), default=Path("runs/census-income/registry"))
@click.option("--model", default="census-income", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=12, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=4, show_default=True, help="Length of a measurement.")
def main(registry: Path, model: str, rounds: int, seconds: int) -> None:
    """Measure with and without traces, and print the ratios with their intervals."""
    versions = LocalRegistry(registry, model)
    _, row = read_champion(versions)
    body = json.dumps({"instances": [row]})
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Receiver))
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        stack.callback(receiver.shutdown)
        endpoint = f"http://127.0.0.1:{receiver.server_port}"

        flags = {"without": (), "traced": ("--otlp-endpoint", endpoint)}
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in flags}
        for _ in range(rounds):
            for name, each in flags.items():
                with open_server(versions.folder, *each) as server:
                    server.measure(body, _WARM_UP_SECONDS, CONNECTIONS)
                    measured[name].append(server.measure(body, seconds, CONNECTIONS))
    print(f"with traces, of those without, at {CONNECTIONS} connections, {rounds} rounds:")
    for key, title in (("rate", "rows a second"), ("cpu", "processor time a request")):
        pairs = zip(measured["traced"], measured["without"], strict=True)
        print(f"  {title}: {find_interval([traced[key] / without[key] for traced, without in pairs])}")


if __name__ == "__main__":
    main()
