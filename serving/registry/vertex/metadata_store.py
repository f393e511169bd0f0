"""The default store of Vertex ML Metadata, and the project's number, which the name of the store has."""

from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1

from cli.errors import ConfigError
from serving.registry.vertex.connection import VertexClient
from serving.registry.vertex.names import find_project_number


def ensure_store(vertex: VertexClient) -> str:
    """Return the default metadata store's name, as the service spells it; create it in a project that has none."""
    name = f"{vertex.place.parent}/metadataStores/default"
    get = v1.GetMetadataStoreRequest(name=name)
    try:
        return str(vertex.read(vertex.metadata.get_metadata_store, get).name)
    except exceptions.NotFound:
        request = v1.CreateMetadataStoreRequest(parent=vertex.place.parent, metadata_store_id="default")
    try:
        started = vertex.retry(lambda: vertex.call(vertex.metadata.create_metadata_store, request), seconds=120)
        vertex.wait(vertex.metadata, started.operation.name, seconds=300)
    except exceptions.AlreadyExists:
        vertex.settle(vertex.metadata, name, seconds=300)
    return str(vertex.read(vertex.metadata.get_metadata_store, get).name)


def resolve_network(vertex: VertexClient, network: str) -> str:
    """Return a VPC network with the number of its project: Vertex AI's jobs do not take the id.

    Raises:
      ConfigError: the network is of another project, whose number Vertex AI does not know.
    """
    _, project, rest = network.split("/", 2)
    if project.isdecimal():
        return network
    if project != vertex.place.project:
        raise ConfigError(
            f"vertex.network: expected the number of project '{project}', such as projects/123456789/{rest}, found its "
            f"id; `gcloud projects describe {project}` prints it"
        )
    return f"projects/{find_project_number(ensure_store(vertex))}/{rest}"
