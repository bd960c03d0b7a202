# make run    set up .venv and run the proxy on its embedded defaults
# make test   set up .venv with the test tools and run every test
# make lint   format, rules, types, layers and known vulnerabilities
# make bench  the figures of docs/performance.md
# make chaos  the running service under faults and floods (minutes; docs/reliability.md)
# make fuzz   every parser, and whole connections, on what nobody has thought of: FUZZ_SECONDS each
# make soak   mixed load with faults for SOAK_MINUTES, every byte checked, and the account of it
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
CONFIG ?= etc/whatsproxy.toml
TESTS ?=
CHAOS ?= $(subst /,.,$(basename $(sort $(wildcard tests/chaos/chaos_*.py))))
SOAK_MINUTES ?= 30
FUZZ_SECONDS ?= 60

.PHONY: run test test-both test-inside test-plain test-programs lint format bench chaos soak fuzz fuzz-plant docs clean

run: $(VENV)/.installed
	$(BIN)/twistd --nodaemon --pidfile= whatsproxy --config $(CONFIG)

# Side by side, each in a sandbox of its own; or what TESTS names: TESTS=tests.test_sniff. What is
# tested inside is so on both transports: on the hub, and (TEST_FAST=0) on Twisted's own.
test: $(VENV)/.installed-dev
ifeq ($(TESTS),)
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target test-programs test-both
else
	tests/sandbox $(BIN)/trial --rterrors $(TESTS)
endif

test-both:
	@$(MAKE) --no-print-directory --keep-going test-inside test-plain

test-inside:
	tests/sandbox $(BIN)/trial --rterrors --temp-directory=_trial_temp.inside $(wildcard tests/test_*.py)

test-plain:
	TEST_FAST=0 tests/sandbox $(BIN)/trial --rterrors --temp-directory=_trial_temp.plain $(wildcard tests/test_*.py)

test-programs:
	tests/sandbox $(BIN)/trial --rterrors --temp-directory=_trial_temp.programs tests.integration

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/bandit --quiet --recursive --skip B101 whatsproxy twisted  # B101: see S101 in ruff.toml
	$(BIN)/python -m tests.audit

format: $(VENV)/.installed-dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/.installed-dev
	tests/sandbox $(BIN)/python bench/bars.py
	tests/sandbox $(BIN)/python bench/load.py
	tests/sandbox $(BIN)/python bench/scrape.py
	$(BIN)/python bench/networks.py
	tests/sandbox $(BIN)/python bench/forward.py

# trial does not find these by itself: they take too long for every day.
chaos: $(VENV)/.installed-dev
	tests/sandbox $(BIN)/trial --rterrors $(CHAOS)

soak: $(VENV)/.installed-dev
	tests/sandbox $(BIN)/python -m tests.chaos.soak --minutes $(SOAK_MINUTES)

# Some bugs are planted as well, to see that they are found; fuzz-plant plants all there are.
fuzz: $(VENV)/.installed-fuzz
	tests/sandbox $(BIN)/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS)
	tests/sandbox $(BIN)/python tests/fuzz/plant.py --first sniff socks5 connection

fuzz-plant: $(VENV)/.installed-fuzz
	tests/sandbox $(BIN)/python tests/fuzz/plant.py

# etc/whatsproxy.toml and the tables of docs/configuration.md are written from the code.
docs: $(VENV)/.installed
	$(BIN)/python -m whatsproxy.reference

clean:
	rm -rf $(VENV) *.egg-info build _trial_temp* .mypy_cache .ruff_cache .hypothesis .fuzz

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "whatsproxy needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python setup.cfg pyproject.toml
	$(PIP) install --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python setup.cfg pyproject.toml
	$(PIP) install --editable '.[dev]'
	touch $@ $(VENV)/.installed

# atheris comes as a wheel, or not at all: to build it takes clang and libFuzzer.
$(VENV)/.installed-fuzz: $(VENV)/bin/python setup.cfg pyproject.toml
	$(PIP) install --only-binary atheris --editable '.[fuzz]' || { \
		echo >&2 "make fuzz: no atheris for this Python (see above): there are wheels for CPython 3.11" \
			"and newer on Linux, x86-64; choose one by PYTHON= after make clean"; exit 1; }
	touch $@ $(VENV)/.installed
