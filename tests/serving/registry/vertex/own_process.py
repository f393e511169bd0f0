"""A push in a process of its own, which imports neither the emulator nor pytest."""

import os
from pathlib import Path

from serving.model.golden_requests import GoldenRequests
from serving.registry.protocol import Candidate
from serving.registry.vertex.config import Deployment, VertexProject
from serving.registry.vertex.connection import VertexClient
from serving.registry.vertex.registry import VertexRegistry


def push_model(environment: dict[str, str], place: VertexProject, folder: Path, run: str) -> None:
    """Push a model as the pipeline census-income."""
    os.environ.update(environment)
    golden = GoldenRequests([{"x": 0.0}], [{"probability": 0.2}])
    deployment = Deployment(serving_image="my-image", serving_tensorflow="2.21")
    registry = VertexRegistry(VertexClient(place, poll_seconds=0.02, report=print), deployment, "census-income")
    registry.push(Candidate("census-income", None, run, folder=folder, tensorflow=(2, 21), golden=golden.to_json()))
