"""The model server beside the plain call of the same SavedModel, in one run on one machine.

    make run && python -m benchmarks.serving        # needs wrk: apt-get install wrk
    python -m benchmarks.serving --peers --peers-python PYTHON

PYTHON is that of an environment with tensorflow-cpu and any of fastapi with uvicorn, mlserver, litserve and bentoml.

Latency at half load is measured by an open loop: a request leaves when it is due, whether the last one is answered or
not. Its time counts from then; https://github.com/giltene/wrk2 gives the reason.
"""

import asyncio
import contextlib
import gc
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from serving.model.literal_paths import make_literal_path
from serving.registry import GOLDEN_FILE, LocalRegistry

_SECONDS = 8
_CONNECTIONS = 64
_OPEN_LOOP_CONNECTIONS = 32
_START_SECONDS = 180
_PEER_PROGRAM = Path(__file__).with_name("serving_peer_program.py")


@dataclass(frozen=True)
class Peer:
    """Another framework.

    Attributes:
      title: Its name.
      modules: Modules that it needs beside TensorFlow.
      path: Path of its predictions.
    """

    title: str
    modules: tuple[str, ...]
    path: str = "/predict"


PEERS = {
    "fastapi": Peer("FastAPI", ("fastapi", "uvicorn")),
    "mlserver": Peer("MLServer", ("mlserver",), "/v2/models/model/infer"),
    "litserve": Peer("LitServe", ("litserve",)),
    "bentoml": Peer("BentoML", ("bentoml",)),
}


def plain_call(folder: Path, row: dict[str, Any]) -> list[float]:
    """Return the milliseconds of calls of the signature with one row, as TensorFlow's guide has it."""
    import tensorflow as tf

    signature = tf.saved_model.load(make_literal_path(folder)).signatures["serving_default"]
    specs = signature.structured_input_signature[1]

    def call() -> None:
        outputs = signature(**{name: tf.constant([row[name]], spec.dtype) for name, spec in specs.items()})
        for value in outputs.values():
            value.numpy()

    return _time(call)


def session_call(folder: Path, row: dict[str, Any]) -> list[float]:
    """Return the milliseconds of calls of a session with one row, as the server has it."""
    from serving.model.session_model import SessionModel, list_specs

    model = SessionModel(folder)
    function, specs = model.build_function("serving_default"), list_specs(model.signatures["serving_default"].inputs)
    return _time(
        lambda: function({name: np.array([row[name]], spec.dtype.as_numpy_dtype) for name, spec in specs.items()})
    )


def _time(call: Callable[[], Any]) -> list[float]:
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
        script.write("wrk.headers['Content-Type'] = 'application/json'\n")
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
    """Return the milliseconds from when each request was due to its answer, at so many requests a second."""
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


def start_server(
    folder: Path, workers: int, *flags: str, program: Sequence[str] = ("serving",)
) -> tuple["subprocess.Popen[str]", str]:
    """Return a server that is ready, and its URL.

    Args:
      folder: Folder of the versions.
      workers: Processes of the server.
      flags: Further flags.
      program: Module that is the server, and arguments of its own.
    """
    command = [sys.executable, "-m", *program, "--model-dir", str(folder), "--port", "0", "--workers", str(workers)]
    process = subprocess.Popen(
        [*command, "--no-access-log", *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
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
    champion = versions.read_champion()
    if champion is None:
        raise click.ClickException(f"{versions.folder}: no version serves; make run pushes one")
    folder = versions.find_folder(champion)
    return folder, json.loads((folder / GOLDEN_FILE).read_text())["instances"][0]


@click.command()
@click.option("--registry", type=click.Path(path_type=Path), default=Path("runs/census-income/registry"))
@click.option("--model", default="census-income", show_default=True)
@click.option("--workers", default=1, show_default=True, help="Processes of the server.")
@click.option("--peers", is_flag=True, help="Measure FastAPI, MLServer, LitServe and BentoML, too.")
@click.option(
    "--peers-python",
    default=sys.executable,
    help="Python of the environment that has them, and TensorFlow.  [default: this one]",
)
def main(registry: Path, model: str, workers: int, peers: bool, peers_python: str) -> None:
    """Measure latency and throughput of the model server, and print the ratios."""
    versions = LocalRegistry(registry, model)
    champion, row = read_champion(versions)
    plain, session = plain_call(champion, row), session_call(champion, row)
    process, url = start_server(versions.folder, workers)
    try:
        measured = _measure(url, f"/v1/models/{model}:predict", row)
    finally:
        process.terminate()
        process.wait(60)
    console = Console(width=110)
    console.print(_table(measured, plain, session))
    if peers:
        console.print(_compare(champion, row, peers_python, measured), highlight=False)


def _compare(folder: Path, row: dict[str, Any], python: str, measured: dict[str, Any]) -> Table:
    """Return the table of the peers; print a line for each one that cannot be measured."""
    table = Table(box=None, title="single rows beside other frameworks", title_justify="left")
    for heading in ("", "p50 ms", "p99 ms", f"rows/s at {_CONNECTIONS}"):
        table.add_column(heading, justify="left" if not heading else "right")

    def add(title: str, alone: dict[str, float], full: dict[str, float]) -> None:
        table.add_row(title, f"{alone['p50']:.2f}", f"{alone['p99']:.2f}", f"{full['rate']:,.0f}")

    add("this server", measured["alone"], measured["full"])
    for name, peer in PEERS.items():
        missing = find_missing(python, ("tensorflow", *peer.modules))
        if missing:
            print(f"{peer.title}: is not measured: {python} has no {missing}")
            continue
        try:
            alone, full = measure_peer(name, folder, row, python)
        except (click.ClickException, subprocess.CalledProcessError) as error:
            print(f"{peer.title}: is not measured: {error}")
            continue
        add(peer.title, alone, full)
    return table


def find_missing(python: str, modules: tuple[str, ...]) -> str | None:
    """Return the first module that an environment does not have; None if it has all.

    Args:
      python: Python of the environment.
      modules: Names of the modules.
    """
    program = "import importlib.util, sys; print(*(m for m in sys.argv[1:] if importlib.util.find_spec(m) is None))"
    # Outside of this repository, whose packages the environment does not have.
    command = [python, "-c", program, *modules]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tempfile.gettempdir())
    except OSError as error:
        raise click.ClickException(f"--peers-python {python}: {error.strerror}") from error
    return next(iter(done.stdout.split()), None)


def measure_peer(
    name: str, folder: Path, row: dict[str, Any], python: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Return what `wrk` measures of a peer with one connection and with many.

    Args:
      name: Key of `PEERS`.
      folder: Folder of the SavedModel.
      row: A row.
      python: Python of the peers' environment.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [python, str(_PEER_PROGRAM), str(port)],
            cwd=tempfile.gettempdir(),
            env={**environment, "PEER": name, "PEER_MODEL": str(folder.absolute()), "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        url, body = f"http://127.0.0.1:{port}{PEERS[name].path}", _build_body(name, row)
        try:
            if not _wait_for_answer(process, url, body):
                errors.seek(0)
                lines = errors.read().decode(errors="replace").strip().splitlines() or ["it does not answer"]
                raise click.ClickException(lines[-1][:200])
            wrk(url, body, _CONNECTIONS)
            return wrk(url, body, 1), wrk(url, body, _CONNECTIONS)
        finally:
            _kill_tree(process)


def _kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """Kill a peer and the processes that it started, which may have sessions of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.wait()


def _build_body(name: str, row: dict[str, Any]) -> str:
    if name != "mlserver":
        return json.dumps({"instances": [row]})
    rows = {"name": "rows", "shape": [1], "datatype": "BYTES", "data": [json.dumps(row)]}
    return json.dumps({"inputs": [rows]})


def _wait_for_answer(process: "subprocess.Popen[bytes]", url: str, body: str) -> bool:
    request = urllib.request.Request(url, body.encode(), {"content-type": "application/json"})
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return b"probability" in answer.read()
        except OSError:
            # It does not listen yet.
            time.sleep(0.2)
    return False


def _measure(url: str, path: str, row: dict[str, Any]) -> dict[str, Any]:
    single_row, many_rows = (json.dumps({"instances": [row] * rows}) for rows in (1, 64))
    wrk(url + path, single_row, _CONNECTIONS)
    alone, full = wrk(url + path, single_row, 1), wrk(url + path, single_row, _CONNECTIONS)
    rows = wrk(url + path, many_rows, 4)
    host, port = url.removeprefix("http://").split(":")
    half = asyncio.run(open_loop(host, int(port), path, single_row, full["rate"] / 2))
    return {"alone": alone, "full": full, "rows": rows, "half": half}


def _table(measured: dict[str, Any], plain: list[float], session: list[float]) -> Table:
    alone, full, rows = measured["alone"], measured["full"], measured["rows"]
    p50, p99 = np.percentile(plain, [50, 99])
    half50, half99 = np.percentile(measured["half"], [50, 99])
    table = Table(box=None, title="census, single rows, load generator on the same two cores", title_justify="left")
    for heading in ("", "p50 ms", "p99 ms", "rows/s", ""):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row("plain SavedModel call", f"{p50:.2f}", f"{p99:.2f}", f"{1000 / np.mean(plain):,.0f}", "")
    session50, session99 = np.percentile(session, [50, 99])
    extra = f"p50 {p50 / session50:.1f} times as fast"
    rate = f"{1000 / np.mean(session):,.0f}"
    table.add_row("session call, as the server's", f"{session50:.2f}", f"{session99:.2f}", rate, extra)
    extra = f"p50 {alone['p50'] - session50:+.2f} ms over the session call"
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
