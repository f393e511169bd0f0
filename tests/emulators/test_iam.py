"""Permissions by account: the runner of a pipeline, the one who submits it, and a stranger."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1 as v1
from google.oauth2.credentials import Credentials

from checks.vertex_page import PAGE, read_blocks
from cli.errors import PushError
from emulators.vertex.iam import IamTable, parse_table
from pipeline.vertex import jobs
from serving.registry.vertex.connection import EMULATOR_ACCOUNT
from tests.pipeline.vertex.test_rehearsal import job, task
from tests.vertex_fixtures import ACCOUNT, ANSWERED_PARENT, Bench

pytestmark = pytest.mark.integration

ADA, BOB, STRANGER = "ada@example.com", "bob@example.com", "stranger@example.com"


@pytest.fixture
def accounts(bench: Bench) -> Bench:
    """Return a bench with the runner of the pipelines, Ada who submits them, and Bob who may read."""
    table = bench.server.emulator.iam
    assert table is not None
    roles = {ADA: frozenset({"roles/aiplatform.user"}), BOB: frozenset({"roles/aiplatform.viewer"})}
    bench.server.emulator.iam = replace(
        table, caller="", roles={**table.roles, **roles}, act_as={**table.act_as, ADA: frozenset({ACCOUNT})}
    )
    return bench


def test_the_runner_may_push_and_a_stranger_may_not(accounts: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATOR_ACCOUNT, ACCOUNT)
    accounts.push(0.1)
    assert accounts.serving() == {1: 100}
    monkeypatch.setenv(EMULATOR_ACCOUNT, STRANGER)
    with pytest.raises(PushError, match=f"permission denied.*{STRANGER}.*grant roles/aiplatform.user"):
        accounts.push(0.2, "run-2")
    monkeypatch.setenv(EMULATOR_ACCOUNT, BOB)
    assert accounts.serving() == {1: 100}
    with pytest.raises(PushError, match="permission denied"):
        accounts.push(0.2, "run-2")


def test_a_call_without_an_account_is_unauthenticated(accounts: Bench) -> None:
    client = v1.ModelServiceClient(
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": accounts.server.endpoint},
    )
    with pytest.raises(exceptions.Unauthenticated):
        client.get_model(name=f"{ANSWERED_PARENT}/models/none")


def test_a_job_is_submitted_by_one_account_and_runs_as_another(
    accounts: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for account, is_allowed in ((STRANGER, False), (BOB, False), (ADA, True)):
        monkeypatch.setenv(EMULATOR_ACCOUNT, account)
        small = job(task("a", f"assert os.environ[{EMULATOR_ACCOUNT!r}] == {ACCOUNT!r}"))
        small["serviceAccount"] = ACCOUNT
        if is_allowed:
            jobs.submit(accounts.vertex(), small, "small-1")
        else:
            with pytest.raises(PushError, match="permission denied"):
                jobs.submit(accounts.vertex(), small, "small-1")
    deadline = time.monotonic() + 60
    while (status := jobs.read_status(accounts.vertex(), "small-1")).state not in ("SUCCEEDED", "FAILED"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert (status.state, status.error) == ("SUCCEEDED", "")


def test_acting_as_an_account_takes_its_permission(accounts: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATOR_ACCOUNT, ADA)
    small = job(task("a"))
    small["serviceAccount"] = "other@my-project.iam.gserviceaccount.com"
    with pytest.raises(PushError, match="iam.serviceAccounts.actAs.*grant roles/iam.serviceAccountUser"):
        jobs.submit(accounts.vertex(), small, "small-1")


def test_the_token_of_a_client_of_googles_own_is_its_account(accounts: Bench) -> None:
    client = v1.ModelServiceClient(
        credentials=Credentials(token=BOB),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": accounts.server.endpoint},
    )
    assert [*client.list_models(parent=ANSWERED_PARENT)] == []
    with pytest.raises(exceptions.PermissionDenied, match=BOB):
        client.delete_model(name=f"{ANSWERED_PARENT}/models/none")


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"caller": ADA, "rolls": {}}, "expected caller, roles and act_as, found caller, rolls"),
        ({"caller": ADA}, "expected lists by account"),
        ({"roles": {f"user:{ADA}": []}, "act_as": {}}, f"user:{ADA}: expected the e-mail address alone"),
        ({"roles": {}, "act_as": {ADA: [f"serviceAccount:{ACCOUNT}"]}}, "expected the e-mail address alone"),
    ],
)
def test_a_table_that_is_wrong_is_one_line(table: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_table(json.loads(json.dumps(table)))


def test_a_table_is_read() -> None:
    table = parse_table({"roles": {ADA: ["roles/aiplatform.user"]}, "act_as": {}})
    assert table == IamTable("", {ADA: frozenset({"roles/aiplatform.user"})}, {})


def test_the_table_of_the_page_lets_its_people_submit_and_push() -> None:
    (block,) = [block for block in read_blocks(PAGE.read_text()) if block[0][1] == "{"]
    table = parse_table(json.loads("\n".join(line for _, line in block)))
    table.check_caller("CreatePipelineJob")
    table.check_acting(ACCOUNT)
    table.check_image(ACCOUNT)
    table.check_files(ACCOUNT)
