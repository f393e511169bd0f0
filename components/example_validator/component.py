"""ExampleValidator: the artifact of the stock component, in a time that grows with the number of columns.

That of the stock component grows with its square.
"""

import os

import tensorflow_data_validation as tfdv
from tfx.components.example_validator.executor import (
    ARTIFACT_PROPERTY_BLESSED_KEY,
    BLESSED_VALUE,
    NOT_BLESSED_VALUE,
)
from tfx.components.statistics_gen.stats_artifact_utils import BINARY_PB_BASENAME
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils, writer_utils

from components.example_validator.anomalies import ANOMALIES_FILE, mask_values
from components.example_validator.validation import find_anomalies


@component
def ExampleValidator(  # noqa: N802 (TFX names components like classes)
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    schema: InputArtifact[standard_artifacts.Schema],
    anomalies: OutputArtifact[standard_artifacts.ExampleAnomalies],
    code_fingerprint: Parameter[str],
) -> None:
    """Write the anomalies of each split of `statistics` by `schema`."""
    del code_fingerprint
    expected = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema.uri))
    anomalies.split_names = statistics.split_names
    anomalies.span = statistics.span
    blessed = {}
    for split in artifact_utils.decode_split_names(statistics.split_names):
        folder = f"Split-{split}"
        (data,) = tfdv.load_stats_binary(os.path.join(statistics.uri, folder, BINARY_PB_BASENAME)).datasets
        anomalies_of_split = find_anomalies(data, expected)
        mask_values(anomalies_of_split, data)
        writer_utils.write_anomalies(os.path.join(anomalies.uri, folder, ANOMALIES_FILE), anomalies_of_split)
        is_clean = not anomalies_of_split.anomaly_info and not anomalies_of_split.HasField("dataset_anomaly_info")
        blessed[split] = BLESSED_VALUE if is_clean else NOT_BLESSED_VALUE
    anomalies.set_json_value_custom_property(ARTIFACT_PROPERTY_BLESSED_KEY, blessed)
