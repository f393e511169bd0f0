"""Stock BulkInferrer predicts with the exported model."""

from pathlib import Path

import pytest
import tensorflow as tf
from tfx.components.bulk_inferrer import executor
from tfx.proto import bulk_inferrer_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from serving.model.predictor import Predictor
from serving.model.signatures import BULK_EXAMPLES
from tests.serving.models import example, export_model

pytestmark = pytest.mark.integration


def test_stock_bulk_inferrer_writes_the_predictions_beside_the_rows(tmp_path: Path) -> None:
    rows = [{"color": color, "size": float(number)} for number, color in enumerate(["red", "green", "blue"])]
    (tmp_path / "raw" / "Split-unlabelled").mkdir(parents=True)
    with tf.io.TFRecordWriter(str(tmp_path / "raw" / "Split-unlabelled" / "data.gz"), "GZIP") as writer:
        for row in rows:
            writer.write(example(row))
    folder = export_model(tmp_path / "model" / "Format-Serving", -4.0)
    examples, model, output = standard_artifacts.Examples(), standard_artifacts.Model(), standard_artifacts.Examples()
    examples.uri, examples.split_names = str(tmp_path / "raw"), '["unlabelled"]'
    model.uri, output.uri = str(tmp_path / "model"), str(tmp_path / "out")
    column = bulk_inferrer_pb2.PredictOutputCol
    spec = bulk_inferrer_pb2.OutputExampleSpec(
        output_columns_spec=[
            bulk_inferrer_pb2.OutputColumnsSpec(
                predict_output=bulk_inferrer_pb2.PredictOutput(
                    output_columns=[
                        column(output_key="probability", output_column="p"),
                        column(output_key="predicted_label", output_column="label"),
                    ]
                )
            )
        ]
    )
    executor.Executor().Do(
        {"examples": [examples], "model": [model]},
        {"output_examples": [output]},
        {
            "data_spec": proto_utils.proto_to_json(bulk_inferrer_pb2.DataSpec()),
            "model_spec": proto_utils.proto_to_json(
                bulk_inferrer_pb2.ModelSpec(model_signature_name=[BULK_EXAMPLES], tag=["serve"])
            ),
            "output_example_spec": proto_utils.proto_to_json(spec),
        },
    )
    files = [str(path) for path in (tmp_path / "out" / "Split-unlabelled").iterdir()]
    written = {}
    for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
        values = tf.train.Example.FromString(record).features.feature
        label = values["label"].bytes_list.value[0].decode()
        written[values["size"].float_list.value[0]] = (values["p"].float_list.value[0], label)
    expected = Predictor(folder).predict(rows)
    assert written == {
        row["size"]: (pytest.approx(answer["probability"]), answer["predicted_label"])
        for row, answer in zip(rows, expected, strict=True)
    }
