"""The model server beside the plain call of the same SavedModel, in one run on one machine.

    make run && python -m benchmarks.serving        # needs wrk: apt-get install wrk

Latency at half load is measured by an open loop: a request leaves when it is due, whether the last one is answered or
not. Its time counts from then; https://github.com/giltene/wrk2 gives the reason.
"""

import asyncio
import gc
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from serving.model.literal_paths import literal_path
from serving.registry import GOLDEN_FILE, LocalRegistry

_SECONDS = 8
_CONNECTIONS = 64
_OPEN_LOOP_CONNECTIONS = 32


def plain_call(folder: Path, row: dict[str, Any]) -> list[float]:
    """Milliseconds of calls of the signature with one row, as TensorFlow's guide has it."""
    import tensorflow as tf

    signature = tf.saved_model.load(literal_path(folder)).signatures["serving_default"]
    specs = signature.structured_input_signature[1]

    def call() -> None:
        outputs = signature(**{name: tf.constant([row[name]], spec.dtype) for name, spec in specs.items()})
        for value in outputs.values():
            value.numpy()

    for _ in range(200):
        call()
    times = []
    for _ in range(2000):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1000)
    return times


def wrk(url: str, body: str, connections: int, seconds: float = _SECONDS) -> dict[str, float]:
    """Return requests a second, and milliseconds at the 50th and 99th percentile, as fast as they are answered."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"wrk.method = 'POST'\nwrk.body = [==[{body}]==]\n")
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", "-s", script.name, url]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output:
        raise click.ClickException(f"not every request was answered:\n{output}")
    return {
        "rate": float(re.findall(r"Requests/sec:\s+([\d.]+)", output)[0]),
        **{f"p{p}": _milliseconds(output, p) for p in (50, 99)},
    }


def _milliseconds(output: str, percentile: int) -> float:
    number, unit = re.findall(rf"^\s+{percentile}%\s+([\d.]+)(us|ms|s)", output, re.MULTILINE)[0]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


async def open_loop(host: str, port: int, path: str, body: str, rate: float) -> list[float]:
    """Milliseconds from when each request was due to its answer, at so many requests a second."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    request = (head + body).encode()
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(_OPEN_LOOP_CONNECTIONS):
        free.put_nowait(await asyncio.open_connection(host, port))
    times: list[float] = []

    async def send_request(due: float) -> None:
        reader, writer = await free.get()
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        (length,) = re.findall(rb"content-length: (\d+)", answer)
        await reader.readexactly(int(length))
        assert answer.startswith(b"HTTP/1.1 200"), answer
        times.append((time.perf_counter() - due) * 1000)
        free.put_nowait((reader, writer))

    tasks = []
    # The generator's own pauses are not the server's.
    gc.collect()
    gc.disable()
    started = time.perf_counter()
    for number in range(int(rate * _SECONDS)):
        due = started + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(send_request(due)))
    await asyncio.gather(*tasks)
    # The first second warms up.
    return times[int(rate) :]


def start_server(folder: Path, workers: int, *flags: str) -> tuple["subprocess.Popen[str]", str]:
    """Return a server that is ready, and its URL."""
    command = [sys.executable, "-m", "serving", "--model-dir", str(folder), "--port", "0", "--workers", str(workers)]
    process = subprocess.Popen(
        [*command, "--no-access-log", *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        answer = json.loads(line)
        if answer["event"] == "ready":
            return process, str(answer["http"])
    raise click.ClickException("the server did not start")


def read_champion(versions: LocalRegistry) -> tuple[Path, dict[str, Any]]:
    """Return the folder of the serving version, and a row that it takes.

    Raises:
      ClickException: there is no such version, or no wrk.
    """
    if shutil.which("wrk") is None:
        raise click.ClickException("wrk is not here; apt-get install wrk")
    champion = versions.champion()
    if champion is None:
        raise click.ClickException(f"{versions.folder}: no version serves; make run pushes one")
    folder = versions.path(champion)
    return folder, json.loads((folder / GOLDEN_FILE).read_text())["instances"][0]


@click.command()
@click.option("--registry", type=click.Path(path_type=Path), default=Path("runs/census-income/registry"))
@click.option("--model", default="census-income", show_default=True)
@click.option("--workers", default=1, show_default=True, help="Processes of the server.")
def main(registry: Path, model: str, workers: int) -> None:
    """Measure latency and throughput of the model server, and print the ratios."""
    versions = LocalRegistry(registry, model)
    champion, row = read_champion(versions)
    plain = plain_call(champion, row)
    process, url = start_server(versions.folder, workers)
    try:
        measured = _measure(url, f"/v1/models/{model}:predict", row)
    finally:
        process.terminate()
        process.wait(60)
    Console(width=110).print(_table(measured, plain))


def _measure(url: str, path: str, row: dict[str, Any]) -> dict[str, Any]:
    single_row, many_rows = (json.dumps({"instances": [row] * rows}) for rows in (1, 64))
    wrk(url + path, single_row, _CONNECTIONS)
    alone, full = wrk(url + path, single_row, 1), wrk(url + path, single_row, _CONNECTIONS)
    rows = wrk(url + path, many_rows, 4)
    host, port = url.removeprefix("http://").split(":")
    half = asyncio.run(open_loop(host, int(port), path, single_row, full["rate"] / 2))
    return {"alone": alone, "full": full, "rows": rows, "half": half}


def _table(measured: dict[str, Any], plain: list[float]) -> Table:
    alone, full, rows = measured["alone"], measured["full"], measured["rows"]
    p50, p99 = np.percentile(plain, [50, 99])
    half50, half99 = np.percentile(measured["half"], [50, 99])
    table = Table(box=None, title="census, single rows, load generator on the same two cores", title_justify="left")
    for heading in ("", "p50 ms", "p99 ms", "rows/s", ""):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row("plain SavedModel call", f"{p50:.2f}", f"{p99:.2f}", f"{1000 / np.mean(plain):,.0f}", "")
    extra = f"p50 {alone['p50'] - p50:+.2f} ms over the plain call"
    table.add_row("server, 1 connection", f"{alone['p50']:.2f}", f"{alone['p99']:.2f}", f"{alone['rate']:,.0f}", extra)
    extra = f"p99 {half99 / half50:.1f} times p50"
    table.add_row("server, half load", f"{half50:.2f}", f"{half99:.2f}", f"{full['rate'] / 2:,.0f}", extra)
    extra = f"{full['rate'] / alone['rate']:.1f} times one by one"
    table.add_row(
        f"server, {_CONNECTIONS} connections", f"{full['p50']:.2f}", f"{full['p99']:.2f}", f"{full['rate']:,.0f}", extra
    )
    extra = f"{rows['rate'] * 64 / alone['rate']:.0f} times one by one"
    table.add_row(
        "server, 64 rows a request", f"{rows['p50']:.2f}", f"{rows['p99']:.2f}", f"{rows['rate'] * 64:,.0f}", extra
    )
    return table


if __name__ == "__main__":
    main()
