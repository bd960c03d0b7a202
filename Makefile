# make run    set up .venv and run the proxy on its embedded defaults
# make test   set up .venv with the test tools and run every test
# make lint   format, rules, types and layers
# make bench  the figures of docs/performance.md
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
CONFIG ?= etc/whatsproxy.toml
TESTS ?= tests

.PHONY: run test lint format bench docs clean

run: $(VENV)/.installed
	$(BIN)/twistd --nodaemon --pidfile= whatsproxy --config $(CONFIG)

test: $(VENV)/.installed-dev
	tests/sandbox $(BIN)/trial --rterrors $(TESTS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.installed-dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/.installed-dev
	tests/sandbox $(BIN)/python bench/load.py
	tests/sandbox $(BIN)/python bench/scrape.py
	tests/sandbox $(BIN)/python bench/forward.py

# etc/whatsproxy.toml and the tables of docs/configuration.md are written from the code.
docs: $(VENV)/.installed
	$(BIN)/python -m whatsproxy.reference

clean:
	rm -rf $(VENV) *.egg-info build _trial_temp* .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "whatsproxy needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python setup.cfg pyproject.toml
	$(PIP) install --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python setup.cfg pyproject.toml
	$(PIP) install --editable '.[dev]'
	touch $@ $(VENV)/.installed
