# Every target has a `##` line; `make` alone lists them.
# A fresh machine needs make and a Python from 3.11 on: all else goes into $(VENV), by name and hash from requirements.lock.

.DEFAULT_GOAL := help
SHELL := /bin/sh

# The tests start hundreds of processes, and each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

VENV ?= .venv
WORKERS ?= 2
# The first interpreter on the path that is new enough and able to make an environment.
FIND_PYTHON = for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done
PYTHON ?= $(shell $(FIND_PYTHON))

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# The behaviour tests run over pairs of these.
DATABASES := sqlite postgresql mariadb
BROKERS := memory fakeredis redis rabbitmq
# Each database and each broker once, for `make test`.
SELECTION ?= sqlite+fakeredis postgresql+redis mariadb+memory sqlite+rabbitmq
# RabbitMQ takes its time to make and delete queues for each test: over one database only.
LEFT_OUT := postgresql+rabbitmq mariadb+rabbitmq
MATRIX := $(filter-out $(LEFT_OUT),$(foreach database,$(DATABASES),$(foreach broker,$(BROKERS),$(database)+$(broker))))

# The pairs over which `make test-matrix` runs the whole behaviour suite; the marked selection over the others. CI says fewer.
FULL ?= $(MATRIX)

# $(call pytest,title,arguments). Neighbours stay on one worker: they share what is dear to make.
# pytest's exit code 5 is "no test was selected": a note at a desk, an error in CI.
# CI tries once more, one at a time, what failed: a test of real processes may fail of a machine that was busy. It says so.
define pytest
	@echo "== $(1)"
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal $(2) || { code=$$?; \
		if [ $$code -eq 1 ] && [ "$${CI:-}" = true ]; then \
			echo "== again, one at a time, what FAILED of: $(1)"; $(BIN)/pytest -n 0 --last-failed $(2); \
		else [ $$code -eq 5 ] && [ "$${CI:-}" != true ] && echo "-- no test selected"; fi; } || exit $$code

endef
over = --database=$(firstword $(subst +, ,$(1))) --broker=$(lastword $(subst +, ,$(1)))

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: install
install: $(INSTALLED) ## Install the package, all extras and all tools into .venv

$(INSTALLED): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 with venv and ensurepip on the path; set PYTHON=." >&2; exit 1; }
	@echo "== installing into $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: demo
demo: install ## Run a real workflow end to end, with nothing but SQLite and memory
	@$(BIN)/python -m dramaturg.demo

.PHONY: test
test: install ## All tests once, then behaviour under forced replay and over what services there are
	$(call pytest,everything once: SQLite and memory,--ignore=tests/integration/fleet)
	$(call pytest,behaviour again: every run rebuilt from its history after every turn,tests/behaviour --replay-every-turn)
	$(foreach pair,$(SELECTION),$(call pytest,selection over $(pair),tests/behaviour -m selection $(call over,$(pair))))

.PHONY: test-matrix
test-matrix: install ## The behaviour tests over every database and broker, and a fleet under faults
	$(foreach pair,$(filter $(FULL),$(MATRIX)),$(call pytest,behaviour over $(pair),tests/behaviour $(call over,$(pair))))
	$(foreach pair,$(filter-out $(FULL),$(MATRIX)),$(call pytest,selection over $(pair),tests/behaviour -m selection $(call over,$(pair))))
	$(call pytest,faults of a fleet of real processes,tests/integration/fleet)

# An empty database to look at plans in: make seed URL=postgresql://postgres@127.0.0.1/million RUNS=1000000
RUNS ?= 1000000
.PHONY: seed
seed: install ## Fill the database at URL= with RUNS= runs, to see what as many cost
	@test -n "$(URL)" || { echo "Say which: make seed URL=postgresql://user@host/database [RUNS=1000000]" >&2; exit 2; }
	@$(BIN)/python -m benchmarks.seed_runs "$(URL)" --runs $(RUNS)

# More of the generated programs than `make test` tries: PROGRAMS from seed START on, or just SEEDS=12345,678.
PROGRAMS ?= 10000
START ?= 0
SEEDS ?=
.PHONY: simulate
simulate: install ## Generated programs under simulated faults: make simulate PROGRAMS=10000 START=0, or SEEDS=12345
	@SIMULATION_SEEDS=$(SEEDS) SIMULATION_PROGRAMS=$(PROGRAMS) SIMULATION_START=$(START) \
		$(BIN)/pytest -n $(WORKERS) -q tests/simulation/test_programs.py -k generated_programs

.PHONY: test-python
test-python: install ## Unit and behaviour tests on one Python: make test-python PYTHON=python3.13 VENV=.venv-3.13
	$(call pytest,unit and behaviour on $$($(BIN)/python -V),tests/unit tests/behaviour)

LOWEST = import re, tomllib; wanted = tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]; \
	print(*(re.sub(">=([^,]+).*", r"==\1", each) for each in wanted))
.PHONY: test-lowest
test-lowest: ## Unit tests on the oldest versions that pyproject.toml allows, in .venv-lowest
	@$(MAKE) --no-print-directory install VENV=.venv-lowest
	@.venv-lowest/bin/python -m pip uninstall -qq -y import-linter # a tool that wants a newer rich than we do
	@.venv-lowest/bin/python -m pip install -qq --disable-pip-version-check $$(.venv-lowest/bin/python -c '$(LOWEST)')
	@.venv-lowest/bin/pytest -n $(WORKERS) tests/unit

.PHONY: check
check: install ## Layers, lint, form and types
	@echo "== layers" && $(BIN)/lint-imports --no-logo
	@echo "== lint" && $(BIN)/ruff check .
	@echo "== form" && $(BIN)/ruff format --check .
	@echo "== mypy" && $(BIN)/mypy
	@echo "== pyright" && $(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: fmt
fmt: install ## Put the code into form and mend what lint can mend
	@$(BIN)/ruff check --fix-only --quiet . && $(BIN)/ruff format .

.PHONY: docs
docs: install ## Write anew what docs/ takes from the code: charts, events, errors, settings, figures
	@$(BIN)/python docs/make_charts.py && $(BIN)/python docs/make_tables.py && $(BIN)/python docs/make_performance.py

MINUTES ?= 10
SEED ?=
SCENARIO ?=

.PHONY: chaos
chaos: install ## Kill a fleet and its servers at random under load, then balance the books: make chaos MINUTES=10 SEED=7
	@$(BIN)/python -m chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

.PHONY: chaos-scenarios
chaos-scenarios: install ## One kind of fault again and again, and the rate before and after: make chaos-scenarios SCENARIO=crash-loop
	@$(BIN)/python -m chaos --scenario $(or $(SCENARIO),all)

.PHONY: bench
bench: install ## Run the benchmarks
	@$(BIN)/python -m benchmarks.run

.PHONY: bench-peers
bench-peers: install ## The same work on other systems, in environments of their own: make bench-peers FOLDER=… goes on with one
	@$(BIN)/python -m benchmarks.peers $(if $(FOLDER),--folder $(FOLDER))

STACK = $(BIN)/python deploy/stack.py
workers ?=
coordinators ?=
modules ?=
service ?=

.PHONY: up
up: install ## Start a local stack of real processes: make up workers=2 modules=orders
	@$(STACK) up $(if $(workers),--workers $(workers)) $(if $(coordinators),--coordinators $(coordinators)) $(modules)

.PHONY: down
down: install ## Stop what `make up` started; its data stays
	@$(STACK) down

.PHONY: ps
ps: install ## Show the processes of the stack
	@$(STACK) ps

.PHONY: logs
logs: install ## Follow what they say: make logs service=worker
	@$(STACK) logs $(service)

.PHONY: scale
scale: install ## Have more of them, or fewer: make scale workers=4 coordinators=2
	@$(STACK) scale $(if $(workers),workers=$(workers)) $(if $(coordinators),coordinators=$(coordinators))

.PHONY: env
env: install ## Print the settings of the stack, for a shell: eval "$$(make -s env)"
	@$(STACK) env

.PHONY: build
build: install ## Build wheel and source distribution into dist/
	@rm -rf dist && $(BIN)/python -m hatchling build

# Releases of the last two days stay out: mirrors lag, and a bad release is mostly withdrawn by then.
.PHONY: lock
lock: install ## Write requirements.lock anew: newest versions that pyproject.toml allows, for all Pythons
	@$(BIN)/uv pip compile pyproject.toml --output-file requirements.lock --upgrade --quiet \
		--universal --python-version 3.11 --all-extras --generate-hashes \
		--exclude-newer "2 days" --custom-compile-command "make lock"

.PHONY: clean
clean: ## Remove environments, builds and caches (never .dramaturg/, where a database may live)
	@rm -rf .venv .venv-* dist build .coverage .coverage.* .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
