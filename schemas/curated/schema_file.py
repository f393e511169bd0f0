"""Reads curated schemas, and holds them against the feature declarations. Imports no TensorFlow."""

import hashlib
from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from cli.errors import ConfigError
from schemas.declaration import find_close_match, suggest_name
from schemas.features import ColumnType, FeatureSet

# In an artifact of SchemaGen.
SCHEMA_FILE_NAME = "schema.pbtxt"
SCHEMA_TYPES: dict[ColumnType, int] = {
    "float": schema_pb2.FLOAT,
    "int": schema_pb2.INT,
    "string": schema_pb2.BYTES,
}


def load_schema(path: str) -> schema_pb2.Schema:
    """Read a schema in text format.

    Raises:
      ConfigError: naming the file and, where it is not valid, the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return text_format.Parse(text, schema_pb2.Schema())
    except OSError as error:
        raise ConfigError(f"data.schema_file: {path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"data.schema_file: {path}: is not UTF-8 text") from error
    except text_format.ParseError as error:
        raise ConfigError(f"data.schema_file: {path}: is not a schema in text format: {error}") from error


def hash_schema(schema: schema_pb2.Schema) -> str:
    """Name a schema by its content, comments left out: 16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(schema.SerializeToString(deterministic=True)).hexdigest()[:16]


def check_schema(path: str, schema: schema_pb2.Schema, features: FeatureSet) -> None:
    """Reject a schema that does not describe the declared columns.

    Raises:
      ConfigError: for the first column that is missing, undeclared, of another type, or may be missing undeclared.
    """
    described = {feature.name: feature for feature in schema.feature}
    declared = features.validated_types
    for name, kind in declared.items():
        if name not in described:
            if name in features.derived_columns:
                # SchemaGen adds it.
                continue
            close = find_close_match(name, sorted(set(described) - set(declared)))
            hint = f"did you mean '{close}'? Or add" if close else "add"
            raise ConfigError(
                f"{path}: has no feature '{name}', which the config declares; {hint} "
                f'feature {{ name: "{name}" type: {schema_pb2.FeatureType.Name(SCHEMA_TYPES[kind])} }}'
            )
        if described[name].type != SCHEMA_TYPES[kind]:
            actual = schema_pb2.FeatureType.Name(described[name].type)
            expected = schema_pb2.FeatureType.Name(SCHEMA_TYPES[kind])
            raise ConfigError(f"{path}: '{name}' has type {actual}; the config's kind of feature needs type {expected}")
    for name in described:
        if name not in declared:
            hint = suggest_name(name, list(declared))
            raise ConfigError(f"{path}: describes '{name}', which the config does not declare; {hint}")
    for name, feature in features.raw_features.items():
        if described[name].presence.min_fraction < 1 and feature.missing is None:
            raise ConfigError(
                f"{path}: '{name}' may be missing (presence.min_fraction below 1); declare what a missing value "
                f"becomes under features.{name}.missing, or set min_fraction: 1.0"
            )
