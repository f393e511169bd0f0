"""Placeholders of a container's command."""

import json

import pytest

from cli.errors import PipelineError
from pipeline.vertex.placeholders import fill

REQUEST = {
    "inputs": {
        "parameterValues": {"epochs": 3.0, "rate": 0.5, "name": "a b", "flags": [1, 2], "deep": True},
        "artifacts": {"rows": {"artifacts": [{"uri": "gs://b/rows"}]}},
    },
    "outputs": {"artifacts": {"model": {"artifacts": [{"uri": "gs://b/model"}]}}},
}


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("{{$}}", [json.dumps(REQUEST)]),
        ("--epochs={{$.inputs.parameters['epochs']}}", ["--epochs=3"]),
        ("{{$.inputs.parameters['rate']}}/{{$.inputs.parameters['name']}}", ["0.5/a b"]),
        ("{{$.inputs.parameters['flags']}}", ["[1, 2]"]),
        ("{{$.inputs.parameters['deep']}}", ["true"]),
        ("{{$.inputs.artifacts['rows'].uri}}", ["gs://b/rows"]),
        ("{{$.outputs.artifacts['model'].path}}", ["gs://b/model"]),
        ('{"Concat": ["a-", "{{$.inputs.parameters[\'epochs\']}}"]}', ["a-3"]),
        (
            '{"IfPresent": {"InputName": "rate", "Then": ["--rate", "{{$.inputs.parameters[\'rate\']}}"]}}',
            ["--rate", "0.5"],
        ),
        ('{"IfPresent": {"InputName": "rows", "Then": "--rows"}}', ["--rows"]),
        ('{"IfPresent": {"InputName": "none", "Then": ["--none"]}}', []),
        ('{"IfPresent": {"InputName": "none", "Then": ["--none"], "Else": ["--some"]}}', ["--some"]),
        ('{"other": "json"}', ['{"other": "json"}']),
    ],
)
def test_a_placeholder_becomes_words(part: str, words: list[str]) -> None:
    assert fill([part], REQUEST) == words


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ("{{$.inputs.parameters['none']}}", "the task has no such value"),
        ("{{$.inputs.artifacts['none'].uri}}", "the task has no such value"),
        ("{{$.outputs.parameters['none'].output_file}}", "cannot be rehearsed"),
    ],
)
def test_a_placeholder_without_a_value_is_named(part: str, problem: str) -> None:
    with pytest.raises(PipelineError, match=problem) as error:
        fill([part], REQUEST)
    assert part in str(error.value)
