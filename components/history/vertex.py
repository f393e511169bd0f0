"""History of a run on Vertex AI: the statistics that the champion was trained on.

Vertex Pipelines knows but two kinds of resolvers, neither of which can ask what was pushed. The pusher keeps the
statistics beside the version; here they are fetched from the version that serves.
"""

import os

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts

from schemas.data import TRAIN_SPLIT
from serving.registry import STATISTICS_FILE
from serving.registry.vertex import staging
from serving.registry.vertex.config import VertexProject
from serving.registry.vertex.connection import VertexClient
from serving.registry.vertex.state import CHAMPION, read_model


@component
def PublishedStatistics(  # noqa: N802 (TFX names components like classes)
    statistics: OutputArtifact[standard_artifacts.ExampleStatistics],
    place: Parameter[str],
    model_name: Parameter[str],
) -> None:
    """Fetch the statistics of `train` of the champion; none before the first push.

    Raises:
      PushError: Vertex AI or Cloud Storage rejects a request.
    """
    where = VertexProject.model_validate_json(place)
    champion = read_model(VertexClient(where), model_name).find_by_alias(CHAMPION)
    statistics.split_names = "[]"
    if champion is None:
        return
    content = staging.read(f"{champion.artifact_uri}/{STATISTICS_FILE}", project=where.project)
    if content is None:
        return
    folder = os.path.join(statistics.uri, f"Split-{TRAIN_SPLIT}")
    fileio.makedirs(folder)
    with fileio.open(os.path.join(folder, "FeatureStats.pb"), "wb") as file:
        file.write(content)
    statistics.split_names = f'["{TRAIN_SPLIT}"]'
    statistics.set_string_custom_property("version", str(champion.number))
