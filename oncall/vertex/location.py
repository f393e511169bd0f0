"""The flags that select jobs on Vertex AI: project, region, pipeline and API endpoint."""

from dataclasses import dataclass, replace

from pydantic import ValidationError

from cli.errors import ConfigError
from cli.terminal import format_flags
from serving.registry.vertex.config import VertexProject


@dataclass(frozen=True)
class VertexLocation:
    """The values of the flags.

    Attributes:
      project: Google Cloud project.
      region: region of the jobs.
      pipeline: name of one pipeline; None for all.
      api_endpoint: address of another API than Google's own.
      is_endpoint_typed: whether the endpoint is from the command line rather than from the environment.
    """

    project: str
    region: str | None
    pipeline: str | None = None
    api_endpoint: str | None = None
    is_endpoint_typed: bool = False

    def format_flags(self) -> str:
        """Return the flags of a command line, with a space before each."""
        endpoint = self.api_endpoint if self.is_endpoint_typed else None
        return format_flags(project=self.project, region=self.region, api_endpoint=endpoint, pipeline=self.pipeline)

    def format_project_flags(self) -> str:
        """Return the flags without the pipeline, for tools whose config or model names it."""
        return replace(self, pipeline=None).format_flags()

    def validate(self) -> VertexProject:
        """Return the project and the region for a connection.

        Raises:
          ConfigError: a flag is missing or wrong.
        """
        if self.region is None:
            raise ConfigError("--region: is missing; expected one such as europe-west4 (or VERTEX_REGION)")
        try:
            return VertexProject(project=self.project, region=self.region, api_endpoint=self.api_endpoint)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            flag, rule = str(problem["loc"][0]).replace("_", "-"), problem["msg"].removeprefix("Value error, ")
            raise ConfigError(f"--{flag}: {rule}, found {problem['input']!r}") from error
