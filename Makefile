# Plain `make` prints the targets. `make run` and `make test` are all a newcomer needs: both work in a
# fresh clone, and a second run starts at once (each step leaves a stamp named by what it was made from).
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup run fmt check test test-all bench docs web changelog clean

PORT ?= 8080
ARGS ?=
BIN := .venv/bin
PY := $(BIN)/python
# A file at a time to each core: what a module starts (a browser, a Dovecot) is started once.
PYTEST := $(PY) -m pytest -n auto --dist loadfile
export PYTHON ?= python3

# A stamp is named by the content it depends on, so a checkout that only touches times costs nothing.
digest = $(shell { echo $(CURDIR); cat $(1) </dev/null; } 2>/dev/null | sha256sum | cut -c1-16)
WEB_SOURCES := $(shell find web -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null | LC_ALL=C sort)
VENV_STAMP := .venv/ready-$(call digest,pyproject.toml constraints.txt tools/setup.sh)
WEB_STAMP := .artifacts/web-$(call digest,$(WEB_SOURCES))

help: ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | while IFS=$$'\t' read -r name text; do \
	  printf '  make %-10s %s\n' "$$name" "$$text"; done

$(VENV_STAMP):
	@tools/setup.sh python
	@rm -f .venv/ready-*; touch $@

$(WEB_STAMP): $(VENV_STAMP)
	@tools/setup.sh web
	@mkdir -p .artifacts; rm -f .artifacts/web-*; touch $@

setup: $(VENV_STAMP) ## create .venv with the project and its tools
	@echo "ready: $(BIN)/tindra"

web: $(WEB_STAMP) ## build the web client
	@tools/setup.sh web-present || { rm -f $(WEB_STAMP); $(MAKE) --no-print-directory $(WEB_STAMP); }

run: $(VENV_STAMP) web ## start the demo on http://localhost:8080 (PORT=8080)
	$(BIN)/tindra demo --port $(PORT) $(ARGS)

fmt: $(VENV_STAMP) ## format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: $(VENV_STAMP) ## format, lint, types, walls, tidy, docs: under 15 seconds when warm
	@status=0; run() { echo "== $$*"; "$$@" || status=1; }; \
	run $(BIN)/ruff format --check --output-format concise .; \
	run $(BIN)/ruff check --output-format concise .; \
	run $(BIN)/mypy; \
	run $(BIN)/lint-imports --no-logo --cache-dir .import_linter_cache; \
	run $(PY) -m tools.tidy; \
	run $(PY) -m pytest -p no:randomly tests/docs; \
	exit $$status

test: $(VENV_STAMP) web ## every test but the slow ones (ARGS="-k word" to choose)
	@tools/setup.sh programs
	@tools/setup.sh clients
	@$(if $(ARGS),:,tools/setup.sh web-test)
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(VENV_STAMP) web ## every test, slow ones too
	@tools/setup.sh programs
	@tools/setup.sh clients
	@$(if $(ARGS),:,tools/setup.sh web-test)
	$(PYTEST) $(ARGS)

bench: $(VENV_STAMP) ## measure what the project promises
	@for bench in bench/bench_*.py; do echo "== $$bench"; $(PY) "$$bench" $(ARGS); done

docs: $(VENV_STAMP) ## write the generated pages of docs/ from the code
	$(PY) -m tools.docs

changelog: $(VENV_STAMP) ## fold changes/ into CHANGELOG.md (VERSION=0.2.0)
	$(PY) -m tools.changelog $(VERSION)

clean: ## remove everything that was made (never data/, where an installation keeps its mail)
	rm -rf .venv .artifacts .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf build dist web/node_modules web/dist src/tindra/server/static tests/compat/clients/node_modules
