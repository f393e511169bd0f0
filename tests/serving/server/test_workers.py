"""Several workers are one server: they share TLS, tokens, the split, the metrics and the folder of the request log."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from serving.request_log.shards import KEY
from tests.serving.certificates import Certificates
from tests.serving.models import ROW, export_model, push
from tests.serving.running import RunningServer, ask, registry_of
from tests.serving.server.test_access import TOKEN, write_tokens
from tests.serving.server.test_request_log import read
from tests.serving.server.test_split import KEYS, SHARE, expect_version

pytestmark = pytest.mark.integration


def test_several_workers_answer_split_count_and_log_as_one_server(tmp_path: Path) -> None:
    registry = registry_of(tmp_path / "registry")
    for number, offset in enumerate((-5.0, -3.0), start=1):
        push(registry, export_model(tmp_path / str(number), offset), run_id=f"run-{number}", promote=number == 1)
    certificates = Certificates(tmp_path / "certificates")
    context = certificates.client_context()
    flags = [*certificates.flags(), "--token-file", str(write_tokens(tmp_path / "tokens", TOKEN))]
    flags += ["--split", f"candidate={SHARE}", "--no-access-log"]
    flags += ["--log-requests", str(tmp_path / "log"), "--sample", "0.5", "--log-key", "customer"]
    with RunningServer("--model-dir", str(registry.folder), "--workers", "2", *flags) as server:

        def send(path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
            """Send a request by a connection of its own, which comes to either worker."""
            data = None if body is None else json.dumps({"instances": [body]}).encode()
            return ask(urllib.request.Request(f"{server.url}{path}", data, headers), context)

        token = {"authorization": f"Bearer {TOKEN}"}
        assert send("/predict", ROW)[0] == 401
        for key in KEYS * 3:
            code, content = send("/predict", ROW, **token, **{"x-split-key": key})
            assert code == 200, content
            assert content["predictions"][0]["model_version"] == str(expect_version(registry, key))
        customers = [f"c{number}" for number in range(200)]
        for customer in customers * 2:
            assert send("/predict", {**ROW, "customer": customer}, **token)[0] == 200
        counts = re.findall(r"^model_server_rows_total\{\S+ (\S+)$", send("/metrics", **token)[1], re.MULTILINE)
        assert (len(counts), sum(map(float, counts))) == (2, len(KEYS * 3 + customers * 2))
        assert server.stop() == 0
    # Both requests of a key are in the sample, or none.
    logged = [row[KEY] for row in read(tmp_path / "log", 0, [KEY]) if row[KEY] is not None]
    assert 60 < len({*logged}) < 140
    assert all(logged.count(key) == 2 for key in logged)
    assert {path.suffix for path in (tmp_path / "log").iterdir()} == {".parquet"}
