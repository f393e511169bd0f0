"""The process that writes the log: what it gathers for one write, and what ends it."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pytest

from serving.request_log.layout import LogLayout
from serving.request_log.messages import LogReport, LogRows, LogStart, LogTable, RequestRecord, write_message
from serving.request_log.settings import RequestLogSettings
from serving.request_log.shards import ERROR, ID, list_shards, read_rows


@pytest.fixture
def process(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Return a process that writes the log of model `shop` in the folder of the test, without columns of a model."""
    command = [sys.executable, "-m", "serving.request_log.process"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        write_message(cast(BinaryIO, started.stdin), LogStart(RequestLogSettings(tmp_path), "shop"))
        yield started


def build_rows(identity: str) -> LogRows:
    request = RequestRecord(identity, 1_000_000, 1, None, "size: too large", 3, b"", 0)
    return LogRows(0, None, [tuple(request)], 1, 7)


def end(process: "subprocess.Popen[bytes]", rest: bytes = b"") -> list[LogReport]:
    """Write the last bytes to a process, and return its reports."""
    output, _ = process.communicate(rest, timeout=120)
    assert process.returncode == 0
    reports, buffer = [], pa.BufferReader(output)
    while buffer.tell() < len(output):
        reports.append(pickle.load(buffer))
    return reports


def read(folder: Path) -> list[tuple[str, str]]:
    return [(row[ID], row[ERROR]) for batch in read_rows(list_shards(folder)) for row in batch.to_pylist()]


def test_all_messages_are_written(tmp_path: Path, process: "subprocess.Popen[bytes]") -> None:
    incoming = cast(BinaryIO, process.stdin)
    write_message(incoming, LogTable(0, LogLayout()))
    for number in range(3):
        write_message(incoming, build_rows(str(number)))
    reports = end(process)
    assert sum(report.rows for report in reports) == sum(report.logged for report in reports) == 3
    assert sum(report.size for report in reports) == 21
    assert read(tmp_path) == [(str(number), "size: too large") for number in range(3)]


def test_a_message_that_cannot_be_read_ends_it(tmp_path: Path, process: "subprocess.Popen[bytes]") -> None:
    incoming = cast(BinaryIO, process.stdin)
    write_message(incoming, LogTable(0, LogLayout()))
    write_message(incoming, build_rows("before"))
    (report,) = [report for report in end(process, b"this is not a message") if report.rows]
    assert (report.rows, report.logged) == (1, 1)
    assert read(tmp_path) == [("before", "size: too large")]
