# Everything here needs only make and Python 3.11+ with venv; the rest is installed into $(VENV).

PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt
# The stamps say that an environment is complete; without a change to these files it is reused.
STAMP := $(VENV)/.sklvm-stamp
BENCH_STAMP := $(VENV)/.sklvm-bench-stamp

RUN_SCRIPTS = set -e; for script in $(SCRIPTS); do echo "== $$script"; $(BIN)/python "$$script"; done

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint format bench bench-mixtures bench-factors bench-sequences bench-rbm bench-vae clean

help:  ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(STAMP)  ## see the suite at work
	$(BIN)/python -m sklvm.demo

# One thread per process: two workers with a thread pool each would fight over the cores.
test: export OMP_NUM_THREADS = 1
test: export SCIPY_ARRAY_API = 1
test: lint  ## lint, then run every test and docstring example
	$(BIN)/python -m pytest -n 2

lint: $(STAMP)  ## check style, types and spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell

format: $(STAMP)  ## fix and format what ruff can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: SCRIPTS = $(wildcard benchmarks/[a-z]*.py)
bench: $(BENCH_STAMP)  ## run the comparisons with other libraries
	@$(RUN_SCRIPTS)

bench-mixtures: SCRIPTS = $(wildcard benchmarks/mixture_*.py)
bench-mixtures: $(BENCH_STAMP)  ## run those of the mixtures only
	@$(RUN_SCRIPTS)

bench-factors: SCRIPTS = $(wildcard benchmarks/factor_*.py)
bench-factors: $(BENCH_STAMP)  ## run those of the factor models only
	@$(RUN_SCRIPTS)

bench-sequences: SCRIPTS = $(wildcard benchmarks/sequence_*.py)
bench-sequences: $(BENCH_STAMP)  ## run those of the sequences only
	@$(RUN_SCRIPTS)

bench-rbm: SCRIPTS = $(wildcard benchmarks/rbm_*.py)
bench-rbm: $(BENCH_STAMP)  ## run those of the Boltzmann machines only
	@$(RUN_SCRIPTS)

bench-vae: SCRIPTS = $(wildcard benchmarks/vae_*.py)
bench-vae: $(BENCH_STAMP)  ## run those of the variational autoencoder only
	@$(RUN_SCRIPTS)

clean:  ## remove builds and caches (the environment stays)
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf .coverage .coverage.* coverage.xml htmlcov docs/_build docs/auto_examples docs/generated
	find $(wildcard sklvm tests benchmarks docs) -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "sklvm needs Python 3.11 or newer, '$(PYTHON)' is not: try make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "'$(PYTHON)' lacks venv or ensurepip: install your system's python3-venv package" >&2; exit 1; }
	@echo "installing into $(VENV): a few minutes, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e ".[plot,progress,test]"
	@touch $@

$(BENCH_STAMP): $(STAMP)
	$(INSTALL) -e ".[bench]"
	@touch $@
