"""The model server with traces beside the same server without, in interleaved rounds on one machine.

    make run && python -m benchmarks.traces        # needs wrk: apt-get install wrk

A thread of this process takes the traces, on the same cores. `benchmarks.request_log` describes the rounds.
"""

import contextlib
import http.server
import json
import threading
from pathlib import Path

import click

from benchmarks.request_log import CONNECTIONS, MeasuredServer, find_interval, measure_rounds, open_server
from benchmarks.serving import read_champion
from serving.registry import LocalRegistry


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

        def start(servers: contextlib.ExitStack) -> dict[str, MeasuredServer]:
            return {
                "no traces": open_server(servers, versions.folder),
                "traces": open_server(servers, versions.folder, "--otlp-endpoint", endpoint),
            }

        measured, _ = measure_rounds(start, lambda _: "", body, rounds, seconds)
    print(f"with traces, of those without, at {CONNECTIONS} connections, {rounds} rounds:")
    for key, title in (("rate", "rows a second"), ("cpu", "processor time a request")):
        without, traced = ([result[key] for result in measured[name]] for name in measured)
        print(f"  {title}: {find_interval([a / b for a, b in zip(traced, without, strict=True)])}")


if __name__ == "__main__":
    main()
