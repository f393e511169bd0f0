"""A rollback or a promotion that deploys a version again does so as its push did."""

import pytest

from cli.errors import PushError
from emulators.vertex.iam import IamTable
from serving.registry.vertex.config import VertexProject
from serving.registry.vertex.connection import VertexClient
from serving.registry.vertex.registry import open_deployed
from serving.registry.vertex.rollout import Rollout
from tests.vertex_fixtures import ACCOUNT, BUCKET, PROJECT, REGION, Bench

KEY = "projects/my-project/locations/europe-west4/keyRings/ring/cryptoKeys/key"


class BenchWithAccount(Bench):
    """A bench with a service account, a CMEK key and labels in the config."""

    @property
    def place(self) -> VertexProject:
        values = {"service_account": ACCOUNT, "cmek_key": KEY, "labels": {"team": "risk"}}
        return super().place.model_copy(update=values)


def test_a_rollback_deploys_with_account_key_labels_and_machines_of_the_push(bench: Bench) -> None:
    own = BenchWithAccount(**vars(bench))
    own.deployment = own.deployment.model_copy(update={"machine_type": "n1-highmem-4", "keep_deployed": 1})
    own.push(0.1)
    own.push(0.2, "run-2")
    (deployed,) = own.endpoint().deployed
    client = own.vertex().endpoints
    name = own.endpoint().resource
    client.undeploy_model(endpoint=name, deployed_model_id=deployed.id).result()
    client.delete_endpoint(name=name).result()

    # The command knows neither account nor key nor labels.
    flags = VertexProject(
        project=PROJECT, region=REGION, staging=f"gs://{BUCKET}/root", api_endpoint=bench.server.endpoint
    )
    open_deployed(VertexClient(flags, poll_seconds=0.02), own.name, None).roll_back()
    endpoint = client.get_endpoint(name=f"{own.place.parent}/endpoints/{own.name}")
    assert endpoint.encryption_spec.kms_key_name == KEY
    assert dict(endpoint.labels) == {"team": "risk", "pipeline": "census-income"}
    (again,) = endpoint.deployed_models
    assert (again.model_version_id, again.service_account) == ("1", ACCOUNT)
    assert again.dedicated_resources.machine_spec.machine_type == "n1-highmem-4"


def test_an_endpoint_without_the_configured_key_is_named(bench: Bench) -> None:
    bench.push(0.1)
    with pytest.raises(PushError, match=r"endpoints/census-income is encrypted with no key of yours; vertex.cmek_key"):
        BenchWithAccount(**vars(bench)).push(0.2, "run-2")
    assert len(bench.model().versions) == 1


def test_an_own_container_has_routes_and_googles_keeps_its_own(bench: Bench) -> None:
    bench.push(0.1)
    (model,) = bench.vertex().models.list_models(parent=bench.place.parent)
    assert (model.container_spec.predict_route, model.container_spec.health_route) == ("/predict", "/health")
    prebuilt = "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
    deployment = bench.deployment.model_copy(update={"serving_image": prebuilt})
    assert Rollout(bench.vertex(), deployment, bench.name).build_container().predict_route == ""


def test_operations_of_a_model_that_does_not_exist_are_none(bench: Bench) -> None:
    name = f"{bench.place.parent}/models/none"
    assert bench.vertex().list_operations(bench.vertex().models, name) == []
    for code in ("NOT_FOUND", "INVALID_ARGUMENT"):
        bench.fault(method="ListOperations", code=code)
        assert bench.vertex().list_operations(bench.vertex().models, name) == []


@pytest.mark.parametrize(
    ("roles", "acts", "missing"),
    [
        ({"roles/storage.objectViewer"}, True, "roles/artifactregistry.reader"),
        ({"roles/artifactregistry.reader"}, True, "roles/storage.objectAdmin"),
        ({"roles/storage.objectViewer", "roles/artifactregistry.reader"}, False, "roles/iam.serviceAccountUser"),
    ],
)
def test_a_role_that_the_account_lacks_is_named(bench: Bench, roles: set[str], acts: bool, missing: str) -> None:
    bench.server.emulator.iam = IamTable(
        caller="user:ada@example.com",
        roles={"user:ada@example.com": frozenset({"roles/aiplatform.user"}), ACCOUNT: frozenset(roles)},
        act_as={"user:ada@example.com": frozenset({ACCOUNT} if acts else ())},
    )
    with pytest.raises(PushError, match=f"permission denied: .*grant {missing}"):
        BenchWithAccount(**vars(bench)).push(0.1)
    assert bench.serving() == {}
