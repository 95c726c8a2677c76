# One word per habit. Each target sets up what it needs; `make` alone lists them.
.DEFAULT_GOAL := help
VENV := .venv
COMPILED := $(CURDIR)/build/compiled
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
MODEL ?= stub
HOST ?= 127.0.0.1
PORT ?= 8080
SEEDS ?= 2000
MINUTES ?= 60
# Many tests wait, so there are more workers than cores. Neighbours share a server: a worker takes a row of tests.
JOBS ?= 4
PYTEST = -m pytest -n $(JOBS) --dist worksteal
LATEST := build/latest
# Hundreds of processes start in a run: what each imports is compiled once, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo serve compiled test test-compiled test-latest test-python test-slow test-ray test-triton faults simulate soak conformance fuzz chart check format bench attacks docs sample proto lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## the environment in .venv (quick when it is there)

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || scripts/make-venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip sync --quiet requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $(STAMP)

demo: $(STAMP) ## speak to it: a recording streamed in real time, its words printed while they are said
	@$(BIN)/python -m streamer demo
	@echo "The command is $(BIN)/streamer."

serve: $(STAMP) ## a server (MODEL=stub HOST=127.0.0.1 PORT=8080)
	@$(BIN)/streamer serve $(MODEL) --host $(HOST) --port $(PORT)

test: $(STAMP) ## the test suite (JOBS=4 workers; one test: .venv/bin/python -m pytest PATH)
	@scripts/system-packages sox flite prometheus haproxy redis-server
	@scripts/actionlint
	@$(BIN)/python $(PYTEST)

compiled: $(STAMP) ## the way of a message as machine code, in build/compiled: PYTHONPATH=build/compiled .venv/bin/streamer ...
	@scripts/compile $(BIN)/python

test-compiled: compiled ## the test suite on that (ROOMS="session audio" for some of it)
	@PYTHONPATH=$(COMPILED) $(BIN)/python $(PYTEST) $(addprefix tests/,$(ROOMS))

test-latest: $(STAMP) ## the test suite on the newest versions that pyproject.toml allows, in build/latest
	@test -x $(LATEST)/bin/python || scripts/make-venv $(LATEST)
	@$(BIN)/uv pip install --quiet --python $(LATEST)/bin/python --upgrade --group dev \
		--editable ".[av,grpc,otel,plot,pocketsphinx,moonshine-tiny,whisper-tiny,evaluate,reload]"
	@echo "what requirements.lock has not:"
	@$(BIN)/uv pip freeze --python $(LATEST)/bin/python | grep == >$(LATEST)/versions
	@sed 's/ *;.*//' requirements.lock | grep -vxF -f - $(LATEST)/versions || echo "nothing"
	@scripts/system-packages sox flite prometheus
	@$(LATEST)/bin/python $(PYTEST)

test-python: ## the test suite on another Python, in build/NAME (PYTHON=python3.13)
	@$(MAKE) --no-print-directory test VENV=build/$(notdir $(PYTHON))

test-slow: $(STAMP) ## what takes minutes
	@$(BIN)/python -m pytest -m slow --timeout 1200

faults: $(STAMP) ## the fault table: what each fault costs, and what was seen of it
	@$(BIN)/python -m tests.faults

simulate: $(STAMP) ## the whole server in memory on a clock of its own, thousands of sessions (SEEDS=2000)
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

soak: $(STAMP) ## a server under seeded faults: promises and memory (MINUTES=60)
	@$(BIN)/python -m tests.soak --minutes $(MINUTES)

conformance: $(STAMP) ## Autobahn's fuzzing client against our WebSocket settings
	@$(BIN)/python -m tests.conformance

fuzz: $(STAMP) ## fuzz whatever reads what strangers send (MINUTES=60)
	@-$(BIN)/uv pip install --quiet --python $(BIN)/python --group fuzz
	@$(BIN)/python -m tests.fuzz $(MINUTES)

test-ray: $(STAMP) ## models in a real Ray cluster, whose actors, nodes and head are killed (minutes)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --group ray
	@$(BIN)/python -m pytest -m slow --timeout 600 tests/inference/test_ray.py

test-triton: $(STAMP) ## models on a real Triton server, which is fetched into build/triton (55 MB)
	@scripts/triton-server $(BIN)/python
	@$(BIN)/python -m pytest -m slow --timeout 600 tests/models/test_triton.py

chart: $(STAMP) ## the Helm chart against helm, kubeconform and the last three versions of Kubernetes
	@scripts/helm-tools
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --group chart
	@$(BIN)/python -m pytest tests/deploy/test_chart.py

check: $(STAMP) ## format, lint, types, architecture
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_architecture.py

format: $(STAMP) ## write the format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

attacks: $(STAMP) ## what one client can cost the others: each attack beside healthy streams (a quarter of an hour)
	@scripts/compile $(BIN)/python || echo "not compiled"
	@PYTHONPATH=$(COMPILED) $(BIN)/python -m benchmarks.attacks

bench: $(STAMP) ## the benchmarks (under ten minutes), compiled where that can be done
	@scripts/compile $(BIN)/python || echo "not compiled: Streamer's own figures are a fifth higher"
	@PYTHONPATH=$(COMPILED) $(BIN)/python -m benchmarks

# Code from an old generator runs under every newer protobuf, not the other way round: so this one is old.
proto: $(STAMP) ## the Python code of proto/ anew
	@mkdir -p build/proto
	@$(BIN)/uv run --quiet --no-project --isolated --python $(BIN)/python --with grpcio-tools==1.71.2 --with setuptools \
		python -m grpc_tools.protoc -Iproto --python_out=build/proto --pyi_out=build/proto streamer/v2/streamer.proto open_inference/open_inference.proto
	@mv build/proto/streamer/v2/streamer_pb2.py build/proto/streamer/v2/streamer_pb2.pyi src/streamer/protocols/pb/
	@mv build/proto/open_inference/open_inference_pb2.py build/proto/open_inference/open_inference_pb2.pyi src/streamer/models/pb/
	@rm -r build/proto
	@$(BIN)/python -m tests.protocols.proto_shape

docs: $(STAMP) ## the documentation as pages in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "site/index.html"

sample: ## the demo's recording, made anew
	@scripts/make-sample

lock: $(STAMP) ## resolve the dependencies anew
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header --no-emit-index-url \
		--extra av --extra grpc --extra otel --extra plot --extra pocketsphinx --extra reload --extra rnnoise --extra zeroconf \
		--extra moonshine-tiny --extra whisper-tiny --extra evaluate --group dev --group docs --group dialects pyproject.toml -o requirements.lock

clean: ## remove what was made
	@rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
