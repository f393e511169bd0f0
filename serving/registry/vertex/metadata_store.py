"""The default store of Vertex ML Metadata, its schemas, and the project's number, which its name has."""

from contextlib import suppress
from dataclasses import dataclass

from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1

from cli.errors import ConfigError
from serving.registry.vertex.connection import VertexClient
from serving.registry.vertex.names import build_metadata_id, find_project_number

SCHEMA_VERSION = "0.0.1"


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
      ConfigError: the network is of another project, whose number Vertex AI does not have.
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


@dataclass(frozen=True)
class RecordSchema:
    """A schema of contexts or executions, which the store has to hold before one of them names it.

    The rules of the title: https://cloud.google.com/vertex-ai/docs/ml-metadata/custom-schemas.

    Attributes:
      title: Namespace of lowercase letters and digits, and name of letters and digits, such as `referencetfx.Release`.
      type: Kind of resources that have the schema, a v1.MetadataSchema.MetadataSchemaType.
      strings: Names of fields that are strings; other fields are allowed.
    """

    title: str
    type: int
    strings: tuple[str, ...]

    @property
    def schema_id(self) -> str:
        """ID in the store."""
        return build_metadata_id(*self.title.lower().split("."), "v0-0-1")

    def ensure_registered(self, vertex: VertexClient, store: str) -> None:
        """Register the schema, unless the store has it."""
        get = v1.GetMetadataSchemaRequest(name=f"{store}/metadataSchemas/{self.schema_id}")
        try:
            vertex.read(vertex.metadata.get_metadata_schema, get)
        except exceptions.NotFound:
            fields = "".join(f"  {name}:\n    type: string\n" for name in self.strings)
            text = f"title: {self.title}\ntype: object\nproperties:\n{fields}"
            schema = v1.MetadataSchema(schema=text, schema_version=SCHEMA_VERSION, schema_type=self.type)
            request = v1.CreateMetadataSchemaRequest(
                parent=store, metadata_schema=schema, metadata_schema_id=self.schema_id
            )
            with suppress(exceptions.AlreadyExists):
                # By another push, or by an attempt whose answer was lost.
                vertex.retry(lambda: vertex.call(vertex.metadata.create_metadata_schema, request), seconds=120)
