"""The interval of a median of ratios, a writer's memory, the table, and a server whose log is switched off and on."""

import json
import re
import subprocess
import urllib.request
from pathlib import Path

import psutil
import pytest

from benchmarks.request_log import Feature, MeasuredServer, find_interval, open_switched_server, print_ratios
from serving.request_log.shards import ID, list_shards, read_rows
from tests.serving.models import ROW, export_model, push
from tests.serving.running import registry_of


@pytest.mark.parametrize(("rounds", "low", "high"), [(1, 1, 1), (5, 1, 5), (6, 1, 6), (10, 2, 9), (12, 3, 10)])
def test_ordered_ratios_bound_the_median(rounds: int, low: int, high: int) -> None:
    interval = find_interval([float(number) for number in range(rounds, 0, -1)])
    assert interval.median == (rounds + 1) / 2
    # Conover, Practical Nonparametric Statistics, 1999, section 3.2.
    assert (interval.low, interval.high) == (low, high)


def test_the_memory_of_the_process_that_writes_is_printed() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        process = psutil.Process(server.pid)
        (writer,) = process.children()
        try:
            assert re.fullmatch(r"writer uss \d+ MB, rss \d+ MB", MeasuredServer("", process).describe_writer())
            assert MeasuredServer("", writer).describe_writer() == ""
        finally:
            writer.kill()


def test_a_ratio_is_to_the_same_server_with_the_feature_off(capsys: pytest.CaptureFixture[str]) -> None:
    off, again, on = (
        {"p99": 20.0 * factor, "rate": 5000 / factor, "cpu": 200 * factor, "call": 32.0} for factor in (1, 1.01, 1.25)
    )
    measured = {"sample 0.1": {"off": [off], "off, again": [again], "on": [on]}}
    print_ratios("census", measured, {"sample 0.1": "5 rows"})
    *_, base, chance, cost = (line.strip() for line in capsys.readouterr().out.splitlines())
    assert re.split(" {2,}", base) == ["sample 0.1", "off", "20.00", "5,000", "200", "32"]
    assert re.split(" {2,}", chance)[:2] == ["off, again", "20.20"]
    ratios = ["1.250 (1.250 to 1.250)", "0.800 (0.800 to 0.800)", "1.250 (1.250 to 1.250)", "5 rows"]
    assert re.split(" {2,}", cost) == ["on", "25.00", "4,000", "250", "32", *ratios]


@pytest.mark.integration
def test_a_switched_server_logs_what_comes_while_it_is_on(tmp_path: Path) -> None:
    registry, log = registry_of(tmp_path / "registry"), tmp_path / "log"
    push(registry, export_model(tmp_path / "model"))
    body = json.dumps({"instances": [ROW]}).encode()
    with open_switched_server(registry.folder, Feature("request_log", ("--log-requests", str(log)))) as server:

        def ask(identity: str) -> None:
            request = urllib.request.Request(f"{server.url}/predict", body, {"x-request-id": identity})
            urllib.request.urlopen(request, timeout=30).close()

        ask("on")
        server.switch(is_on=False)
        ask("off")
        server.switch(is_on=False)
        ask("off, again")
        server.switch(is_on=True)
        ask("on, again")
        assert server.read_total("batch_rows_sum") == 4
    rows = [row for batch in read_rows(list_shards(log), [ID]) for row in batch.to_pylist()]
    assert [row[ID] for row in rows] == ["on", "on, again"]
