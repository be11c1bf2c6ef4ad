# `make demo` and `make test` each work alone on a fresh clone; they need Python >= 3.11 and pip.
PYTHON    ?= python3
DEMO_VENV ?= .venv-demo
TEST_VENV ?= .venv-test
BIN       := $(TEST_VENV)/bin

# The release of torch that the tests are run with, installed first and by itself, so that pip
# takes the build that this machine's index offers and the extra finds it in place.
TORCH      := torch==2.13.0
# Every extra that a test uses: no test needs TensorFlow (Keras runs on JAX), and `dev` has XGBoost
# without CUDA.
TEST_EXTRAS := torch,jax,sklearn,ray,deploy,datasets,dp,plot,dev

# Tests run in two processes, each of which begins with a half of its own: those that share a costly
# fixture stay together.
PYTEST    := $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

PIP_FLAGS := --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test check static bench wire clean

help: ## Say what each target does
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## (.*)/\1\t\2/' | expand -t 10

demo: $(DEMO_VENV)/.installed ## Train a federated model on scikit-learn's digits
	$(DEMO_VENV)/bin/umbel run examples/quickstart-numpy --seed 7

test: static ## Run every check and every test
	@echo "== pytest (doctests and slow tests too)"
	@$(PYTEST)

check: static ## Run every check and the fast tests
	@echo "== pytest (fast tests and doctests)"
	@$(PYTEST) -m "not slow"

static: $(TEST_VENV)/.installed
	@echo "== ruff format"
	@$(BIN)/ruff format --check .
	@echo "== ruff check"
	@$(BIN)/ruff check .
	@echo "== mypy"
	@$(BIN)/mypy
	@echo "== import-linter"
	@PYTHONPATH=src $(BIN)/lint-imports --no-logo

bench: $(TEST_VENV)/.installed ## Measure the simulation against a bare loop
	$(BIN)/python benchmarks/simulation.py

# The compiler's release decides which releases of protobuf can load what it writes: this one and
# the next.
wire: ## Generate src/umbel/deployment/wire anew from proto/
	@$(PYTHON) -m venv .venv-wire
	@.venv-wire/bin/python -m pip install $(PIP_FLAGS) grpcio-tools==1.72.1 mypy-protobuf==3.6.0
	@PATH=.venv-wire/bin:$$PATH .venv-wire/bin/python -m grpc_tools.protoc \
		-Iumbel/deployment/wire=proto/umbel/v1 --python_out=src --mypy_out=src \
		--grpc_python_out=src --mypy_grpc_out=src umbel/deployment/wire/umbel.proto

clean: ## Remove environments, caches and build products; runs/ stays
	rm -rf $(DEMO_VENV) $(TEST_VENV) .venv-wire build dist .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The package is installed as a link to src/, so that only a change of its dependencies, which
# stand in pyproject.toml, asks for another installation.
$(DEMO_VENV)/.installed: pyproject.toml
	@echo "== installing into $(DEMO_VENV)"
	@$(PYTHON) -m venv $(DEMO_VENV)
	@$(DEMO_VENV)/bin/python -m pip install $(PIP_FLAGS) --editable '.[sklearn]'
	@touch $@

$(TEST_VENV)/.installed: pyproject.toml
	@echo "== installing into $(TEST_VENV)"
	@$(PYTHON) -m venv $(TEST_VENV)
	@$(BIN)/python -m pip install $(PIP_FLAGS) '$(TORCH)'
	@$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[$(TEST_EXTRAS)]'
	@touch $@
