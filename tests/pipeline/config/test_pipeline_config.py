import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.errors import ConfigError
from pipeline.config.pipeline_config import load
from schemas.features import FeatureSet
from tests.conftest import CENSUS_CONFIG


def mappings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every mapping in the config whose keys are fixed names."""
    if isinstance(value, dict):
        # Feature and split names are the user's own.
        if path not in (("features",), ("data", "splits")):
            yield path
        for key, inner in value.items():
            yield from mappings(inner, (*path, key))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from mappings(inner, (*path, index))


CENSUS = yaml.safe_load(CENSUS_CONFIG.read_text())


def at(config: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        config = config[part]
    return config


ALL_KEYS = [(path, key) for path in mappings(CENSUS) for key in at(CENSUS, path)]


@pytest.mark.parametrize(
    ("path", "key"), ALL_KEYS, ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else value
)
def test_any_misspelt_key_is_refused_with_file_and_key(path: tuple[Any, ...], key: str, tmp_path: Path) -> None:
    config = copy.deepcopy(CENSUS)
    section = at(config, path)
    section[f"{key}x"] = section.pop(key)
    file = tmp_path / "misspelt.yaml"
    file.write_text(yaml.dump(config, Dumper=yaml.CSafeDumper))
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert str(refused.value).startswith(f"{file}: ")
    # A misspelt discriminator is reported as missing; every other key by its wrong name.
    assert f"'{key}x'" in str(refused.value) or "kind" in key


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epoch=3", "training: unknown key 'epoch', did you mean 'epochs'?"),
        (
            "training.epochs=many",
            "training.epochs: input should be a valid integer, unable to parse string as an integer, found 'many'",
        ),
        (
            "features.age.buckets.count=0",
            "features.age.buckets.count: input should be greater than or equal to 2, found 0",
        ),
        ("features.age.scal=1", "features.age: unknown key 'scal', did you mean 'scale'?"),
        (
            "features.race.embedding=big",
            "features.race.embedding: input should be a valid integer or 'one_hot' or 'none', found 'big'",
        ),
        (
            "implementation={Transform: quick}",
            "implementation.Transform: input should be 'fast' or 'stock', found 'quick'",
        ),
        ("implementation=3", "implementation: input should be 'fast' or 'stock' or a mapping, found 3"),
        (
            "training.search={parameters: {model.dropout: {low: 0.5, high: 0.1}}}",
            "training.search.parameters.model.dropout: low: 0.5 is not below high: 0.1",
        ),
        (
            "training.search={parameters: {model.dropout: {low: a, high: 0.1}}}",
            "training.search.parameters.model.dropout.low: input should be a valid integer or a valid number, found 'a'",
        ),
        (
            "training.search={parameters: {model.dropout: {low: 0.5}}}",
            "training.search.parameters.model.dropout.high: field required",
        ),
        (
            "training.search={parameters: {model.dropout: {choices: [1]}}}",
            "training.search.parameters.model.dropout.choices: tuple should have at least 2 items after validation",
        ),
        (
            "training.search={parameters: {model.dropout: 3}}",
            "training.search.parameters.model.dropout: input should be a mapping, found 3",
        ),
        (
            "crosses.0.features=[educatio, occupation]",
            "the cross educatio_X_occupation uses 'educatio', which is not a declared feature; did you mean 'education'?",
        ),
        (
            "label={kind: multiclass, column: income, classes: [a, a, b]}",
            "label.classes: repeated: a, found",
        ),
        (
            "label={kind: regression, column: income}",
            "evaluation.thresholds: 'auc' is not for a regression label, which has rmse, mae, r2, mean_error",
        ),
        ("training.early_stopping.metric=rmse", "training.early_stopping.metric: 'rmse' is not for a binary label"),
        ("label.kind=multi", "label: input tag 'multi'"),
        ("decision={cost_false_positive: 1}", "decision.cost_false_negative: field required"),
        (
            "decision={cost_false_positive: 0, cost_false_negative: 1}",
            "decision.cost_false_positive: input should be greater than 0, found 0",
        ),
        (
            "decision={cost_false_positive: .nan, cost_false_negative: 1}",
            "decision.cost_false_positive: input should be",
        ),
        (
            "decision={cost_false_positive: 1, cost_false_negativ: 1}",
            "decision: unknown key 'cost_false_negativ', did you mean 'cost_false_negative'?",
        ),
        (
            "decision={cost_false_positive: 1.0e-3, cost_false_negative: 1.0e+4}",
            "decision: cost_false_positive: 0.001 and cost_false_negative: 10000 are more than 1,000,000 times apart; no threshold on a probability separates such errors",
        ),
        (
            "evaluation.metrics=[auc, log_loss, calibration, mean_cost]",
            "evaluation.metrics: 'mean_cost' needs the costs of the errors, section 'decision'",
        ),
        ("data.splits.eval.fraction=2", "data.splits.eval.fraction: input should be less than 1, found 2"),
        (
            "data.splits.eval.source=trai",
            "data: splits.eval.source: 'trai' is not a split read from files; did you mean 'train'?",
        ),
        ("data.format=bigquery", "data: bigquery: is missing; give the project that reads: {project: PROJECT}"),
        ("data.bigquery={project: p1}", "data: bigquery: needs format: bigquery, found format: csv"),
        ("data.splits.test={table: a.b}", "data: splits.test: expected files, found table; the rows are in files"),
        (
            "data={format: bigquery, bigquery: {project: p1}, base: a, splits: {}}",
            "data: base: is for files, and the rows are elsewhere; remove it",
        ),
        (
            "data={format: bigquery, bigquery: {project: p1}, splits: {train: {files: a}, eval: {table: a.b}}}",
            "data: splits.train: expected table or query, found files; the rows are in BigQuery",
        ),
        (
            "data={format: bigquery, bigquery: {project: p1}, splits: {train: {table: 'a.b$1'}, eval: {table: a.b}}}",
            "data.splits.train.table: string should match pattern",
        ),
        (
            "data={format: tfrecord, example_gen: {component: a.B}, splits: {train: {files: a}, eval: {examples: a}}}",
            "data: splits.train: expected examples, found files; the rows are in data.example_gen",
        ),
        ("data.example_gen={component: a.B}", "data: example_gen: needs format: tfrecord, found format: csv"),
        ("data.example_gen={component: MyExampleGen}", "data.example_gen.component: string should match pattern"),
        ("data={splits: {}}", "data: base: is missing; give the folder of the files"),
        ("vertex.input_base=", "vertex.input_base: is missing; give the gs:// folder that replaces data.base"),
        (
            "push={model_name: census-income, target: vertex, promote: false}",
            "push: promote: false is for the folder; with target: vertex, end push.vertex.traffic_steps below 100",
        ),
        ("evaluation.split=tets", "evaluation.split: 'tets' is not in data.splits; did you mean 'test'?"),
        (
            "evaluation.split=train",
            "evaluation.split: 'train' is fitted, and shows what the model remembers; name another",
        ),
        ("evaluation.slice_by=[[sexx]]", "evaluation: a threshold is on slices by ['sex'], which is not in slice_by"),
        ("vertex.region=europe", "vertex.region: expected a region such as europe-west4, found 'europe'"),
        ("vertex.api_endpoint=https://localhost:1", "vertex.api_endpoint: expected HOST:PORT without https://"),
        ("name=Census Income", "name: string should match pattern '^[a-z0-9][a-z0-9-]{0,127}$', found 'Census Income'"),
        (
            "data.ignored_columns=[age]",
            "data.ignored_columns: age cannot be ignored, the features, label or weight use it",
        ),
        (
            "training.deep_optimizer={name: adam, learning_rate: 1, clip_norm: 1, clip_value: 1}",
            "training.deep_optimizer: give clip_norm or clip_value, not both",
        ),
        ("model.label_scale=quantile", "model.label_scale: 'quantile' needs a label that is a number"),
        ("training.calibration=mean", "training.calibration: 'mean' needs a label that is a number"),
        ("model.clip_predictions=true", "model.clip_predictions: 'True' needs a label that is a number"),
        (
            "model={architecture: wide, members: 8}",
            "model.members: 8 members share the deep part, which model.architecture: wide leaves out",
        ),
        ("training.search={minutes: 0}", "training.search.minutes: input should be greater than 0, found 0"),
        (
            "training.search={minutes: 5, parameters: {model.drop: {low: 0, high: 1}}}",
            "training.search.parameters: 'model.drop' is not a key of model or training",
        ),
        (
            "training.search={parameters: {model.label_scale: {choices: [z_score, quantile]}}}",
            "training.search.parameters: model.label_scale: 'quantile' needs a label that is a number",
        ),
        (
            "features.sex.sensitive=true",
            "evaluation.slice_by: 'sex' is sensitive, and its values would name the slices; remove it here, or slice",
        ),
        (
            "data.sensitive_columns=[age]",
            "data.sensitive_columns: 'age' is declared under features.age; set features.age.sensitive: true instead",
        ),
        (
            "data.sensitive_columns=[income]",
            "data.sensitive_columns: 'income' is declared under label; set label.sensitive: true instead",
        ),
        ("features.age.expires=soon", "features.age.expires: input should be a valid date or datetime"),
        (
            "features.age={kind: numeric, scale: none, buckets: {kind: quantiles, count: 4}, encoding: number}",
            "features.age: encoding: 'number' needs a scaled number; scale is 'none'",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_key_rule_and_value(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(CENSUS_CONFIG, [setting])
    assert any(f"{source}{message}" in str(refused.value) for source in ("--set ", f"{CENSUS_CONFIG}: "))


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("{kind: multiclass, column: income, classes: [a, b, c]}", "multiclass"),
        ("{kind: regression, column: income}", "regression"),
    ],
)
def test_costs_are_for_a_binary_label(label: str, kind: str) -> None:
    costs = "decision={cost_false_positive: 1, cost_false_negative: 5}"
    with pytest.raises(ConfigError) as rejected:
        load(CENSUS_CONFIG, [f"label={label}", costs])
    assert str(rejected.value) == f"--set decision: is for a binary label, and 'income' is {kind}; remove it"
    config = load(CENSUS_CONFIG, [costs, "evaluation.metrics=[auc, log_loss, calibration, mean_cost]"])
    assert config.decision is not None
    assert config.decision.cost_false_negative == 5


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epochs", "--set training.epochs: expected key=value, such as training.epochs=3"),
        ("name.x=1", "--set name.x=1: 'x' lies below a plain value, not a section"),
        ("crosses.9.num_ids=1", "--set crosses.9.num_ids=1: '9' is not an index of that list; it has 6 items"),
        ("seed=[", "--set seed=[: the value is not valid YAML: expected the node content, but found '<stream end>'"),
        ("seed=!!int abc", "the value is not valid YAML: invalid literal for int() with base 10: 'abc'"),
        ("seed=!!timestamp x", "the value is not valid YAML: 'x' is not a date: expected one such as 2024-03-31"),
        ("training={[1]: 2}", "the value is not valid YAML: unhashable type: 'list'"),
        (f"seed={'[' * 500}", "the value is not valid YAML: is nested too deeply"),
        ("seed=9223372036854775808", "9223372036854775808 needs more than 64 bits; quote it if it is a string"),
    ],
)
def test_a_malformed_setting_is_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(CENSUS_CONFIG, [setting])
    assert str(refused.value).startswith(f"--set {setting}: ")
    assert str(refused.value).endswith(message)


def test_an_error_names_the_setting_or_the_file_whichever_gave_the_key(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(CENSUS_CONFIG.read_text().replace("seed: ", "seed: x"))
    settings = ["push.version=many", "training.epoch=3", "model={hidden_units: [0]}"]
    with pytest.raises(ConfigError) as rejected:
        load(file, settings)
    sources = {line.partition(": ")[0] for line in str(rejected.value).splitlines()}
    of_settings = {"push.version", "training", "model.hidden_units", "model.hidden_units.0"}
    assert sources == {str(file), *(f"--set {key}" for key in of_settings)}
    with pytest.raises(ConfigError, match="^--set unknown key 'sed', did you mean 'seed'"):
        load(file, ["sed=1"])


def test_a_part_without_a_feature_is_rejected() -> None:
    features = "features={age: {kind: numeric, wide: false, encoding: none}}"
    settings = [features, "crosses=[]", "evaluation={split: test}"]
    for parts, named in (("wide", "the wide"), ("deep", "the deep"), ("wide_and_deep", "any")):
        with pytest.raises(ConfigError, match=f"model.architecture: no feature is for {named} part"):
            load(CENSUS_CONFIG, [*settings, f"model.architecture={parts}"])


@pytest.mark.parametrize("setting", ["imbalance=oversample", "calibration=temperature", "label_smoothing=0.1"])
def test_what_needs_classes_is_rejected_for_a_number(setting: str) -> None:
    regression = ["label={kind: regression, column: income}", "evaluation={split: test}"]
    with pytest.raises(ConfigError) as rejected:
        load(CENSUS_CONFIG, [*regression, "training.early_stopping=null", f"training.{setting}"])
    key, value = setting.split("=")
    assert f"training.{key}: '{value}' needs classes; the label is a number" in str(rejected.value)


def test_settings_override_single_keys() -> None:
    config = load(CENSUS_CONFIG, ["training.epochs=3", "crosses.0.num_ids=7", "push.version=5"])
    assert (config.training.epochs, config.crosses[0].num_ids, config.push.version) == (3, 7, 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "is not valid YAML"),
        (b"name: a\nname: b\n", ":2: is not valid YAML: the key 'name' is a duplicate"),
        (b"name: 2026-13-01\n", ":1: is not valid YAML: '2026-13-01' is not a date: month must be in 1..12"),
        (b"? [a]\n: b\n", "is not valid YAML: unhashable type: 'list'"),
        (b"- a\n", "expected a mapping with the sections of a config, found list"),
        (b"name: \xff\n", "is not UTF-8 text (byte 6); save it as UTF-8"),
        (b"name: a\n", "data: field required"),
    ],
)
def test_a_file_that_is_no_config_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert str(refused.value).startswith(str(file))
    assert message in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "none.yaml")
    assert (
        str(refused.value)
        == f"{tmp_path}/none.yaml: cannot be read: No such file or directory; give the path of a config with --config"
    )


def test_a_category_that_no_row_can_have_is_named(tmp_path: Path) -> None:
    file = tmp_path / "spaces.yaml"
    file.write_text(CENSUS_CONFIG.read_text())
    (tmp_path / "sexes.txt").write_text("Male\r\nFemale \r\n")
    for feature in ("{kind: vocabulary_file, file: sexes.txt}", "{kind: vocabulary_list, values: [Male, 'Female ']}"):
        settings = [f"features.sex={feature}", "data.csv.strip_spaces=false", "data.schema_file=null"]
        assert load(file, settings).features["sex"].list_id_columns("sex")[0].num_ids == 3
        settings[1] = "data.csv.strip_spaces=true"
        with pytest.raises(ConfigError, match="features.sex: the category 'Female ' has spaces around it, which "):
            load(file, settings)


@pytest.mark.parametrize("setting", ["missing=1e39", "buckets={kind: boundaries, boundaries: [16777216, 16777217]}"])
def test_numbers_that_float32_does_not_hold_are_named(setting: str, tmp_path: Path) -> None:
    file = tmp_path / "float32.yaml"
    file.write_text(CENSUS_CONFIG.read_text())
    with pytest.raises(ConfigError, match=r"features.age.* float32, in which"):
        load(file, [f"features.age.{setting}"])


def test_a_vocabulary_file_is_read_relative_to_the_config(tmp_path: Path) -> None:
    (tmp_path / "sexes.txt").write_text("Female\nMale\n")
    file = tmp_path / "config.yaml"
    file.write_text(CENSUS_CONFIG.read_text())
    config = load(file, ["features.sex={kind: vocabulary_file, file: sexes.txt}"])
    assert config.features["sex"].values == ("Female", "Male")  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"features.sex.file: .*none.txt cannot be read: No such file or directory"):
        load(file, ["features.sex={kind: vocabulary_file, file: none.txt}"])


def test_a_sensitive_column_that_is_none_of_the_table_is_an_error() -> None:
    settings = ["data.group_column=person", "data.sensitive_columns=[persn]"]
    message = "'persn' is neither ignored, nor the weight, nor a group, and decides on no split; did you mean 'person'"
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(CENSUS_CONFIG, settings)
    settings[1] = "data.sensitive_columns=[person]"
    assert load(CENSUS_CONFIG, [*settings, "features.age.sensitive=true"]).sensitive_columns == ("age", "person")
    weight = ["data.weight_column=fnlwgt", "data.ignored_columns=[]", "data.sensitive_columns=[fnlwgt]"]
    assert load(CENSUS_CONFIG, weight).sensitive_columns == ("fnlwgt",)


@pytest.mark.parametrize("kind", ["list", "text", "timestamp"])
def test_slices_are_by_one_value_in_a_row(kind: str) -> None:
    feature = "{kind: timestamp, parts: {hour: {}}}" if kind == "timestamp" else f"{{kind: {kind}}}"
    message = f"evaluation.slice_by: 'when' is a {kind}; expected a feature with one category or number in each row"
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(CENSUS_CONFIG, [f"features.when={feature}", "evaluation.slice_by=[[sex], [race], [when]]"])


def test_a_change_of_the_owner_or_of_the_date_trains_no_model_again() -> None:
    plain = load(CENSUS_CONFIG).feature_set
    noted = load(CENSUS_CONFIG, ["features.age.owner=a@b.org", "features.age.expires=2026-12-31"]).feature_set
    described = load(CENSUS_CONFIG, ["features.age.description=In years."]).feature_set
    assert plain.to_model_json() == noted.to_model_json() != described.to_model_json()
    assert FeatureSet.model_validate_json(described.to_model_json()).features["age"].description == "In years."


def test_a_uri_is_kept_and_a_relative_folder_starts_at_the_config() -> None:
    assert load(CENSUS_CONFIG, ["data.base=gs://my-bucket/data"]).data.base == "gs://my-bucket/data"
    source = "{component: a.B, arguments: {input_base: ../data}}"
    splits = "{train: {examples: train}, eval: {examples: eval}, test: {examples: eval}}"
    data = load(CENSUS_CONFIG, [f"data={{format: tfrecord, example_gen: {source}, splits: {splits}}}"]).data
    assert data.example_gen is not None
    assert data.example_gen.arguments == {"input_base": str(CENSUS_CONFIG.parent.parent / "data")}


def test_times_texts_and_vectors_are_compared_only_by_name_and_lists_by_default() -> None:
    declared = (
        "{when: {kind: timestamp, parts: {hour: {}}}, tags: {kind: list}, note: {kind: text}, v: {kind: vector, "
        "length: 2, missing: zeros}}"
    )
    settings = [f"features={declared}", "crosses=[]", "evaluation={split: test}", "validation={}"]
    policy = load(CENSUS_CONFIG, settings).gate_policy
    assert policy.drift.excluded == policy.skew.excluded == ("when", "note", "v")


def test_the_policy_names_derived_features_as_any_other() -> None:
    declared = (
        "{a: {kind: numeric}, words: {kind: input, type: string}, half: {kind: numeric, expression: a / 2, missing: 0},"
        " low: {kind: text, expression: lower(words)}}"
    )
    validation = (
        "{drift: {features: {half: {threshold: 0.1}}}, severities: [{anomaly: MOSTLY_UNDEFINED, features: [half], "
        "severity: stop}]}"
    )
    settings = [f"features={declared}", "crosses=[]", "evaluation={split: test}", f"validation={validation}"]
    policy = load(CENSUS_CONFIG, settings).gate_policy
    assert policy.drift.features["half"].threshold == 0.1
    assert policy.skew.excluded == ("low",)


@pytest.mark.integration
def test_a_wrong_metric_class_is_reported_before_the_threshold_that_is_named_for_it(tmp_path: Path) -> None:
    metrics = "evaluation.metrics=[MatthewsCorelation]"
    bound = "evaluation.thresholds=[{metric: matthews_correlation_coefficient, lower_bound: 0}]"
    with pytest.raises(ConfigError) as error:
        load(CENSUS_CONFIG, [metrics, bound])
    first, second = str(error.value).splitlines()
    assert first.startswith("--set evaluation.metrics: TFMA and Keras have no metric 'MatthewsCorelation'")
    assert "a threshold is on 'matthews_correlation_coefficient', which is not a metric" in second


def test_errors_on_keys_that_are_found_later_name_the_file_too() -> None:
    config = load(CENSUS_CONFIG)
    with pytest.raises(ConfigError) as error, config.name_file_in_errors():
        raise ConfigError("transform.module: features.py has no function\n--until X: there is no such node")
    assert str(error.value).splitlines() == [
        f"{CENSUS_CONFIG}: transform.module: features.py has no function",
        "--until X: there is no such node",
    ]
