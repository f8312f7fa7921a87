# Everything that is done with this tree, by one name each. `make` alone lists them.

MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Options for the command behind a target: make run ARGS="--exit --learners 50"
ARGS ?=
# Two tests at a time: the service and fault tests start processes of their own and want a core.
TEST_JOBS ?= 2

.PHONY: help setup console wheel run test test-quick test-all lint format bench lock clean

help: ## List what can be made
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with everything in it (also done by run, test, lint and bench)

# Only what the lock names is installed, file by file by its hash; Homeroom itself is linked in from
# src/ with the build backend that the lock brought, so that nothing else is fetched.
$(STAMP): constraints.txt pyproject.toml
	@python=""; \
	for candidate in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
		if command -v "$$candidate" > /dev/null \
			&& "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
			python="$$candidate"; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Homeroom needs Python 3.11 or later, and none was found on the PATH" \
			"($$(python3 --version 2>&1 || echo 'no python3 at all'))."; \
		echo "Install one, or name it: make setup PYTHON=/path/to/python3.12"; \
		exit 1; \
	fi; \
	if ! "$$python" -c 'import venv, ensurepip' 2> /dev/null; then \
		echo "$$python has no venv module. On Debian and Ubuntu: apt install python3-venv"; \
		exit 1; \
	fi; \
	if [ -x $(BIN)/python ] && ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
		rm -rf $(VENV); \
	fi; \
	[ -x $(BIN)/pip ] || { echo "Making $(VENV) with $$("$$python" --version)"; "$$python" -m venv $(VENV); }
	@echo "Installing the packages of constraints.txt"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

# What the console is built of: its sources, and the HTTP API that its types come from.
CONSOLE := console/dist/index.html
CONSOLE_SOURCES := docs/openapi.json tools/build_console.py $(shell find console \
	-name node_modules -prune -o -name dist -prune -o -name schema.d.ts -prune -o -type f -print)

console: $(CONSOLE) ## Build the console, which needs Node.js and npm (also done by run and test)

$(CONSOLE): $(CONSOLE_SOURCES) | $(STAMP)
	@echo "Building the console"
	@$(BIN)/python tools/build_console.py $(CONSOLE_OPTIONS)

wheel: setup $(CONSOLE) ## Build dist/homeroom-*.whl, which pip installs without a checkout
	@$(BIN)/python -m hatchling build -t wheel

run: CONSOLE_OPTIONS := --optional
run: setup $(CONSOLE) ## Play a class of 200 learners and keep serving (ARGS="--exit" ends after the summary)
	@$(BIN)/homeroom demo $(ARGS)

test: setup $(CONSOLE) ## Run the tests (ARGS="-k words" picks some)
	@$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadgroup $(ARGS)

# PostgreSQL and Redis are left to `make test`.
test-quick: setup ## Run the tests of the inner loop: unit, basics, architecture, the job contract on SQLite
	@$(BIN)/python -m pytest -q -n $(TEST_JOBS) -k "not postgres and not bullmq" \
		tests/unit tests/basics tests/architecture tests/contract $(ARGS)

test-all: setup $(CONSOLE) ## Run the tests, those that strike or draw at random five times as long
	@TEST_EFFORT=5 $(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadgroup --timeout=3600 $(ARGS)

lint: setup ## Check style, types and the arrows that must never be
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --quiet --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/python -m pytest -q tests/architecture

format: setup ## Put the code into its form and repair what can be repaired
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format --quiet

bench: setup ## Measure ingest and jobs against their references, into bench/results.md
	@$(BIN)/python -m bench $(ARGS)

lock: setup ## Write constraints.txt anew (ARGS="--upgrade" takes the newest versions)
	@$(BIN)/python tools/lock.py $(ARGS)

clean: ## Remove what was made: .venv, caches and build output (var/ with its data stays)
	@rm -rf $(VENV) build dist console/dist console/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
