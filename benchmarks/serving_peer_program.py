"""Serve a SavedModel with another framework, as its documentation has it.

    PEER=fastapi PEER_MODEL=FOLDER PYTHON serving_peer_program.py PORT

It runs in the peers' environment, so it imports nothing of this product. The frameworks import their classes by name,
some in processes of their own, so these are the module's, and the environment names the peer.
"""

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

_PEER, _FOLDER = os.environ["PEER"], os.environ["PEER_MODEL"]


class PeerModel:
    """A SavedModel, called as TensorFlow's guide has it."""

    def __init__(self) -> None:
        import tensorflow as tf

        self._tf = tf
        # Held: the signature alone does not keep its variables.
        self._loaded = tf.saved_model.load(_FOLDER)
        self._signature = self._loaded.signatures["serving_default"]
        self._specs = self._signature.structured_input_signature[1]

    def predict(self, instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the predictions of rows."""
        columns = {
            name: self._tf.constant([row[name] for row in instances], spec.dtype) for name, spec in self._specs.items()
        }
        outputs = {name: value.numpy().tolist() for name, value in self._signature(**columns).items()}
        return [{name: _to_text(values[row]) for name, values in outputs.items()} for row in range(len(instances))]


def _to_text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


if _PEER == "fastapi":
    import fastapi
    import uvicorn

    def serve(port: int) -> None:
        """Serve by FastAPI, in its pool of threads."""
        application, model = fastapi.FastAPI(), PeerModel()

        @application.post("/predict")
        def predict(request: dict[str, Any]) -> dict[str, Any]:
            return {"predictions": model.predict(request["instances"])}

        uvicorn.run(application, port=port, log_level="error")

elif _PEER == "litserve":
    import litserve

    class Api(litserve.LitAPI):
        """Calls of LitServe."""

        def setup(self, device: str) -> None:
            """Load the model."""
            self.model = PeerModel()

        def decode_request(self, request: dict[str, Any]) -> Any:
            """Return the rows of a request."""
            return request["instances"]

        def predict(self, x: Any) -> Any:
            """Return the predictions of rows."""
            return self.model.predict(x)

        def encode_response(self, output: Any) -> dict[str, Any]:
            """Return the answer."""
            return {"predictions": output}

    def serve(port: int) -> None:
        """Serve by LitServe, with one worker."""
        server = litserve.LitServer(Api(), accelerator="cpu")
        server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error")

elif _PEER == "mlserver":
    import mlserver
    from mlserver.codecs import StringCodec

    class Runtime(mlserver.MLModel):
        """Calls of MLServer: a request is one input of JSON strings."""

        async def load(self) -> bool:
            """Load the model, outside of the event loop."""
            self.model = await asyncio.to_thread(PeerModel)
            return True

        async def predict(self, payload: mlserver.types.InferenceRequest) -> mlserver.types.InferenceResponse:
            """Return the answer."""
            rows = [json.loads(row) for row in StringCodec.decode_input(payload.inputs[0])]
            answers = [json.dumps(answer) for answer in self.model.predict(rows)]
            output = StringCodec.encode_output("predictions", answers)
            return mlserver.types.InferenceResponse(model_name=self.name, outputs=[output])

    def serve(port: int) -> None:
        """Serve by MLServer, in its own process."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            grpc_port = free.getsockname()[1]
        settings = mlserver.Settings(
            host="127.0.0.1", http_port=port, grpc_port=grpc_port, metrics_endpoint=None, parallel_workers=0
        )
        implementation = f"{Path(__file__).stem}.Runtime"
        models = [mlserver.ModelSettings(name="model", implementation=implementation)]
        asyncio.run(mlserver.MLServer(settings).start(models))

elif _PEER == "bentoml":
    import bentoml

    @bentoml.service(workers=1)
    class PeerService:
        """Calls of BentoML."""

        def __init__(self) -> None:
            self._model = PeerModel()

        @bentoml.api(route="/predict")
        def predict(self, instances: list[dict[str, Any]]) -> dict[str, Any]:
            """Return the answer."""
            return {"predictions": self._model.predict(instances)}

    def serve(port: int) -> None:
        """Serve by BentoML's own command, with one worker."""
        command = [sys.executable, "-m", "bentoml", "serve", f"{Path(__file__).stem}:Service", "--port", str(port)]
        folder = str(Path(__file__).parent)
        os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": folder, "BENTOML_DO_NOT_TRACK": "True"})


if __name__ == "__main__":
    serve(int(sys.argv[1]))
