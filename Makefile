# SPDX-License-Identifier: Apache-2.0
# `make train` and `make test` set themselves up: .venv from requirements.txt, and the tools of extra `test` for the latter.

PYTHON ?= python3
CONFIG ?= configs/solids.py
comma := ,
WORKDIR ?= runs/$(subst $(comma),-,$(subst :,-,$(subst .py,,$(notdir $(CONFIG)))))
ARGS ?=
PYTEST_ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.stamp
TEST_STAMP := $(VENV)/.stamp-test
UNFINISHED := $(VENV)/.unfinished
PIP := $(PY) -m pip --disable-pip-version-check -qq
NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'

# An environment whose interpreter is gone (the system's Python was upgraded) counts as not set up.
BROKEN := $(shell test -x $(PY) || echo broken)

# Prints one of pyproject's lists of requirements, a line each.
REQUIREMENTS := -c 'import sys, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
  lists = project["optional-dependencies"] | {"runtime": project["dependencies"]}; print(*lists[sys.argv[1]], sep="\n")'

.PHONY: help train test setup lint format pins clean broken

help:  ## this list
	@grep -E '^[a-z]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 10
	@echo "CONFIG=$(CONFIG) WORKDIR=$(WORKDIR) ARGS='--config.batch_size=64' PYTEST_ARGS='-k solids' PYTHON=$(PYTHON)"

train: $(STAMP)  ## train CONFIG into WORKDIR; the same command resumes
	@$(PY) -m perceiver_jax.main --config=$(CONFIG) --workdir=$(WORKDIR) $(ARGS)

test: lint  ## ruff and the whole test suite
	@$(PY) -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

setup: $(TEST_STAMP)  ## only the set-up of the two above

lint: $(TEST_STAMP)  ## ruff check and ruff format --check
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --check --quiet . || { echo "The files above are not formatted: make format"; exit 1; }

format: $(TEST_STAMP)  ## mend what ruff can mend
	@$(PY) -m ruff check --quiet --fix . ; $(PY) -m ruff format .

pins: $(STAMP)  ## resolve pyproject's dependencies anew into requirements.txt
	@rm -rf build/pins && $(PYTHON) -m venv build/pins
	@$(PY) $(REQUIREMENTS) runtime > build/pins/wanted.txt
	@build/pins/bin/python -m pip -q install --upgrade setuptools -r build/pins/wanted.txt
	@{ sed '/^[^#]/,$$d' requirements.txt; build/pins/bin/python -m pip freeze --all --exclude pip; } > build/pins/new.txt
	@mv build/pins/new.txt requirements.txt

clean:  ## remove the environment and caches; runs and data stay
	rm -rf $(VENV) build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find perceiver_jax tests configs -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment that an interrupted set-up left behind is made anew; a finished one is updated in place, so what was
# added to it by hand (a GPU build of jax) stays.
$(STAMP): requirements.txt $(BROKEN)
	@if test -e $(UNFINISHED) || ! $(PY) $(NEW_ENOUGH) 2>/dev/null; then \
	  $(PYTHON) $(NEW_ENOUGH) 2>/dev/null || { \
	    echo "perceiver_jax needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12" >&2; \
	    exit 1; }; \
	  rm -rf $(VENV) && mkdir $(VENV) && touch $(UNFINISHED) && $(PYTHON) -m venv $(VENV) || { \
	    echo "$(PYTHON) -m venv failed. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	fi
	@echo "Installing requirements.txt into $(VENV) (the first time a download of 280 MB) ..."
	@touch $(UNFINISHED) && rm -f $@
	@$(PIP) install -r requirements.txt
	@mv $(UNFINISHED) $@

# The list is closed (--no-deps), so that repairing it never touches what a training may be running on.
$(TEST_STAMP): $(STAMP) pyproject.toml
	@echo "Installing the test tools into $(VENV) ..."
	@$(PY) $(REQUIREMENTS) test > $(VENV)/test.txt
	@again=$$(test -e $(UNFINISHED)-test && echo --ignore-installed); touch $(UNFINISHED)-test; \
	$(PIP) install --no-deps $$again -r $(VENV)/test.txt
	@mv $(UNFINISHED)-test $@

broken:
