"""Resource names: responses have the project's number, whatever the request had."""

import pytest
from google.cloud import aiplatform_v1 as v1

from cli.errors import ConfigError
from serving.registry.vertex.config import VertexProject
from serving.registry.vertex.metadata_store import ensure_store, resolve_network
from serving.registry.vertex.names import build_metadata_id, is_same_resource
from tests.vertex_fixtures import ANSWERED_PARENT, PROJECT_NUMBER, Bench


def test_a_name_with_the_number_is_that_with_the_id() -> None:
    name = "projects/my-project/locations/europe-west4/models/census"
    assert is_same_resource(name, name.replace("my-project", PROJECT_NUMBER))
    assert not is_same_resource(name, name.replace("my-project", "other-project"))
    assert not is_same_resource(name, name.replace("europe-west4", "us-central1"))
    assert not is_same_resource(name, f"{name}-2")
    assert not is_same_resource(name, "census")


def test_a_request_with_the_id_or_the_number_gets_the_number(bench: Bench) -> None:
    bench.push(0.1)
    (by_id,) = bench.vertex().models.list_models(parent=bench.place.parent)
    (by_number,) = bench.vertex().models.list_models(parent=ANSWERED_PARENT)
    assert by_id.name == by_number.name == f"{ANSWERED_PARENT}/models/{bench.name}"
    (endpoint,) = bench.vertex().endpoints.list_endpoints(parent=bench.place.parent)
    assert {endpoint.name, endpoint.deployed_models[0].model} == {
        f"{ANSWERED_PARENT}/endpoints/{bench.name}",
        by_id.name,
    }


def test_a_config_may_name_the_project_by_its_number(bench: Bench) -> None:
    bench.push(0.1)
    place = bench.place.model_copy(update={"project": PROJECT_NUMBER})
    numbered = NumberedBench(**vars(bench), numbered_place=place)
    assert numbered.push(0.2, "run-2").traffic == {2: 100}
    assert len(bench.endpoint().deployed) == 2


class NumberedBench(Bench):
    """A bench whose config has the project's number."""

    def __init__(self, *, numbered_place: VertexProject, **values: object) -> None:
        super().__init__(**values)  # type: ignore[arg-type]
        self._place = numbered_place

    @property
    def place(self) -> VertexProject:
        return self._place


def test_a_network_is_sent_with_the_number_of_its_project(bench: Bench) -> None:
    vertex = bench.vertex()
    assert ensure_store(vertex) == f"{ANSWERED_PARENT}/metadataStores/default"
    numbered = f"projects/{PROJECT_NUMBER}/global/networks/vpc"
    assert resolve_network(vertex, "projects/my-project/global/networks/vpc") == numbered
    assert resolve_network(vertex, numbered) == numbered
    with pytest.raises(ConfigError, match="expected the number of project 'host-project'"):
        resolve_network(vertex, "projects/host-project/global/networks/vpc")


def test_ids_of_metadata_are_valid_and_never_shared() -> None:
    names = ["census", "census-income", "census_income", "c" * 63, f"{'c' * 62}d", f"{'c' * 62}_", "_" * 63]
    ids = [build_metadata_id("push", name) for name in names]
    assert len({*ids}) == len(names)
    assert ids[:2] == ["push-census", "push-census-income"]
    # The end of a name and the start of a key are not mixed up, nor is what is cut.
    pairs = [("a", "b-c"), ("a-b", "c"), ("a" * 63, "b" * 90 + "1"), ("a" * 63, "b" * 90 + "2")]
    ids += [build_metadata_id("r", *pair) for pair in pairs]
    assert len({*ids}) == len(names) + len(pairs)
    assert all(4 <= len(id_) <= 128 and set(id_) <= {*"abcdefghijklmnopqrstuvwxyz0123456789-"} for id_ in ids)


def test_a_filter_by_context_takes_the_number_only(bench: Bench) -> None:
    """`in_context("projects/<project_number>/...")`, as ListExecutionsRequest.filter says."""
    bench.push(0.1)
    client = bench.vertex().metadata
    store = ensure_store(bench.vertex())
    client.create_context(parent=store, context=v1.Context(display_name="c"), context_id="some-context")
    execution = client.create_execution(parent=store, execution=v1.Execution(display_name="e")).name
    context = f"{store}/contexts/some-context"
    client.add_context_artifacts_and_executions(context=context, executions=[execution])
    assert [e.name for e in client.list_executions({"parent": store, "filter": f'in_context("{context}")'})] == [
        execution
    ]
    by_id = context.replace(PROJECT_NUMBER, bench.place.project)
    assert not [*client.list_executions({"parent": store, "filter": f'in_context("{by_id}")'})]
