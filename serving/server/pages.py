"""What a server says of itself: OpenAPI, TF Serving's metadata, and a page to try a prediction in a browser."""

import io
import itertools
import secrets
from collections.abc import Mapping
from typing import Any, assert_never

import jinja2
from google.protobuf import json_format

from schemas.features import (
    Feature,
    FeatureSet,
    Hash,
    Identity,
    Numeric,
    Vocabulary,
    VocabularyFile,
    VocabularyList,
    safe_name,
)
from schemas.tables.values import INT64
from schemas.vocabularies import unescape
from serving.model.inputs import Input
from serving.model.signature_defs import signature_defs
from serving.server.model_versions import Served
from serving.server.service import NotReadyError, Service

_SHOWN_CATEGORIES = 100
_JSON_TYPES: Mapping[str, str] = {"string": "string", "float": "number", "int": "integer"}
_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("serving"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)
# Inline script and style carry the page's nonce; nothing comes from anywhere else.
_POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def example_row(served: Served) -> dict[str, Any]:
    """Return a row that the model takes: of the rows it was validated with, or made up."""
    if served.golden is not None and served.golden.instances:
        return dict(served.golden.instances[0])
    return {name: "a" if one.kind == "string" else 1 for name, one in served.predictor.inputs.items()}


def metadata(model_name: str, served: Served) -> dict[str, Any]:
    """TF Serving's answer to GET .../metadata."""
    known = json_format.MessageToDict(signature_defs(served.predictor), preserving_proto_field_name=True)
    spec = {"name": model_name, "signature_name": "", "version": str(served.number)}
    return {"model_spec": spec, "metadata": {"signature_def": known}}


def openapi(service: Service, predict_route: str, health_route: str) -> dict[str, Any]:
    """Return the API of what is served now, in OpenAPI 3.1, with the features' names and an example.

    https://spec.openapis.org/oas/v3.1.0

    Raises:
      NotReadyError: nothing is served yet.
    """
    served = service.find()
    example, name = example_row(served), service.model_name
    row = _row_schema(served)
    body = _json_body(
        {
            "type": "object",
            "required": ["instances"],
            "additionalProperties": False,
            "properties": {"instances": _rows(service, row)},
        },
        {"instances": [example]},
    )
    vertex = _json_body(
        {
            "type": "object",
            "required": ["instances"],
            "additionalProperties": False,
            "properties": {
                "instances": _rows(service, row),
                "parameters": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "outputs": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "enum": _output_names(served)},
                        }
                    },
                },
            },
        },
        {"instances": [example]},
    )
    answers = _answers({"predictions": {"type": "array"}}, (400, 404, 408, 413, 503))
    version = {"name": "version", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
    label = {"name": "label", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[a-z]+$"}}
    paths: dict[str, Any] = {
        predict_route: {
            "post": {"summary": "Predict, as Vertex AI asks.", "requestBody": vertex, "responses": answers}
        },
        health_route: {"get": {"summary": "Whether requests are answered.", "responses": _answers({}, (503,))}},
        "/live": {"get": {"summary": "Whether the process runs.", "responses": _answers({}, ())}},
    }
    for below, parameters in {"": [], "/versions/{version}": [version], "/labels/{label}": [label]}.items():
        base = f"/v1/models/{name}{below}"
        for path, method, summary, extra in (
            (f"{base}:predict", "post", "Predict, as TF Serving does.", {"requestBody": body, "responses": answers}),
            (base, "get", "The state of versions.", {"responses": _answers({}, (404, 503))}),
            (f"{base}/metadata", "get", "Inputs and outputs.", {"responses": _answers({}, (404, 503))}),
        ):
            operation = {"summary": summary, **extra, **({"parameters": parameters} if parameters else {})}
            paths[path] = {method: operation}
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": str(served.number), "description": f"Schema {served.predictor.schema_hash}"},
        "paths": paths,
    }


def _rows(service: Service, row: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "maxItems": service.settings.max_request_rows, "items": row}


def _row_schema(served: Served) -> dict[str, Any]:
    inputs = served.predictor.inputs
    features = _by_input(served.predictor.features)
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name, one in inputs.items() if one.required],
        "properties": {
            **{name: {"description": "Not used."} for name in sorted(inputs.other_columns - inputs.keys())},
            **{name: _value_schema(served, one, features.get(name)) for name, one in inputs.items()},
        },
    }


def _by_input(features: FeatureSet | None) -> dict[str, Feature]:
    return {safe_name(name): feature for name, feature in features.features.items()} if features else {}


def _value_schema(served: Served, one: Input, feature: Feature | None) -> dict[str, Any]:
    kind = _JSON_TYPES[one.kind]
    # A string may be a number, or stand for a missing value, as in a CSV file.
    kinds = list(dict.fromkeys([kind, "string", *(["number"] if kind == "string" else [])]))
    schema: dict[str, Any] = {"type": kinds if one.required else [*kinds, "null"]}
    if one.kind == "string" and one.required and "" in one.rule.missing_values:
        schema["minLength"] = 1
    if one.kind == "float":
        schema |= {"minimum": -3.4e38, "maximum": 3.4e38}
    if one.kind == "int":
        # An ID outside the range of its feature is counted, and gets the nearest ID.
        schema |= {"minimum": INT64.start, "maximum": INT64.stop - 1}
    known = _categories(served, one.name, feature)
    if known:
        schema["examples"] = list(known[:10])
    return schema


def _categories(served: Served, name: str, feature: Feature | None) -> tuple[str, ...]:
    """Return the best known categories of a feature: those declared, or those that were learned, most frequent
    first.
    """
    match feature:
        case VocabularyList() | VocabularyFile():
            return feature.values[:_SHOWN_CATEGORIES]
        case Vocabulary():
            file = served.folder / "assets" / name
            with file.open(encoding="utf-8", errors="replace") if file.is_file() else io.StringIO() as lines:
                return tuple(unescape(line.rstrip("\n")) for line in itertools.islice(lines, _SHOWN_CATEGORIES))
        case Numeric() | Identity() | Hash() | None:
            return ()
        case _:
            assert_never(feature)


def _output_names(served: Served) -> list[str]:
    return sorted(served.predictor.signature("serving_default").structured_outputs)


def _json_body(schema: Mapping[str, Any], example: Any) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


def _answers(properties: Mapping[str, Any], errors: tuple[int, ...]) -> dict[str, Any]:
    def answer(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        return {"description": description, "content": {"application/json": {"schema": schema}}}

    wrong = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    good = {"type": "object", "required": list(properties), "properties": dict(properties)}
    return {"200": answer("The answer.", good), **{str(code): answer("Why not.", wrong) for code in errors}}


def try_it(service: Service) -> tuple[str, dict[str, str]]:
    """Return a page with a form of all features, and its headers; without a version it says so."""
    nonce = secrets.token_urlsafe(16)
    headers = {
        "content-security-policy": _POLICY.format(nonce),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }
    template = _TEMPLATES.get_template("try_it.html.j2")
    try:
        served = service.find()
    except NotReadyError as error:
        page = _TEMPLATES.get_template("try_it.html.j2").render(
            nonce=nonce, model=service.model_name, problem=str(error)
        )
        return page, headers
    features, example = _by_input(served.predictor.features), example_row(served)
    page = template.render(
        nonce=nonce,
        model=service.model_name,
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
                "column": one.column,
                "type": _JSON_TYPES[one.kind],
                "required": one.required,
                "value": example.get(name),
                "choices": _categories(served, name, features.get(name)),
            }
            for name, one in served.predictor.inputs.items()
        ],
    )
    return page, headers
