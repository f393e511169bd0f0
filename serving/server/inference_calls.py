"""Classify, Regress and MultiInference, by TF Serving's messages and by its REST.

https://www.tensorflow.org/tfx/serving/api_rest#classify_and_regress_api
"""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, regression_pb2

from serving.model.inference import METHOD_NAMES, Method, check_method, classify, read_input, regress
from serving.model.model_call import Outputs
from serving.model.predictor import Predictor
from serving.model.signatures import SERVING_DEFAULT
from serving.server.model_versions import ServedVersion
from serving.server.service import RequestError, Service

_REQUEST_KEYS = {"signature_name", "context", "examples"}
_INT64 = range(-(2**63), 2**63)


def select_method(service: Service, served: ServedVersion, signature: str, method: Method) -> ServedVersion:
    """Return the version with the signature of a request, if it has the method.

    A declared model has one prediction, whose classes and numbers have the method's own name as their signature, too.

    Raises:
      NotFoundError: there is no such signature.
      RequestError: the signature has no such method.
    """
    signature = signature or SERVING_DEFAULT
    if not isinstance(served.predictor, Predictor) or signature != METHOD_NAMES[method]:
        served = service.select_signature(served, signature)
    check_method(served.predictor, method)
    return served


async def answer_method(service: Service, served: ServedVersion, method: Method, request: Any) -> tuple[Any, int]:
    """Return the result of a request of Classify or Regress, and its number of rows.

    Raises:
      NotFoundError: there is no such signature.
      RequestError: the signature has no such method, or a row does not fit.
    """
    selected = select_method(service, served, request.model_spec.signature_name, method)
    outputs = await _answer_records(service, selected, request.input)
    return _BUILDERS[method](selected, outputs), _count_rows(outputs)


async def answer_tasks(
    service: Service, served: ServedVersion, request: inference_pb2.MultiInferenceRequest
) -> tuple[list[inference_pb2.InferenceResult], int]:
    """Return the results of all tasks, of one version, in their order, and the number of rows.

    Raises:
      RequestError: a task has another method, or comes twice.
    """
    methods = {name: method for method, name in METHOD_NAMES.items()}
    selected: list[tuple[Method, ServedVersion]] = []
    tasks: set[tuple[str, str]] = set()
    for task in request.tasks:
        method = methods.get(task.method_name)
        if method is None:
            raise RequestError(f"method_name: expected {' or '.join(methods)}, found '{task.method_name[:80]}'")
        signature = task.model_spec.signature_name or SERVING_DEFAULT
        # Bounds the number of tasks, too.
        if (signature, method) in tasks:
            raise RequestError(f"the task {task.method_name} of the signature '{signature[:80]}' comes twice")
        tasks.add((signature, method))
        selected.append((method, select_method(service, served, signature, method)))
    # Signatures of a declared model share one prediction.
    answers: dict[str, Outputs] = {}
    results = []
    for method, version in selected:
        if version.signature not in answers:
            answers[version.signature] = await _answer_records(service, version, request.input)
        outputs = answers[version.signature]
        results.append(inference_pb2.InferenceResult(**{_FIELDS[method]: _BUILDERS[method](version, outputs)}))
    return results, _count_rows(outputs)


async def _answer_records(service: Service, served: ServedVersion, message: input_pb2.Input) -> Outputs:
    records = read_input(message, service.settings.max_request_rows)
    if isinstance(served.predictor, Predictor):
        return await service.answer_examples(served, records)
    return await service.answer_records(served, records)


def _build_classifications(served: ServedVersion, outputs: Outputs) -> classification_pb2.ClassificationResult:
    result = classification_pb2.ClassificationResult()
    for row in classify(served.predictor, outputs):
        classes = result.classifications.add().classes
        for label, score in row:
            classes.add(label=label, score=score)
    return result


def _build_regressions(served: ServedVersion, outputs: Outputs) -> regression_pb2.RegressionResult:
    return regression_pb2.RegressionResult(
        regressions=[regression_pb2.Regression(value=value) for value in regress(served.predictor, outputs)]
    )


# Names of fields of InferenceResult.
_FIELDS: Mapping[Method, str] = {"classify": "classification_result", "regress": "regression_result"}
_BUILDERS: Mapping[Method, Callable[[ServedVersion, Outputs], Any]] = {
    "classify": _build_classifications,
    "regress": _build_regressions,
}


def _count_rows(outputs: Outputs) -> int:
    return len(next(iter(outputs.values())))


async def answer_json(
    service: Service, served: ServedVersion, method: Method, content: Mapping[str, Any]
) -> tuple[dict[str, Any], Outputs]:
    """Return the response to a request of TF Serving's REST, and the outputs that it is derived from.

    Raises:
      RequestError: a key is unknown, or a row does not fit.
      NotFoundError: there is no such signature.
    """
    unknown = content.keys() - _REQUEST_KEYS
    if unknown:
        raise RequestError(f"'{min(unknown)[:40]}' is unknown; expected signature_name, context or examples")
    signature = content.get("signature_name")
    if not isinstance(signature, str | None):
        raise RequestError("signature_name: expected a string")
    selected = select_method(service, served, signature or "", method)
    rows = _read_rows(content, service.settings.max_request_rows)
    if isinstance(selected.predictor, Predictor):
        outputs = await service.answer_instances(selected, rows)
    else:
        records = [_build_example(row, f"examples[{number}]") for number, row in enumerate(rows)]
        outputs = await service.answer_records(selected, records)
    results: Sequence[Any]
    results = classify(selected.predictor, outputs) if method == "classify" else regress(selected.predictor, outputs)
    return {"results": results}, outputs


def _read_rows(content: Mapping[str, Any], most_rows: int) -> list[dict[str, Any]]:
    examples, context = content.get("examples"), content.get("context", {})
    if not isinstance(examples, list) or not examples or not all(isinstance(row, dict) for row in examples):
        raise RequestError('expected {"examples": [{FEATURE: VALUE, ...}, ...]} with at least one row')
    if len(examples) > most_rows:
        raise RequestError(f"the request has {len(examples):,} rows; at most {most_rows:,} are taken")
    if not isinstance(context, dict):
        raise RequestError("context: expected an object of features")
    for number, row in enumerate(examples):
        both = sorted(row.keys() & context.keys())
        if both:
            raise RequestError(f"examples[{number}]: {both[0][:40]}: is in the context, too")
    return [{**context, **row} for row in examples] if context else examples


def _build_example(row: Mapping[str, Any], where: str) -> bytes:
    """Return a row of JSON as TF Serving makes a tf.Example of it."""
    example = tf.train.Example()
    for name, value in row.items():
        values = value if isinstance(value, list) else [value]
        kinds = {_find_kind(item) for item in values}
        feature = example.features.feature[name]
        if kinds <= {"int64_list"}:
            feature.int64_list.value.extend(values)
        elif kinds <= {"int64_list", "float_list"}:
            feature.float_list.value.extend(values)
        elif kinds == {"bytes_list"}:
            feature.bytes_list.value.extend(_read_bytes(item, f"{where}: {name[:40]}") for item in values)
        else:
            raise RequestError(f"{where}: {name[:40]}: expected numbers or strings, found {str(value)[:60]}")
    return bytes(example.SerializeToString())


def _find_kind(value: Any) -> str:
    if isinstance(value, str) or (isinstance(value, dict) and value.keys() == {"b64"}):
        return "bytes_list"
    if isinstance(value, int) and not isinstance(value, bool) and value in _INT64:
        return "int64_list"
    return "float_list" if isinstance(value, float) else ""


def _read_bytes(value: Any, where: str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise RequestError(f"{where}: b64 is not base64") from error
