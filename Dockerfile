# Three images: `pipeline` runs the components on Vertex Pipelines, `dataflow` runs Beam's workers, `serving` answers
# requests. `make test-images` builds them all and uses each.
#
#   docker build --target pipeline --build-arg BASE=python:3.11-slim-trixie@sha256:DIGEST -t REGION-docker.pkg.dev/PROJECT/pipelines/pipeline:TAG .
#
# BASE and BEAM are given by their digests, so that a build can be repeated: `docker buildx imagetools inspect IMAGE`
# prints them. Debian trixie has the C library that ml-metadata's wheels need.
ARG BASE
# Of the release of apache-beam in the lock.
ARG BEAM=apache/beam_python3.11_sdk:2.77.0

FROM ${BASE} AS sources
COPY pyproject.toml setup.py README.md LICENSE local_runner.py vertex_runner.py /src/
COPY cli /src/cli
COPY emulators /src/emulators
COPY oncall /src/oncall
COPY pipeline /src/pipeline
COPY components /src/components
COPY trainer /src/trainer
COPY serving /src/serving
COPY schemas /src/schemas

FROM ${BASE} AS builder
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 VIRTUAL_ENV=/opt/venv
# pyfarmhash, which tensorflow-data-validation needs, has no wheel. The compiler stays in this stage.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY requirements/tools.txt /tmp/tools.txt
RUN pip install --require-hashes --requirement /tmp/tools.txt && python -m venv /opt/venv

# Nothing is compiled later: the headers, and the symbols of TensorFlow's library, are of no use.
# Installed, not copied: what setup.py does not package is missing here as it is in `vertex_runner.py rehearse`.
FROM builder AS locked
COPY requirements/lock.txt /tmp/lock.txt
RUN uv pip install --no-deps --require-hashes --requirement /tmp/lock.txt \
  && rm -rf /opt/venv/lib/python3.11/site-packages/*/include \
  && strip --strip-unneeded /opt/venv/lib/python3.11/site-packages/tensorflow/libtensorflow_cc.so.2
COPY --from=sources /src /src
RUN uv pip install --no-deps --no-build-isolation /src

FROM builder AS locked-serving
COPY requirements/serving.txt /tmp/lock.txt
RUN uv pip install --no-deps --require-hashes --requirement /tmp/lock.txt \
  && rm -rf /opt/venv/lib/python3.11/site-packages/*/include \
  && strip --strip-unneeded /opt/venv/lib/python3.11/site-packages/tensorflow/libtensorflow_cc.so.2
COPY --from=sources /src /src
RUN uv pip install --no-deps --no-build-isolation /src

FROM ${BASE} AS pipeline
# 0 for root: only for components of your own that write below /gcs, which Vertex lets root do (docs/vertex.md).
ARG RUN_AS=1000
RUN useradd --create-home --uid 1000 runner
COPY --from=locked /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
USER ${RUN_AS}
WORKDIR /home/runner
# Vertex Pipelines gives each task its own command.
ENTRYPOINT []
CMD ["python", "-m", "components.task_entry", "--help"]

FROM ${BEAM} AS beam

FROM pipeline AS dataflow
COPY --from=beam /opt/apache/beam /opt/apache/beam
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
# Dataflow mounts folders of its own as root, and starts the worker with this very entry point.
# hadolint ignore=DL3002
USER 0
ENTRYPOINT ["/opt/apache/beam/boot"]

FROM ${BASE} AS serving
RUN useradd --create-home --uid 1000 runner
COPY --from=locked-serving /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 TF_CPP_MIN_LOG_LEVEL=1
USER 1000
WORKDIR /home/runner
# Vertex's contract: AIP_HTTP_PORT, AIP_HEALTH_ROUTE, AIP_PREDICT_ROUTE and AIP_STORAGE_URI are in the environment.
EXPOSE 8080
CMD ["python", "-m", "serving"]
