"""Classify, Regress, MultiInference and their REST forms, for labels of each kind and for models of other origins."""

import base64
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    input_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from schemas.data import ReadOptions
from schemas.features import FeatureSet
from serving.model.predictor import Predictor
from serving.model.served_model import ServedModel
from tests.serving.models import FEATURES, ROW, SCHEMA_HASH, Transform, example
from tests.serving.running import RunningServer

pytestmark = pytest.mark.integration

LABELS: Mapping[str, Mapping[str, Any]] = {
    "binary": {"column": "bought", "positive": "yes", "negative": "no"},
    "multiclass": {"kind": "multiclass", "column": "bought", "classes": ["no", "yes", "łater"]},
    "regression": {"kind": "regression", "column": "bought"},
}
OTHER_ROW = {"color": "red", "size": 0.5, "shop_name": "south", "rank": 1, "weight": -2.0}
ROWS = [ROW, OTHER_ROW]
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def export(folder: Path, label: Mapping[str, Any]) -> Path:
    features = FeatureSet.model_validate({**FEATURES.model_dump(exclude={"label"}), "label": label})
    width = len(label.get("classes", [0]))

    def network(inputs: dict[str, Any], training: bool) -> Any:
        del training
        sums = [tf.reduce_sum(tf.cast(value, tf.float32), axis=1, keepdims=True) for value in inputs.values()]
        return (tf.add_n(sums) - 6) * tf.range(1.0, width + 1.0)[None] / 4

    ServedModel(network, {}, Transform(), features, SCHEMA_HASH, ReadOptions()).export(str(folder))
    return folder


class Served:
    """A server of a model of one kind of label, and what it should return."""

    def __init__(self, kind: str, folder: Path, running: RunningServer) -> None:
        self.kind, self.running = kind, running
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(running.grpc))
        self.path = f"/v1/models/{folder.name}"
        self.name = folder.name
        self.predictions = Predictor(folder).predict(ROWS)

    @property
    def classes(self) -> list[list[tuple[str, Any]]]:
        close = pytest.approx
        if self.kind == "binary":
            return [[("no", close(1 - p["probability"])), ("yes", close(p["probability"]))] for p in self.predictions]
        return [list(zip(p["classes"], map(close, p["probabilities"]), strict=True)) for p in self.predictions]

    @property
    def numbers(self) -> list[Any]:
        name = "probability" if self.kind == "binary" else "prediction"
        return [pytest.approx(prediction[name]) for prediction in self.predictions]


@pytest.fixture(scope="module", params=LABELS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = export(tmp_path_factory.mktemp("served") / request.param, LABELS[request.param])
    with RunningServer("--model-dir", str(folder), "--allow-unvalidated", "--grpc-port", "0") as running:
        yield Served(request.param, folder, running)


def build_input(rows: list[dict[str, Any]] | None = None, context: dict[str, Any] | None = None) -> input_pb2.Input:
    message = input_pb2.Input()
    records = [tf.train.Example.FromString(example(row)) for row in (ROWS if rows is None else rows)]
    if context is None:
        message.example_list.examples.extend(records)
    else:
        message.example_list_with_context.examples.extend(records)
        message.example_list_with_context.context.CopyFrom(tf.train.Example.FromString(example(context)))
    return message


def read_classes(result: classification_pb2.ClassificationResult) -> list[list[tuple[str, float]]]:
    return [[(c.label, c.score) for c in row.classes] for row in result.classifications]


def classify(served: Served, message: input_pb2.Input | None = None, signature: str = "") -> Any:
    request = classification_pb2.ClassificationRequest(input=message or build_input())
    request.model_spec.name, request.model_spec.signature_name = served.name, signature
    return served.stub.Classify(request, timeout=30)


def regress(served: Served, message: input_pb2.Input | None = None, signature: str = "") -> Any:
    request = regression_pb2.RegressionRequest(input=message or build_input())
    request.model_spec.name, request.model_spec.signature_name = served.name, signature
    return served.stub.Regress(request, timeout=30)


def has(served: Served, method: str) -> bool:
    return served.kind != {"classify": "regression", "regress": "multiclass"}[method]


def test_classes_and_numbers_are_those_of_the_prediction(served: Served) -> None:
    for signature in ("", "serving_default", "serving_examples"):
        if has(served, "classify"):
            response = classify(served, signature=signature)
            assert read_classes(response.result) == served.classes
            assert response.model_spec.version.value == 1
            assert response.model_spec.signature_name == (signature or "serving_default")
        if has(served, "regress"):
            response = regress(served, signature=signature)
            assert [row.value for row in response.result.regressions] == served.numbers
    if has(served, "classify"):
        assert read_classes(classify(served, signature=CLASSIFY).result) == served.classes
    if has(served, "regress"):
        assert [r.value for r in regress(served, signature=REGRESS).result.regressions] == served.numbers


def test_rest_answers_as_tf_serving_documents_it(served: Served) -> None:
    for method, signature, expected in (
        (
            "classify",
            CLASSIFY,
            [[list(pair) for pair in row] for row in served.classes] if has(served, "classify") else 0,
        ),
        ("regress", REGRESS, served.numbers if has(served, "regress") else 0),
    ):
        if not has(served, method):
            continue
        context = {"color": "green"}
        rest = [{key: value for key, value in row.items() if key != "color"} for row in (ROW, {**ROW, "size": 3})]
        lists = [{key: [value] for key, value in row.items()} for row in ROWS]
        for body in ({"examples": ROWS}, {"examples": lists}, {"examples": ROWS, "signature_name": signature}):
            for path in (served.path, f"{served.path}/versions/1"):
                assert served.running.post(f"{path}:{method}", body) == (200, {"results": expected})
        code, content = served.running.post(f"{served.path}:{method}", {"context": context, "examples": rest})
        assert (code, content["results"][0]) == (200, expected[0])


@pytest.mark.parametrize("method", ["classify", "regress"])
def test_a_method_that_the_label_does_not_have_is_named(served: Served, method: str) -> None:
    if has(served, method):
        return
    message = f"the model's label is {served.kind}, which has no {method}; use predict"
    assert served.running.post(f"{served.path}:{method}", {"examples": ROWS}) == (400, {"error": message})
    with pytest.raises(grpc.RpcError) as refused:
        {"classify": classify, "regress": regress}[method](served)
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, message)


def test_several_tasks_share_one_prediction(served: Served) -> None:
    request = inference_pb2.MultiInferenceRequest(input=build_input())
    for method, name in (("classify", CLASSIFY), ("regress", REGRESS)):
        if has(served, method):
            request.tasks.add(method_name=name).model_spec.name = served.name
    response = served.stub.MultiInference(request, timeout=30)
    results = iter(response.results)
    if has(served, "classify"):
        assert read_classes(next(results).classification_result) == served.classes
    if has(served, "regress"):
        assert [row.value for row in next(results).regression_result.regressions] == served.numbers
    assert {result.model_spec.signature_name for result in response.results} == {"serving_default"}
    rpcs = served.running.wait_for_events(method="MultiInference")
    assert [event.get("rows") for event in rpcs][-1:] == [2]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "the request has no tasks"),
        ([("predict", "")], f"method_name: expected {CLASSIFY} or {REGRESS}, found 'predict'"),
        ([("same", ""), ("same", "serving_default")], "of the signature 'serving_default' comes twice"),
        ([("same", "other")], "there is no signature 'other'"),
    ],
)
def test_tasks_that_do_not_fit_are_named(served: Served, tasks: list[tuple[str, str]], message: str) -> None:
    request = inference_pb2.MultiInferenceRequest(input=build_input())
    for name, signature in tasks:
        method = (REGRESS if served.kind == "regression" else CLASSIFY) if name == "same" else name
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = served.name, signature
    with pytest.raises(grpc.RpcError) as refused:
        served.stub.MultiInference(request, timeout=30)
    assert message in refused.value.details()


def test_a_context_belongs_to_every_row(served: Served) -> None:
    method = classify if has(served, "classify") else regress
    rows = [{key: value for key, value in ROW.items() if key != "color"}] * 2
    whole = method(served, build_input([ROW, ROW])).result
    assert method(served, build_input(rows, {"color": ROW["color"]})).result == whole
    with pytest.raises(grpc.RpcError) as refused:
        method(served, build_input([ROW], {"color": "red"}))
    assert refused.value.details() == "instances[0]: color: is in the context, too"


def test_rows_that_do_not_fit_are_named(served: Served) -> None:
    method, name = (classify, "classify") if has(served, "classify") else (regress, "regress")
    for message, reason in (
        (input_pb2.Input(), "the request has no rows: expected input.example_list with tf.Example"),
        (build_input([ROW, {"color": "red"}]), "instances[1]: size: the value is missing"),
        (build_input([ROW] * 4097), "the request has 4,097 rows; at most 4,096 are taken"),
        (build_input([{}] * 4096, {"color": "x" * 10_000}), "the context of each row takes more than 32,000,000 bytes"),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            method(served, message)
        assert (refused.value.code(), reason in refused.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    for body, reason in (
        ({"examples": []}, 'expected {"examples": [{FEATURE: VALUE, ...}, ...]} with at least one row'),
        ({"examples": [3]}, 'expected {"examples"'),
        ({"instances": [ROW]}, "'instances' is unknown; expected signature_name, context or examples"),
        ({"examples": [ROW], "context": 3}, "context: expected an object of features"),
        ({"examples": [ROW], "context": {"color": "red"}}, "examples[0]: color: is in the context, too"),
        ({"examples": [{"color": "red"}]}, "instances[0]: size: the value is missing"),
        ({"examples": [ROW], "signature_name": 3}, "signature_name: expected a string"),
    ):
        code, content = served.running.post(f"{served.path}:{name}", body)
        assert (code, reason in content["error"]) == (400, True), content
    code, content = served.running.post(f"{served.path}:{name}", {"examples": [ROW], "signature_name": "true_label"})
    assert (code, "there is no signature 'true_label'" in content["error"]) == (404, True)


def test_metadata_lists_the_methods(served: Served) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = served.name
    definitions = get_model_metadata_pb2.SignatureDefMap()
    served.stub.GetModelMetadata(request, timeout=30).metadata["signature_def"].Unpack(definitions)
    methods = {name: definition.method_name for name, definition in definitions.signature_def.items()}
    expected = dict.fromkeys(("serving_default", "serving_examples"), "tensorflow/serving/predict")
    for method, name in (("classify", CLASSIFY), ("regress", REGRESS)):
        if has(served, method):
            expected[name] = name
    assert methods == expected
    code, content = served.running.get(f"{served.path}/metadata")
    assert (code, content["metadata"]["signature_def"]["signature_def"].keys()) == (200, expected.keys())


def test_predictions_are_in_the_typed_fields_for_one_row_and_many(served: Served) -> None:
    for rows in (ROWS[:1], ROWS):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = served.name
        for name in ROW:
            values = [row[name] for row in rows]
            # As TensorFlow packs them: several numbers are in `tensor_content`.
            dtype = tf.float32 if isinstance(values[0], float) else None
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype))
        outputs = served.stub.Predict(request, timeout=30).outputs
        name = {"binary": "probability", "multiclass": "probabilities", "regression": "prediction"}[served.kind]
        expected = [prediction[name] for prediction in served.predictions[: len(rows)]]
        flat = [*itertools.chain(*expected)] if served.kind == "multiclass" else expected
        assert list(outputs[name].float_val) == pytest.approx(flat)
        assert list(outputs["schema_hash"].string_val) == [SCHEMA_HASH.encode()] * len(rows)


class HalfPlus(tf.Module):
    """Stands for tensorflow/serving's half_plus_two: a number by tensors, and by tf.Example under other names."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def predict(self, x: Any) -> dict[str, Any]:
        return {"y": x / 2 + 2}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def regress(self, inputs: Any) -> dict[str, Any]:
        x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]
        return {"outputs": x / 2 + 2}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def classify(self, inputs: Any) -> dict[str, Any]:
        return {"scores": self.regress(inputs)["outputs"]}


@pytest.fixture(scope="module")
def half_plus_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Yield a server of a base path as TF Serving's: a zero-padded folder, and no ledger."""
    base = tmp_path_factory.mktemp("served") / "half_plus_two"
    model = HalfPlus()
    signatures = {"serving_default": model.predict, REGRESS: model.regress, CLASSIFY: model.classify}
    tf.saved_model.save(model, str(base / "00000123"), signatures=signatures)
    with RunningServer("--model-dir", str(base), "--allow-unvalidated", "--grpc-port", "0") as running:
        yield running


def test_signatures_of_a_model_of_another_origin_are_called_by_name(half_plus_two: RunningServer) -> None:
    path = "/v1/models/half_plus_two"
    assert half_plus_two.post(f"{path}:predict", {"instances": [1.0, 2.0, 5.0]}) == (
        200,
        {"predictions": [2.5, 3, 4.5]},
    )
    body = {"signature_name": REGRESS, "examples": [{"x": 1.0}, {"x": 2.0}, {"x": [3.0]}]}
    assert half_plus_two.post(f"{path}:regress", body) == (200, {"results": [2.5, 3.0, 3.5]})
    body = {"signature_name": CLASSIFY, "context": {"x": 4.0}, "examples": [{}]}
    assert half_plus_two.post(f"{path}:classify", body) == (200, {"results": [[["", 4.0]]]})
    coded = base64.b64encode(example({"x": 1.0})).decode()
    body = {"signature_name": REGRESS, "instances": [{"b64": coded}]}
    assert half_plus_two.post(f"{path}:predict", body) == (200, {"predictions": [[2.5]]})


@pytest.mark.parametrize(
    ("method", "body", "code", "message"),
    [
        ("regress", {"examples": [{"x": 1.0}]}, 400, "regress: expected a signature with the output outputs; this one"),
        ("classify", {"examples": [{"x": 1.0}], "signature_name": REGRESS}, 400, "the output classes or scores; this"),
        ("regress", {"examples": [{"x": 1.0}], "signature_name": "none"}, 404, "there is no signature 'none'"),
        (
            "regress",
            {"examples": [{"x": {"a": 1}}], "signature_name": REGRESS},
            400,
            "examples[0]: x: expected numbers",
        ),
        ("regress", {"examples": [{"x": {"b64": "%"}}], "signature_name": REGRESS}, 400, "x: b64 is not base64"),
        ("regress", {"examples": [{"x": True}], "signature_name": REGRESS}, 400, "examples[0]: x: expected numbers"),
    ],
)
def test_other_origins_errors_are_named(
    half_plus_two: RunningServer, method: str, body: dict[str, Any], code: int, message: str
) -> None:
    status, content = half_plus_two.post(f"/v1/models/half_plus_two:{method}", body)
    assert (status, message in content["error"]) == (code, True), content


def test_a_zero_padded_folder_without_a_ledger_is_a_version(half_plus_two: RunningServer) -> None:
    code, content = half_plus_two.get("/v1/models/half_plus_two")
    assert (code, content["model_version_status"][0]["version"]) == (200, "123")
    assert half_plus_two.post("/v1/models/half_plus_two/versions/123:predict", {"instances": [2]})[0] == 200
    assert half_plus_two.post("/v1/models/half_plus_two/versions/00000123:predict", {"instances": [2]})[0] == 200


def test_columns_of_one_value_a_row_are_taken_by_json(served: Served) -> None:
    code, flat = served.running.post(f"{served.path}:predict", {"instances": ROWS})
    nested = [{name: [value] for name, value in row.items()} for row in ROWS]
    columns = {name: [[row[name]] for row in ROWS] for name in ROW}
    assert code == 200
    assert served.running.post(f"{served.path}:predict", {"instances": nested}) == (200, flat)
    code, content = served.running.post(f"{served.path}:predict", {"inputs": columns})
    assert code == 200
    assert content["outputs"]["schema_hash"] == [SCHEMA_HASH] * 2
