"""A call of the model that never returns."""

import queue
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.model.model_call import Outputs
from serving.server.watchdog import CallWatchdog
from tests.serving.running import RunningServer


def test_a_call_that_hangs_is_found_and_none_that_has_ended() -> None:
    hanging, gone, ends = threading.Event(), threading.Event(), queue.Queue[tuple[int, float]]()

    def call(columns: Mapping[str, Sequence[Any]]) -> Outputs:
        if not columns["x"]:
            raise ValueError("no rows")
        hanging.set()
        gone.wait()
        return {"y": np.zeros(1)}

    watchdog = CallWatchdog(1.0)
    watched = watchdog.watch(3, call)
    with pytest.raises(ValueError, match="no rows"):
        watched({"x": []})
    thread = threading.Thread(target=watched, args=({"x": [1]},))
    thread.start()
    hanging.wait()
    watchdog.start(lambda version, seconds: ends.put((version, seconds)))
    assert ends.get(timeout=60) == (3, 1.0)
    gone.set()
    thread.join()


def _export_hanging_model(folder: Path) -> None:
    """Write a model that waits for ever for a row above 1."""
    import tensorflow as tf

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def predict(self, x: Any) -> dict[str, Any]:
            def wait() -> Any:
                never = tf.raw_ops.FIFOQueueV2(component_types=[tf.float32], shared_name="never")
                return tf.raw_ops.QueueDequeueV2(handle=never, component_types=[tf.float32])[0]

            return {"y": x + tf.cond(tf.reduce_any(x > 1), wait, lambda: tf.constant(0.0))}

    model = Model()
    tf.saved_model.save(model, str(folder), {"serving_default": model.predict})


@pytest.mark.integration
def test_a_server_whose_model_hangs_ends_with_a_line(tmp_path: Path) -> None:
    _export_hanging_model(tmp_path / "waiter" / "1")
    flags = ["--model-dir", str(tmp_path / "waiter"), "--versions", "latest", "--allow-unvalidated", "--timeout", "0.5"]
    with RunningServer(*flags, constants={"serving.server.service:HUNG_SECONDS": 1.0}) as running:
        path = "/v1/models/waiter:predict"
        assert running.post(path, {"instances": [{"x": 0.5}, {"x": 0.25}]}) == (200, {"predictions": [0.5, 0.25]})
        status, answer = running.post(path, {"instances": [{"x": 2}, {"x": 0.25}]})
        assert (status, "waited past its deadline" in answer["error"]) == (503, True)
        assert running.wait() == 1
    assert running.wait_for_events(event="hung", version=1)
    assert any("a call of version 1 has taken 2 s and hangs; the process ends" in line for line in running.errors)
