# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.PHONY: help demo demo-encode quick test test-full integration lint bench docs picture clean

help:            ## show this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Stamps, so that a second call installs nothing.
$(VENV)/.light: pyproject.toml | $(VENV)/bin/python
	@echo "installing the light set into $(VENV): 160 MB to download, 0.7 GB on disk, about half a minute"
	$(PIP) --editable .
	@touch $@

$(VENV)/.encoders: pyproject.toml | $(VENV)/bin/python
	@echo "installing the full set into $(VENV), with torch: several GB on Linux, which takes minutes"
	$(PIP) --editable '.[encoders]'
	@touch $@ $(VENV)/.light

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.light $(VENV)/.encoders

demo: $(VENV)/.light   ## the main job on shipped pictures and vectors, without torch
	@echo "less than a minute the first time, while kernels are compiled; then about 15 seconds"
	$(BIN)/intramodal demo --out intramodal-demo

demo-encode: $(VENV)/.encoders   ## the same, the pictures encoded by the shipped model
	@echo "about two minutes the first time; then less than one"
	$(BIN)/intramodal demo --encode --out intramodal-demo

lint: $(VENV)/.dev   ## format, rules, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The folders of tests that mirror the changed folders of the package, and the contracts.
quick: $(VENV)/.dev   ## lint, and the unit and contract tests of what has changed since the last commit
	@sh scripts/quick.sh $(BIN)

# Two workers of one thread each; then what is held against a clock, with the machine to itself.
test: lint   ## lint and every test, with small counts of the slow suites
	$(ONE_THREAD) $(PYTEST) -m 'not slow and not serial' -n 2 --dist loadfile
	$(PYTEST) -m 'serial and not slow'

test-full: lint   ## the full counts: kills at every system call, 200 fault schedules, 1,000 hostile files
	INTRAMODAL_KILLS=30 INTRAMODAL_FAULT_SCHEDULES=200 INTRAMODAL_HOSTILE_FILES=1000 \
	INTRAMODAL_SYSCALL_KILLS=all INTRAMODAL_RANDOM_KILLS=300 INTRAMODAL_PAYLOADS=500 \
	INTRAMODAL_COPY_S=20 INTRAMODAL_FUZZ_S=60 $(PYTEST)

# Servers: INTRAMODAL_TEST_QDRANT_URL and INTRAMODAL_TEST_DB_URL, else containers; what lacks both is skipped.
integration: $(VENV)/.dev   ## the tests that need a running Qdrant and PostgreSQL
	INTRAMODAL_FAULT_SCHEDULES=$${INTRAMODAL_FAULT_SCHEDULES:-200} $(PYTEST) tests/integration tests/congruence tests/contract/test_ledger.py

bench: $(VENV)/.dev   ## every claim of speed; prints ratios
	@for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

docs: $(VENV)/.dev   ## regenerate what is generated
	$(BIN)/cog -r docs/cli.md docs/paper.md

picture: $(VENV)/.dev   ## draw the README's picture again: the demo's report, in Chromium
	PYTHONPATH=. $(BIN)/python scripts/make_readme_picture.py

clean:           ## remove the environment and everything generated
	rm -rf $(VENV) intramodal-demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
