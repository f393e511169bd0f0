"""Functions that the stock pipeline's Transform and Trainer call, in the manner of TFX's own taxi template.

Differences from the template: no MirroredStrategy (there is one device) and the model of our own pipeline, for the
data of benchmarks/household.py.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tfx import v1 as tfx
from tfx_bsl.public import tfxio

Z_SCORES = ("age", "education_num", "hours_per_week", "partner_age", "partner_hours_per_week")
LOG_Z_SCORES = ("capital_gain", "capital_loss", "fnlwgt")
BUCKETS = ("age", "education_num", "hours_per_week", "partner_age")
VOCABULARIES = (
    "workclass",
    "education",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "native_country",
    "partner_occupation",
)
CROSSES = (
    ("education", "occupation"),
    ("age_bucket", "education", "occupation"),
    ("relationship", "occupation"),
    ("marital_status", "education"),
    ("workclass", "occupation"),
    ("native_country", "occupation"),
)
LABEL = "income"
NUM_BUCKETS = 32
NUM_CROSS_IDS = 2000
# Transform finds a value outside the training vocabulary this many ids after it.
NUM_UNKNOWN_IDS = 1

EMBEDDING = 8
HIDDEN_UNITS = (128, 64)
DROPOUT = 0.3
LEARNING_RATE = 0.001


def transformed_name(name: str) -> str:
    """Return the name of a transformed column: it must differ from the raw one, which TFMA slices by."""
    return f"{name}_xf"


def cross_name(columns: Sequence[str]) -> str:
    """Return the transformed name of a cross."""
    return "_x_".join(columns)


def preprocessing_fn(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Return Transform's graph: raw columns of shape [batch, 1] to numbers, ids and the label, all of shape [batch,
    1].
    """
    outputs = {}
    for key in Z_SCORES:
        outputs[transformed_name(key)] = tft.scale_to_z_score(tf.cast(inputs[key], tf.float32))
    for key in LOG_Z_SCORES:
        outputs[transformed_name(key)] = tft.scale_to_z_score(tf.math.log1p(tf.cast(inputs[key], tf.float32)))
    for key in BUCKETS:
        outputs[f"{key}_bucket"] = tft.bucketize(inputs[key], NUM_BUCKETS)
    for key in VOCABULARIES:
        outputs[transformed_name(key)] = tft.compute_and_apply_vocabulary(
            inputs[key], num_oov_buckets=NUM_UNKNOWN_IDS, vocab_filename=key
        )
    crossable = {**inputs, "age_bucket": tf.strings.as_string(outputs["age_bucket"])}
    for columns in CROSSES:
        joined = tf.strings.join([crossable[column] for column in columns], separator="|")
        outputs[cross_name(columns)] = tft.hash_strings(joined, NUM_CROSS_IDS)
    outputs[transformed_name(LABEL)] = tf.cast(tf.equal(inputs[LABEL], ">50K"), tf.int64)
    return outputs


def build_model(vocabulary_sizes: Mapping[str, int]) -> keras.Model:
    """Return the wide-and-deep network; its output is a probability of shape [batch, 1].

    Args:
      vocabulary_sizes: for each of VOCABULARIES, its ids, the unknown ones included.
    """
    numbers = {transformed_name(k): keras.Input((1,), name=transformed_name(k)) for k in (*Z_SCORES, *LOG_Z_SCORES)}
    base_ids = {f"{key}_bucket": NUM_BUCKETS for key in BUCKETS}
    base_ids |= {transformed_name(key): vocabulary_sizes[key] for key in VOCABULARIES}
    cross_ids = {cross_name(columns): NUM_CROSS_IDS for columns in CROSSES}
    ids = {name: keras.Input((1,), name=name, dtype="int64") for name in (*base_ids, *cross_ids)}

    weights = [_embed(ids[name], size, 1, "zeros") for name, size in (base_ids | cross_ids).items()]
    wide = keras.layers.Add()([*weights, keras.layers.Dense(1)(keras.layers.Concatenate()(list(numbers.values())))])
    vectors = [_embed(ids[name], size, EMBEDDING, "uniform") for name, size in base_ids.items()]
    deep = keras.layers.Concatenate()([*numbers.values(), *vectors])
    for units in HIDDEN_UNITS:
        deep = keras.layers.Dense(units, use_bias=False)(deep)
        deep = keras.layers.BatchNormalization()(deep)
        deep = keras.layers.Activation("relu")(deep)
        deep = keras.layers.Dropout(DROPOUT)(deep)
    logit = keras.layers.Add()([wide, keras.layers.Dense(1)(deep)])
    return keras.Model(inputs=numbers | ids, outputs=keras.layers.Activation("sigmoid")(logit))


def _embed(ids: Any, num_ids: int, dimension: int, initializer: str) -> Any:
    """Return vectors of shape [batch, dimension] for ids of shape [batch, 1]."""
    vectors = keras.layers.Embedding(num_ids, dimension, embeddings_initializer=initializer)(ids)
    return keras.layers.Flatten()(vectors)


def input_fn(
    files: Sequence[str], fn_args: tfx.components.FnArgs, transform_output: tft.TFTransformOutput
) -> tf.data.Dataset:
    """Return shuffled batches for ever of (columns, label), each of shape [batch, 1], as the template reads them."""
    options = tfxio.TensorFlowDatasetOptions(
        batch_size=fn_args.custom_config["batch_size"],
        shuffle_seed=fn_args.custom_config["seed"],
        label_key=transformed_name(LABEL),
    )
    return fn_args.data_accessor.tf_dataset_factory(files, options, transform_output.transformed_metadata.schema)


def run_fn(fn_args: tfx.components.FnArgs) -> None:
    """Train and export the model; `train_steps` are those of all epochs, `eval_steps` those after each one."""
    keras.utils.set_random_seed(fn_args.custom_config["seed"])
    transform_output = tft.TFTransformOutput(fn_args.transform_output)
    sizes = {key: transform_output.vocabulary_size_by_name(key) + NUM_UNKNOWN_IDS for key in VOCABULARIES}
    model = build_model(sizes)
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE), loss="binary_crossentropy", metrics=[keras.metrics.AUC()]
    )
    epochs = fn_args.custom_config["epochs"]
    model.fit(
        input_fn(fn_args.train_files, fn_args, transform_output),
        epochs=epochs,
        steps_per_epoch=max(1, fn_args.train_steps // epochs),
        validation_data=input_fn(fn_args.eval_files, fn_args, transform_output),
        validation_steps=fn_args.eval_steps,
        callbacks=[keras.callbacks.TensorBoard(fn_args.model_run_dir, update_freq="epoch")],
        verbose=2,
    )
    signatures = {
        "serving_default": _serving_signature(model, transform_output),
        "transform_features": _transform_signature(model, transform_output),
    }
    tf.saved_model.save(model, fn_args.serving_model_dir, signatures=signatures)


def _serving_signature(model: keras.Model, transform_output: tft.TFTransformOutput) -> Callable[..., Any]:
    """Return serialised tf.Example of raw columns, without the label, to probabilities."""
    # The exported model must own the layer, for it owns the vocabularies.
    model.tft_layer_inference = transform_output.transform_features_layer()
    feature_spec = transform_output.raw_feature_spec()
    del feature_spec[LABEL]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        columns = model.tft_layer_inference(tf.io.parse_example(examples, feature_spec))
        return {"outputs": model({name: columns[name] for name in model.input})}

    return cast(Callable[..., Any], serve)


def _transform_signature(model: keras.Model, transform_output: tft.TFTransformOutput) -> Callable[..., Any]:
    """Return serialised tf.Example of raw columns to transformed ones: TFMA takes the label from here."""
    model.tft_layer_eval = transform_output.transform_features_layer()
    feature_spec = transform_output.raw_feature_spec()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def transform_features(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return cast(dict[str, tf.Tensor], model.tft_layer_eval(tf.io.parse_example(examples, feature_spec)))

    return cast(Callable[..., Any], transform_features)
