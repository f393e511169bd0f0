# `make run` and `make test` work from a fresh clone: both set up .venv first, and start at once when it is up to date.

PYTHON ?= python3.11
BIN := .venv/bin
# A file of tests stays in one process: its tests share runs and servers.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

# Those have targets of their own.
NO_ROOT := and not images and not hosts

# Each process would otherwise compile all modules and tests again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run data serve test test-hosts test-images check unit proofs coverage bench soak quality tables lock docs clean
.DEFAULT_GOAL := help

help: ## Show this list.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: .venv/installed ## Run the pipeline on the built-in census data. ARGS="--dry-run" and the like are passed on.
	@$(BIN)/python local_runner.py $(ARGS)

data: .venv/installed ## Fetch and prepare the data of configs/flights.yaml and configs/income_kdd.yaml.
	@$(BIN)/python -m data.fetch

serve: .venv/installed ## Serve what `make run` pushed: HTTP on 8501, gRPC on 8500, a page at http://127.0.0.1:8501/.
	@$(BIN)/python -m serving --model-dir runs/census-income/registry/census-income --port 8501 --grpc-port 8500 $(ARGS)

test: check ## Run all checks, and all tests but the proofs.
	@$(BIN)/python -m pytest $(PARALLEL) -m "not proof $(NO_ROOT)" $(ARGS)

proofs: .venv/installed ## Run the long proofs: the tutorial, the drill, faults at every point, attacks, benchmarks, Vertex AI, databases, wide tables, a browser.
	@$(BIN)/python -m pytest $(PARALLEL) -m "proof $(NO_ROOT)" $(ARGS)

test-hosts: .venv/installed ## Run the pipeline with Beam workers on another host; needs root, and Go to build Prism.
	@command -v ip > /dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends iproute2 > /dev/null; }
	@$(BIN)/python -m pytest -m hosts tests/hosts $(ARGS)

test-images: .venv/installed ## Build the images and use each: needs root, Go, and Debian's buildah and debootstrap.
	@$(BIN)/python -m pytest -m images tests/images $(ARGS)

coverage: .venv/installed ## Print the coverage of the tests that need no whole run.
	@$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not proof $(NO_ROOT)" --cov --cov-report=term:skip-covered $(ARGS)

check: .venv/installed ## Run the checks of style, types, import directions and prose.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > /dev/null || $(BIN)/lint-imports --no-cache
	@$(BIN)/python -m checks.prose > /dev/null

unit: .venv/installed ## Run the tests that start no pipeline, training, server or other process.
	@$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not integration and not proof $(NO_ROOT)" $(ARGS)

bench: .venv/installed ## Compare seconds and peak memory with a stock TFX pipeline on the same data.
	@$(BIN)/python -m benchmarks.bench $(ARGS)

soak: .venv/installed ## Soak the server that serves what `make run` pushed, for ten minutes; ARGS="--minutes 3".
	@$(BIN)/python -m benchmarks.soak $(ARGS)

quality: .venv/installed ## Train on census with 5 seeds and print the metrics on test. ARGS=--all: beside trees on 15 public tables.
	@$(BIN)/python -m benchmarks.quality $(ARGS)

tables: .venv/installed ## Compare with gradient-boosted trees on real data sets that no config was written for.
	@$(BIN)/python -m benchmarks.tables $(ARGS)

docs: .venv/installed ## Write docs/config.md and docs/commands.md again from the code.
	@$(BIN)/python -m pipeline.config.docs > docs/config.md
	@$(BIN)/python -m checks.commands > docs/commands.md

lock: .venv/installed ## Resolve the dependencies of pyproject.toml again.
	@.venv/tools/bin/uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_39 --generate-hashes \
	  --no-emit-index-url --no-header --extra dev --upgrade --output-file requirements/lock.txt pyproject.toml
	@.venv/tools/bin/uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_39 --generate-hashes \
	  --no-emit-index-url --no-header --constraint requirements/lock.txt --excludes requirements/serving-excludes.txt \
	  --output-file requirements/serving.txt requirements/serving.in
	@printf 'catboost\nlightgbm\npandas\npyarrow\nscikit-learn\nydf\n' | .venv/tools/bin/uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate --upgrade --output-file requirements/peers.txt -

clean: ## Remove the environment and the caches; runs/ is kept.
	@rm -rf .venv .venv-install.log .mypy_cache .ruff_cache .pytest_cache .coverage* build *.egg-info

.venv/installed: requirements/lock.txt requirements/tools.txt requirements/install.py setup.py
	@command -v $(PYTHON) > /dev/null || { echo "set-up stopped: needs Python 3.11, found no $(PYTHON); name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) requirements/install.py
	@touch $@
