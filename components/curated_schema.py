"""A curated schema as an artifact.

Stock ImportSchemaGen is given a path, so a schema edited in place would be answered from the cache. Here the text
itself is the parameter.
"""

import os

from tfx import v1 as tfx

SCHEMA_FILE_NAME = "schema.pbtxt"


@tfx.dsl.components.component
def CuratedSchema(  # noqa: N802 (TFX names components like classes)
    schema_text: tfx.dsl.components.Parameter[str],
    schema: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.Schema],
) -> None:
    """Writes `schema_text`, a tensorflow_metadata Schema in text format, to the artifact."""
    with tfx.dsl.io.fileio.open(os.path.join(schema.uri, SCHEMA_FILE_NAME), "w") as file:
        file.write(schema_text)
