"""Leases and records in ML Metadata."""

import pytest
from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1

from serving.registry.vertex.lease import Lease, read_history, record
from serving.registry.vertex.metadata_store import ensure_store
from serving.registry.vertex.names import build_metadata_id
from tests.vertex_fixtures import Bench

LONG = "c" * 62


@pytest.mark.parametrize("name", ["census_income", "_", f"{LONG}a"])
def test_every_model_id_has_a_lease_and_a_history(bench: Bench, name: str) -> None:
    with Lease(bench.vertex(), name, "census-income", "run-1"):
        record(bench.vertex(), name, "push", {"version": 1}, key="v1-run_1")
    assert [event["version"] for event in read_history(bench.vertex(), name)] == [1]


def test_names_that_differ_in_their_last_letter_share_nothing(bench: Bench) -> None:
    with Lease(bench.vertex(), f"{LONG}a", "a", "run-a"), Lease(bench.vertex(), f"{LONG}b", "b", "run-b"):
        for name in ("a", "b"):
            record(bench.vertex(), f"{LONG}{name}", "push", {"version": 1}, key="v1-run-1")
    for name in ("a", "b"):
        assert len(read_history(bench.vertex(), f"{LONG}{name}")) == 1


def test_a_change_is_recorded_once_and_a_strangers_name_loses_none(bench: Bench) -> None:
    for _ in range(2):
        record(bench.vertex(), "census", "push", {"version": 1}, key="v1-run-1")
    stranger = v1.Execution(display_name="stranger")
    taken = build_metadata_id("r", "census", "push", "v2-run-2")
    bench.vertex().metadata.create_execution(
        parent=ensure_store(bench.vertex()), execution=stranger, execution_id=taken
    )
    record(bench.vertex(), "census", "push", {"version": 2}, key="v2-run-2")
    assert [event["version"] for event in read_history(bench.vertex(), "census")] == [1, 2]


def test_schemas_are_registered_before_they_are_used(bench: Bench) -> None:
    store = ensure_store(bench.vertex())
    client = bench.vertex().metadata
    unknown = v1.Context(schema_title="referencetfx.PushLease", schema_version="0.0.1")
    with pytest.raises(exceptions.InvalidArgument, match="is not registered"):
        client.create_context(parent=store, context=unknown, context_id="some-context")
    for run in ("run-1", "run-2"):
        with Lease(bench.vertex(), "census", "census", run):
            pass
    record(bench.vertex(), "census", "push", {"version": 1})
    titles = {schema.schema.splitlines()[0] for schema in client.list_metadata_schemas(parent=store)}
    assert titles == {"title: referencetfx.PushLease", "title: referencetfx.Release"}
