from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from schemas.curated.changes import find_changes, rewrite

TEXT = """# The schema of shops.
feature {
  name: "city" # not a town
  type: BYTES
  domain: "city"
}
# Prices are in cents { not dollars }.
feature { name: "price" type: FLOAT float_domain { min: 0 max: 10 } }
# All cities.
string_domain {
  name: "city"
  value: "a } brace"
}
"""


def parse(text: str) -> schema_pb2.Schema:
    return text_format.Parse(text, schema_pb2.Schema())


def test_nothing_changed() -> None:
    assert find_changes(parse(TEXT), parse(TEXT)) == []
    assert rewrite(TEXT, parse(TEXT)) == TEXT


def test_a_change_is_listed_and_leaves_all_other_lines_and_comments() -> None:
    after = parse(TEXT)
    after.string_domain[0].value.append('say "b"')
    (change,) = find_changes(parse(TEXT), after)
    assert str(change) == 'string_domain city\n  + value: "say \\"b\\""'
    text = rewrite(TEXT, after)
    assert parse(text) == after
    unchanged_lines = TEXT.splitlines()[: TEXT.splitlines().index("string_domain {")]
    assert text.splitlines()[: len(unchanged_lines)] == unchanged_lines


def test_a_changed_feature_between_two_comments() -> None:
    after = parse(TEXT)
    after.feature[1].float_domain.max = 20
    (change,) = find_changes(parse(TEXT), after)
    assert (change.kind, change.name, change.lines) == ("feature", "price", ["- max: 10.0", "+ max: 20.0"])
    text = rewrite(TEXT, after)
    assert parse(text) == after
    assert "# Prices are in cents { not dollars }.\nfeature {" in text
    assert "# All cities.\nstring_domain {" in text


def test_features_come_and_go() -> None:
    after = parse(TEXT)
    del after.feature[0]
    after.feature.add(name="new", type=schema_pb2.INT)
    assert [(c.kind, c.name, c.lines[0][0]) for c in find_changes(parse(TEXT), after)] == [
        ("feature", "city", "-"),
        ("feature", "new", "+"),
    ]
    assert parse(rewrite(TEXT, after)) == after
