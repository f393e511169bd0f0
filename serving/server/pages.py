"""Descriptions of a server: OpenAPI, TF Serving's metadata, and a page to try a prediction in a browser."""

import io
import itertools
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import jinja2
from google.protobuf import json_format
from markupsafe import Markup

from cli.page_style import read_style
from schemas.features import Feature, FeatureSet, IdList, LearnedTokens, escape_name
from schemas.features.base import SharedIds
from schemas.tables.time_format import EPOCHS
from schemas.tables.values import INT64
from schemas.vocabularies import unescape
from serving.model.inference import METHOD_NAMES, has_method
from serving.model.inputs import ModelInput
from serving.model.signature_defs import build_signature_defs
from serving.model.signatures import SERVING_DEFAULT
from serving.model.tensor_predictor import TensorPredictor
from serving.server.model_versions import ServedVersion
from serving.server.open_inference import describe_model
from serving.server.service import NotReadyError, Service

_MAX_CATEGORIES = 100
_JSON_TYPES: Mapping[str, str] = {"string": "string", "float": "number", "int": "integer"}
_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("serving"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)
# Inline script and style carry the page's nonce; nothing is loaded from other origins.
_POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def build_example_row(served: ServedVersion) -> dict[str, Any]:
    """Return a row that the model takes: its first golden request, or an invented one."""
    if served.golden is not None and served.golden.instances:
        return dict(served.golden.instances[0])
    if isinstance(served.predictor, TensorPredictor):
        return served.predictor.build_example_row()
    return {name: _choose_example(field) for name, field in served.predictor.inputs.items()}


def _choose_example(field: ModelInput) -> Any:
    """Return a value that an input takes."""
    rule = field.rule
    if rule.times is not None:
        return rule.times.write(0)
    if rule.items is not None and rule.items.numbers is not None:
        return [0.0] * rule.items.numbers
    return "a" if field.kind == "string" else 1


def build_metadata(model_name: str, served: ServedVersion) -> dict[str, Any]:
    """Return TF Serving's response to GET .../metadata."""
    definitions = json_format.MessageToDict(build_signature_defs(served.predictor), preserving_proto_field_name=True)
    spec = {"name": model_name, "signature_name": "", "version": str(served.number)}
    return {"model_spec": spec, "metadata": {"signature_def": definitions}}


def build_openapi(service: Service, predict_route: str, health_route: str) -> dict[str, Any]:
    """Return the API of the default version in OpenAPI 3.1, with the features' names and an example.

    https://spec.openapis.org/oas/v3.1.0

    Raises:
      NotReadyError: no version is served yet.
    """
    served = service.find()
    example, name = build_example_row(served), service.model_name
    row = _build_row_schema(served)
    body = _build_body(
        {
            "type": "object",
            "required": ["instances"],
            "additionalProperties": False,
            "properties": {"instances": _build_rows_schema(service, row)},
        },
        {"instances": [example]},
    )
    vertex = _build_body(
        {
            "type": "object",
            "required": ["instances"],
            "additionalProperties": False,
            "properties": {
                "instances": _build_rows_schema(service, row),
                "parameters": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "outputs": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "enum": _list_outputs(served)},
                        }
                    },
                },
            },
        },
        {"instances": [example]},
    )
    inference = _build_body(
        {
            "type": "object",
            "required": ["examples"],
            "additionalProperties": False,
            "properties": {"examples": _build_rows_schema(service, row), "signature_name": {"const": SERVING_DEFAULT}},
        },
        {"examples": [example]},
    )
    results = _build_responses({"results": {"type": "array"}}, (400, 404, 408, 413, 503))
    methods = [
        (
            f":{method}",
            "post",
            f"{method.title()}, as TF Serving does.",
            {"requestBody": inference, "responses": results},
        )
        for method in METHOD_NAMES
        if has_method(served.predictor, method)
    ]
    answers = _build_responses({"predictions": {"type": "array"}}, (400, 404, 408, 413, 503))
    version = {"name": "version", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
    label = {"name": "label", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[a-z]+$"}}
    paths: dict[str, Any] = {
        predict_route: {
            "post": {"summary": "Predict, as Vertex AI does.", "requestBody": vertex, "responses": answers}
        },
        health_route: {"get": {"summary": "Whether requests are answered.", "responses": _build_responses({}, (503,))}},
        "/live": {"get": {"summary": "Whether the process runs.", "responses": _build_responses({}, ())}},
    }
    paths |= _build_open_inference_paths(service, served, example)
    for below, parameters in {"": [], "/versions/{version}": [version], "/labels/{label}": [label]}.items():
        base = f"/v1/models/{name}{below}"
        for suffix, method, summary, extra in (
            (":predict", "post", "Predict, as TF Serving does.", {"requestBody": body, "responses": answers}),
            *methods,
            ("", "get", "The state of versions.", {"responses": _build_responses({}, (404, 503))}),
            ("/metadata", "get", "Inputs and outputs.", {"responses": _build_responses({}, (404, 503))}),
        ):
            operation = {"summary": summary, **extra, **({"parameters": parameters} if parameters else {})}
            paths[f"{base}{suffix}"] = {method: operation}
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": str(served.number), "description": f"Schema {served.predictor.schema_hash}"},
        "paths": paths,
    }


def _build_open_inference_paths(
    service: Service, served: ServedVersion, example: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    metadata = describe_model(service, served)
    base, datatypes = f"/v2/models/{service.model_name}", {i["name"]: i["datatype"] for i in metadata["inputs"]}
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "additionalProperties": False,
        "properties": {
            "name": {"enum": sorted(datatypes)},
            "shape": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
            "datatype": {"enum": sorted({*datatypes.values()})},
            "data": {"type": "array"},
        },
    }
    properties = {"id": {"type": "string"}, "inputs": {"type": "array", "minItems": 1, "items": tensor}}
    schema = {"type": "object", "required": ["inputs"], "additionalProperties": False, "properties": properties}
    # A string stands for any value, as in the training data.
    inputs = [
        {"name": name, "shape": [1], "datatype": "BYTES", "data": [str(value)]} for name, value in example.items()
    ]
    answers = _build_responses({"outputs": {"type": "array"}}, (400, 404, 408, 413, 503))
    infer = {"requestBody": _build_body(schema, {"inputs": inputs}), "responses": answers}
    status = {"responses": _build_responses({}, (404, 503))}
    return {
        f"{base}/infer": {"post": {"summary": "Predict, by the open inference protocol.", **infer}},
        f"{base}/ready": {"get": {"summary": "Whether the model is ready.", **status}},
        base: {"get": {"summary": "Inputs and outputs, by the open inference protocol.", **status}},
        "/v2": {"get": {"summary": "The server.", "responses": _build_responses({}, ())}},
        "/v2/health/live": {"get": {"summary": "Whether the process runs.", "responses": _build_responses({}, ())}},
        "/v2/health/ready": {"get": {"summary": "Whether requests are answered.", **status}},
        "/v1/models": {"get": {"summary": "The models.", "responses": _build_responses({}, ())}},
    }


def _build_rows_schema(service: Service, row: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "maxItems": service.settings.max_request_rows, "items": row}


def _build_row_schema(served: ServedVersion) -> dict[str, Any]:
    if isinstance(served.predictor, TensorPredictor):
        return {"description": f"Expects {served.predictor.describe_inputs()}. A single input need not be named."}
    inputs = served.predictor.inputs
    features = _group_by_input(served.predictor.features)
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name, field in inputs.items() if field.required],
        "properties": {
            **{name: {"description": "Not used."} for name in sorted(inputs.other_columns - inputs.keys())},
            **{name: _build_value_schema(served, field, features.get(name)) for name, field in inputs.items()},
        },
    }


def _list_oncall_links(address: str | None) -> dict[str, str]:
    """Return the addresses of pages of `oncall web`, by title."""
    if address is None:
        return {}
    parts = urlsplit(address)
    pages = {"Live traffic": "/traffic", "Versions": "/versions"}
    links = {title: parts._replace(path=parts.path.rstrip("/") + page).geturl() for title, page in pages.items()}
    return {"On call": address, **links}


def _group_by_input(features: FeatureSet | None) -> dict[str, Feature]:
    return {escape_name(name): feature for name, feature in features.raw_features.items()} if features else {}


def _build_value_schema(served: ServedVersion, field: ModelInput, feature: Feature | None) -> dict[str, Any]:
    kind, items, times = _find_json_type(field), field.rule.items, field.rule.times
    # A string may be a number, or stand for a missing value, as in a CSV file. Of times, epochs alone are numbers.
    takes_numbers = kind == "string" and (times is None or times.format in EPOCHS)
    kinds = list(dict.fromkeys([kind, "string", *(["number"] if takes_numbers else [])]))
    if items is not None:
        kinds = ["array", "string"]
    categories = _read_categories(served, field.name, feature)
    schema: dict[str, Any] = {"type": kinds if field.required else [*kinds, "null"]}
    if field.kind == "string" and field.required and "" in field.rule.missing_values:
        schema["minLength"] = 1
    if field.kind == "float":
        schema |= {"minimum": -3.4e38, "maximum": 3.4e38}
    if items is not None and items.numbers is not None:
        schema |= {"items": {"type": "number"}, "minItems": items.numbers, "maxItems": items.numbers}
    elif items is not None:
        examples = {"examples": list(categories[:10])} if categories else {}
        schema |= {"items": {"type": "string", **examples}, "maxItems": items.max_items}
    elif categories:
        schema["examples"] = list(categories[:10])
    if field.kind == "int" and times is None:
        # An ID outside the range of its feature is counted, and gets the nearest ID.
        schema |= {"minimum": INT64.start, "maximum": INT64.stop - 1}
    description = " ".join(filter(None, (_describe_format(field), _describe(feature))))
    if description:
        schema["description"] = description
    return schema


def _describe_format(field: ModelInput) -> str:
    """Return how a value is written, if it is not one number or string."""
    return "" if field.rule.times is None and field.rule.items is None else f"Expects {field.rule.expected}."


def _find_json_type(field: ModelInput) -> str:
    """Return the type in JSON of the values of an input; times are strings, as in the data."""
    return "string" if field.rule.times is not None else _JSON_TYPES[field.kind]


def _read_categories(served: ServedVersion, name: str, feature: Feature | None) -> tuple[str, ...]:
    """Return the first declared categories of a feature, or the most frequent learned ones; none of a sensitive one."""
    if feature is None or feature.sensitive:
        return ()
    learns_values = isinstance(feature, IdList) and isinstance(feature.tokens, LearnedTokens)
    if not feature.learns_categories and not learns_values:
        return feature.categories[:_MAX_CATEGORIES]
    if isinstance(feature, SharedIds) and feature.shared is not None and served.predictor.features is not None:
        # The first of the features that share ids has the file.
        name = escape_name(served.predictor.features.shared_features[feature.shared][0])
    file = served.folder / "assets" / name
    with file.open(encoding="utf-8", errors="replace") if file.is_file() else io.StringIO() as lines:
        return tuple(unescape(line.rstrip("\n")) for line in itertools.islice(lines, _MAX_CATEGORIES))


def _describe(feature: Feature | None) -> str:
    return (feature.description or "") if feature is not None else ""


def _list_outputs(served: ServedVersion) -> list[str]:
    return sorted(served.predictor.get_signature("serving_default").outputs)


def _build_body(schema: Mapping[str, Any], example: Any) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


def _build_responses(properties: Mapping[str, Any], errors: tuple[int, ...]) -> dict[str, Any]:
    def build_response(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        return {"description": description, "content": {"application/json": {"schema": schema}}}

    failure = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    success = {"type": "object", "required": list(properties), "properties": dict(properties)}
    return {
        "200": build_response("The answer.", success),
        **{str(code): build_response("The reason.", failure) for code in errors},
    }


def render_try_it(service: Service, health_route: str) -> tuple[str, dict[str, str]]:
    """Return a page with a form of all features, and its headers; without a version, a page with the reason."""
    nonce = secrets.token_urlsafe(16)
    headers = {
        "content-security-policy": _POLICY.format(nonce),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }
    template = _TEMPLATES.get_template("try_it.html.j2")
    common: dict[str, Any] = {
        "nonce": nonce,
        "style": Markup(read_style()),
        "model": service.model_name,
        "health": health_route,
        "oncall_links": _list_oncall_links(service.settings.oncall_url),
    }
    try:
        served = service.find()
    except NotReadyError as error:
        page = template.render(**common, problem=str(error))
        return page, headers
    features, example = _group_by_input(served.predictor.features), build_example_row(served)
    page = template.render(
        **common,
        problem=None,
        version=served.number,
        schema_hash=served.predictor.schema_hash,
        decision=served.predictor.decision,
        labels=dict(service.snapshot.labels),
        path=f"/v1/models/{service.model_name}:predict",
        example={"instances": [example]},
        fields=[
            {
                "name": name,
                "column": field.column,
                "description": " ".join(filter(None, (_describe_format(field), _describe(features.get(name))))),
                "type": _find_json_type(field),
                "required": field.required,
                "value": example.get(name),
                "choices": _read_categories(served, name, features.get(name)),
            }
            for name, field in served.predictor.inputs.items()
        ],
    )
    return page, headers
