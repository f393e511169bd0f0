"""Curated schemas held against the declaration."""

from pathlib import Path

import pytest

from cli.errors import ConfigError
from pipeline.config import pipeline_config
from schemas.curated.schema_file import check_schema, load_schema
from tests.conftest import CENSUS_CONFIG, ROOT

CENSUS_SCHEMA = str(ROOT / "schemas" / "census.pbtxt")


def test_the_census_schema_describes_what_the_census_config_declares() -> None:
    check_schema(CENSUS_SCHEMA, load_schema(CENSUS_SCHEMA), pipeline_config.load(CENSUS_CONFIG).feature_set)


def test_every_census_feature_has_a_domain_presence_and_comparators() -> None:
    for feature in load_schema(CENSUS_SCHEMA).feature:
        assert feature.WhichOneof("domain_info"), feature.name
        assert feature.presence.min_count == 1, feature.name
        assert feature.HasField("skew_comparator"), feature.name
        assert feature.HasField("drift_comparator"), feature.name


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'name: "age"',
            'name: "years"',
            "has no feature 'age', which the config declares; add feature { name: \"age\" type: FLOAT }",
        ),
        (
            'name: "sex"',
            'name: "sexx"',
            "has no feature 'sex', which the config declares; did you mean 'sexx'? Or add feature",
        ),
        ("type: FLOAT", "type: BYTES", "'age' has type BYTES; the config's kind of feature needs type FLOAT"),
        ("feature {", 'feature { name: "shoe" type: INT }\nfeature {', "describes 'shoe', which the config does not"),
        ("min_fraction: 1.0", "min_fraction: 0.5", "'age' may be missing (presence.min_fraction below 1); declare"),
    ],
)
def test_a_schema_that_describes_something_else_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    text = Path(CENSUS_SCHEMA).read_text()
    assert old in text
    changed = tmp_path / "changed.pbtxt"
    changed.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        check_schema(str(changed), load_schema(str(changed)), pipeline_config.load(CENSUS_CONFIG).feature_set)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(changed))


def test_a_feature_that_a_schema_lacks_is_written_out(tmp_path: Path) -> None:
    schema = load_schema(CENSUS_SCHEMA)
    del schema.feature[[feature.name for feature in schema.feature].index("age")]
    with pytest.raises(ConfigError) as caught:
        check_schema("s.pbtxt", schema, pipeline_config.load(CENSUS_CONFIG).feature_set)
    assert str(caught.value) == (
        "s.pbtxt: has no feature 'age', which the config declares; add feature { name: \"age\" type: FLOAT }"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"feature { nmae: 'age' }", "is not a schema in text format: 1:11"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_an_unreadable_schema_names_its_file(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "schema.pbtxt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_schema(str(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
