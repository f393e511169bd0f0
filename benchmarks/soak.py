"""A model server under all at once: hot swaps, killed workers, slow readers, slow bodies and garbage.

    make run && make soak                                  # ten minutes
    python -m benchmarks.soak --minutes 3

A valid request may be lost only on a connection of a worker that SIGKILL ends: the worker is stopped first, and its
connections are listed. Every answer is compared with the first one.
"""

import asyncio
import contextlib
import json
import math
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from serving.registry import GOLDEN_FILE, WARMUP_FILE, Candidate, LocalRegistry

CONNECTIONS = 64
_WORKERS = 2
_SLOW_READERS = _SLOW_BODIES = 4
_GARBAGE_CLIENTS = 4
_MAX_ROWS = 16
_ANSWER_SECONDS = 30.0
# Both of a whole soak; a short one has at least one of each.
_SWAP_SECONDS, _KILL_SECONDS = 10.0, 20.0
# Memory is flat if the last quarter's median is at most this far above the second quarter's.
_FLAT_BYTES, _FLAT_SHARE = 32 << 20, 0.05
_TOLERANCE = 1e-5
# The server takes at most 50, and its drain.
_STOP_SECONDS = 60.0


@dataclass
class Tally:
    """Counts of a soak.

    Attributes:
      seconds: Seconds of each valid request that was answered.
      rows: Rows of these requests.
      swaps: Changes of the champion that every worker followed.
      kills: Workers that SIGKILL ended.
      lost_in_killed: Valid requests on connections of these workers.
      losses: Other valid requests without a correct answer, each with its reason.
      garbage: Answers to garbage, by status; 0 where the connection was closed.
      slow_bytes: Bytes that slow readers got.
      resident_bytes: Memory of the worker that no signal ended, over time.
      exit_code: Exit code of the server after SIGTERM; None if it did not end in time.
    """

    seconds: list[float] = field(default_factory=list)
    rows: int = 0
    swaps: int = 0
    kills: int = 0
    lost_in_killed: int = 0
    losses: list[str] = field(default_factory=list)
    garbage: Counter[int] = field(default_factory=Counter)
    slow_bytes: int = 0
    resident_bytes: list[int] = field(default_factory=list)
    exit_code: int | None = None

    def quarters(self) -> tuple[float, float]:
        """Return the median memory of the second and of the last quarter."""
        size = len(self.resident_bytes) // 4
        second, last = self.resident_bytes[size : 2 * size], self.resident_bytes[-size:]
        return (statistics.median(second), statistics.median(last)) if size else (math.nan, math.nan)

    def list_breaches(self) -> list[str]:
        """Return what a soak must not show; empty if it passed."""
        breaches = [f"{len(self.losses):,} valid requests were lost: {self.losses[0]}"] if self.losses else []
        breaches += [] if self.seconds else ["no request was answered"]
        breaches += [] if self.swaps and self.kills else ["expected hot swaps and killed workers, found none"]
        errors = {status: count for status, count in self.garbage.items() if status >= 500}
        breaches += [f"garbage was answered with {errors}; expected 4xx"] if errors else []
        second, last = self.quarters()
        bound = second + max(_FLAT_BYTES, _FLAT_SHARE * second)
        if not last <= bound:
            breaches.append(f"memory is not flat: {last / 1e6:,.0f} MB at the end, bound {bound / 1e6:,.0f} MB")
        if self.exit_code != 0:
            breaches.append(f"SIGTERM: expected exit code 0, found {self.exit_code}")
        return breaches


class _AnswerError(Exception):
    """An answer is not the one that a request has to get."""


class _Connection:
    """One connection of HTTP/1.1, which stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.port: int = writer.get_extra_info("sockname")[1]
        self.is_open = True

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Return the status and the body of the answer."""
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        self.is_open = b"connection: close" not in head
        return int(head.split()[1]), body


class Soak:
    """Clients of one server, and what else happens to it.

    Attributes:
      tally: What was counted so far.
    """

    def __init__(self, registry: LocalRegistry, rows: list[dict[str, Any]], url: str, server: psutil.Process) -> None:
        self._registry, self._rows, self._server = registry, rows, server
        self._host, port = url.removeprefix("http://").split(":")
        self._port = int(port)
        self._path = f"/v1/models/{registry.name}:predict"
        self._random = random.Random(7)
        # Local ports of connections whose worker was killed.
        self._killed_ports: set[int] = set()
        self._answers: dict[int, dict[str, Any]] = {}
        self._ends = math.inf
        self.tally = Tally()

    @contextlib.asynccontextmanager
    async def _connect(self) -> AsyncIterator[_Connection]:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        connection = _Connection(reader, writer)
        # The kernel uses ports again.
        self._killed_ports.discard(connection.port)
        try:
            yield connection
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _build_request(self, body: bytes, path: str | None = None) -> bytes:
        head = f"POST {path or self._path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    async def run(self, seconds: float) -> None:
        """Send requests for so many seconds, and stop the server at their end."""
        started = time.monotonic()
        async with self._connect() as first:
            for index, row in enumerate(self._rows):
                status, body = await first.ask(self._build_request(json.dumps({"instances": [row]}).encode()))
                if status != 200:
                    raise click.ClickException(f"the server answers {status}: {body[:200]!r}")
                self._answers[index] = json.loads(body)["predictions"][0]
        self._ends = started + seconds
        tasks = [self._send_valid_requests() for _ in range(CONNECTIONS)]
        tasks += [self._read_slowly() for _ in range(_SLOW_READERS)]
        tasks += [self._send_slowly() for _ in range(_SLOW_BODIES)]
        tasks += [self._send_garbage(number) for number in range(_GARBAGE_CLIENTS)]
        tasks += [self._swap(min(_SWAP_SECONDS, seconds / 4)), self._kill(min(_KILL_SECONDS, seconds / 3))]
        await asyncio.gather(*tasks, self._measure())

    @property
    def _is_over(self) -> bool:
        return time.monotonic() >= self._ends

    async def _send_valid_requests(self) -> None:
        while not self._is_over:
            try:
                async with self._connect() as connection:
                    while connection.is_open and not self._is_over:
                        await self._ask_for_rows(connection)
            except OSError as error:
                # No request was sent yet; the port stays open while workers come and go.
                self.tally.losses.append(f"no connection: {error}")
                await asyncio.sleep(0.1)

    async def _ask_for_rows(self, connection: _Connection) -> None:
        indices = self._random.choices(range(len(self._rows)), k=self._random.randint(1, _MAX_ROWS))
        body = json.dumps({"instances": [self._rows[index] for index in indices]}).encode()
        started = time.perf_counter()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                status, answer = await connection.ask(self._build_request(body))
            self._check(indices, status, answer)
        except (OSError, EOFError, ValueError, _AnswerError, TimeoutError) as error:
            connection.is_open = False
            if connection.port in self._killed_ports:
                self.tally.lost_in_killed += 1
            else:
                self.tally.losses.append(f"{type(error).__name__}: {error}")
            return
        self.tally.seconds.append(time.perf_counter() - started)
        self.tally.rows += len(indices)

    def _check(self, indices: list[int], status: int, body: bytes) -> None:
        if status != 200:
            raise _AnswerError(f"status {status}: {body[:200]!r}")
        for index, row in zip(indices, json.loads(body)["predictions"], strict=True):
            for name, value in self._answers[index].items():
                if name == "model_version":
                    continue
                is_close = np.allclose(row[name], value, _TOLERANCE) if isinstance(value, float) else row[name] == value
                if not is_close:
                    raise _AnswerError(f"row {index}: {name}: expected {value}, found {row[name]}")

    async def _read_slowly(self) -> None:
        """Send requests without end, and read a few bytes of the answers now and then."""
        request = self._build_request(json.dumps({"instances": self._rows[:1] * 256}).encode())
        while not self._is_over:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                async with self._connect() as connection, asyncio.timeout(max(1.0, self._ends - time.monotonic())):
                    connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
                    connection.writer.write(request * 20)
                    while not self._is_over:
                        await asyncio.sleep(0.2)
                        connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
                        part = await connection.reader.read(512)
                        if not part:
                            break
                        self.tally.slow_bytes += len(part)
                        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(0.2)

    async def _send_slowly(self) -> None:
        """Send the body of a request byte by byte."""
        request = self._build_request(json.dumps({"instances": self._rows[:1]}).encode())
        while not self._is_over:
            with contextlib.suppress(OSError, EOFError):
                async with self._connect() as connection:
                    for byte in request:
                        if self._is_over:
                            break
                        connection.writer.write(bytes([byte]))
                        await connection.writer.drain()
                        await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)

    async def _send_garbage(self, seed: int) -> None:
        draw = random.Random(seed)
        while not self._is_over:
            await asyncio.sleep(0.02)
            with contextlib.suppress(OSError):
                async with self._connect() as connection:
                    connection.writer.write(self._make_garbage(draw))
                    if draw.random() < 0.2:
                        # Gone before its answer.
                        continue
                    with contextlib.suppress(EOFError, TimeoutError, ValueError):
                        async with asyncio.timeout(2):
                            head = await connection.reader.readuntil(b"\r\n")
                            self.tally.garbage[int(head.split()[1])] += 1
                            continue
                    self.tally.garbage[0] += 1

    def _make_garbage(self, draw: random.Random) -> bytes:
        noise = draw.randbytes(draw.randint(1, 4000))
        return draw.choice(
            [
                noise,
                self._build_request(noise),
                self._build_request(b'{"instances": [' + b"[" * 3000),
                self._build_request(json.dumps({"instances": [{"garbage": noise.hex()}]}).encode()),
                self._build_request(json.dumps({"instances": [1, None, "x"]}).encode()),
                self._build_request(b"{}", f"/v1/models/{noise[:8].hex()}:predict"),
                b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + noise,
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + noise,
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone",
            ]
        )

    async def _swap(self, period: float) -> None:
        """Promote the other version now and then; wait until the server follows."""
        while self._ends - time.monotonic() > period:
            await asyncio.sleep(period)
            champion = self._registry.read_champion()
            target = next(number for number in self._registry.list_numbers() if number != champion)
            await asyncio.to_thread(self._registry.promote, target, reason="soak")
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._wait_for(target)
                self.tally.swaps += 1
            except TimeoutError:
                self.tally.losses.append(f"version {target} was promoted, and is not served")

    async def _wait_for(self, version: int) -> None:
        """Wait until a worker serves a version."""
        get = f"GET /health HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode()
        while True:
            with contextlib.suppress(OSError, EOFError):
                async with self._connect() as connection:
                    if json.loads((await connection.ask(get))[1])["default"] == version:
                        return
            await asyncio.sleep(0.1)

    async def _kill(self, period: float) -> None:
        """Kill the worker that started last now and then; the first one lives to the end."""
        while self._ends - time.monotonic() > period:
            await asyncio.sleep(period)
            workers = self._list_workers()
            if len(workers) < _WORKERS:
                continue
            victim = workers[-1]
            # Stopped, it takes no further connection.
            victim.suspend()
            self._killed_ports |= {each.raddr.port for each in victim.net_connections("tcp") if each.raddr}
            victim.kill()
            self.tally.kills += 1

    def _list_workers(self) -> list[psutil.Process]:
        """Return the processes of the server that have a model, in the order of their starts."""
        children = [child for child in self._server.children() if "spawn_main" in " ".join(child.cmdline())]
        return sorted(children, key=lambda child: child.create_time())

    async def _measure(self) -> None:
        survivor = self._list_workers()[0]
        while not self._is_over:
            try:
                self.tally.resident_bytes.append(survivor.memory_info().rss)
            except psutil.NoSuchProcess:
                self.tally.losses.append(f"worker {survivor.pid} ended by itself")
                return
            await asyncio.sleep(0.5)


def _make_registry(folder: Path, source: Path, model: str) -> LocalRegistry:
    """Return a registry with two versions of one model, which differ in a file that no answer depends on."""
    registry = LocalRegistry(folder / "registry", model)
    golden, warmup = (source / GOLDEN_FILE).read_bytes(), source / WARMUP_FILE
    for number in (1, 2):
        copy = folder / f"model-{number}"
        shutil.copytree(source, copy)
        (copy / "assets").mkdir(exist_ok=True)
        (copy / "assets" / "soak.txt").write_text(str(number))
        candidate = Candidate(
            "soak",
            run_id=f"soak-{number}",
            folder=copy,
            golden=golden,
            warmup=warmup.read_bytes() if warmup.is_file() else b"",
        )
        registry.push(candidate)
    return registry


async def _start_server(registry: LocalRegistry) -> tuple[asyncio.subprocess.Process, str]:
    flags = ["--port", "0", "--workers", str(_WORKERS), "--poll", "0.5", "--no-access-log"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "serving", "--model-dir", str(registry.folder), *flags),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    ready: list[str] = []
    async for line in process.stdout:
        event = json.loads(line)
        ready += [event["http"]] if event["event"] == "ready" else []
        if len(ready) == _WORKERS:
            return process, ready[0]
    raise click.ClickException("the server does not start; python -m serving prints why")


async def soak(source: Path, model: str, seconds: float) -> Tally:
    """Run a soak, and return what it has counted.

    Args:
      source: Folder of a pushed version.
      model: Name of the model.
      seconds: Length of the soak.
    """
    rows = json.loads((source / GOLDEN_FILE).read_text())["instances"]
    with tempfile.TemporaryDirectory() as folder:
        registry = _make_registry(Path(folder), source, model)
        process, url = await _start_server(registry)
        assert process.stdout is not None
        # The events of the workers that start later.
        reading = asyncio.create_task(_drain(process.stdout))
        try:
            run = Soak(registry, rows, url, psutil.Process(process.pid))
            await run.run(seconds)
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    run.tally.exit_code = await process.wait()
            return run.tally
        finally:
            if process.returncode is None:
                process.kill()
            await reading


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass


def build_table(tally: Tally, seconds: float) -> Table:
    """Return the counts of a soak.

    Args:
      tally: What it has counted.
      seconds: Its length.
    """
    p50, p99 = np.percentile(tally.seconds or [math.nan], [50, 99]) * 1000
    second, last = tally.quarters()
    table = Table(box=None, show_header=False)
    statuses = ", ".join(f"{status or 'closed'}: {count:,}" for status, count in sorted(tally.garbage.items()))
    for name, value in (
        ("valid requests answered", f"{len(tally.seconds):,} in {seconds:g} s, at {CONNECTIONS} connections"),
        ("rows", f"{tally.rows:,}"),
        ("p50, p99", f"{p50:.1f} ms, {p99:.1f} ms"),
        ("hot swaps", f"{tally.swaps:,}"),
        ("workers killed", f"{tally.kills:,}"),
        ("lost with them", f"{tally.lost_in_killed:,}"),
        ("lost otherwise", f"{len(tally.losses):,}"),
        ("garbage, by answer", statuses or "none"),
        ("read slowly", f"{tally.slow_bytes:,} bytes"),
        ("memory, 2nd quarter", f"{second / 1e6:,.0f} MB, of the worker that lived throughout"),
        ("memory, last quarter", f"{last / 1e6:,.0f} MB"),
        ("exit code", str(tally.exit_code)),
    ):
        table.add_row(name, value)
    return table


@click.command()
@click.option("--registry", type=click.Path(path_type=Path), default=Path("runs/census-income/registry"))
@click.option("--model", default="census-income", show_default=True)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True)
def main(registry: Path, model: str, minutes: float) -> None:
    """Soak the model server, print the counts, and exit with 1 if a request was lost or memory grew."""
    versions = LocalRegistry(registry, model)
    champion = versions.read_champion()
    if champion is None:
        raise click.ClickException(f"{versions.folder}: no version serves; make run pushes one")
    tally = asyncio.run(soak(versions.find_folder(champion), model, minutes * 60))
    Console(width=110).print(build_table(tally, minutes * 60))
    breaches = tally.list_breaches()
    for breach in breaches:
        print(f"error: {breach}", file=sys.stderr)
    sys.exit(1 if breaches else 0)


if __name__ == "__main__":
    main()
