# Two commands do everything: `make run` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
# Where it is set, each of the hundreds of processes that the tests start would compile all sources anew.
export PYTHONDONTWRITEBYTECODE :=
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .stamps
PIP := $(BIN)/pip --disable-pip-version-check -q

.PHONY: help setup run test test-unit test-unit-313 coverage coverage-unit test-pauses test-browser test-interop check bench check-instructions fuzz simulate soak autobahn format deps-debian clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

setup: $(STAMPS)/dev $(STAMPS)/clients ## Make .venv, install everything, build the JS client (quick the second time)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Trunkline needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(STAMPS)/python: $(BIN)/python pyproject.toml constraints.txt
	@mkdir -p $(STAMPS)
	@echo "installing Python packages (torch is large: the first time takes a while)"
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e '.[demo]'
	@touch $@

$(STAMPS)/dev: $(STAMPS)/python
	@echo "installing what tests and checks need"
	$(PIP) install -c constraints.txt -e '.[demo,dev]'
	@touch $@

$(STAMPS)/clients: clients/package.json clients/package-lock.json clients/js/package.json clients/dashboard/package.json $(shell find clients/js/src clients/js/scripts clients/dashboard -type f -not -path '*/build/*' -not -path '*/node_modules/*')
	@mkdir -p $(STAMPS)
	@command -v npm >/dev/null || { echo "npm is missing: install Node.js 20 or newer"; exit 1; }
	cd clients && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build
	@touch $@

run: $(STAMPS)/python $(STAMPS)/clients ## Run the hub on 127.0.0.1:8765 with real embeddings and the demo collection
	@exec $(BIN)/trunkline serve

# Most tests wait more than they work; those that measure time or load come afterwards, alone. Of all files only those that
# have such tests are read then.
# What fails once is red: a test that races is mended, not run again.
TEST_WORKERS ?= 4
TOGETHER = -n $(TEST_WORKERS) --dist worksteal
ELSEWHERE := --ignore=tests/browser --ignore=tests/interop

test: setup ## Install what the tests need and run all of them, Python and JS
	$(BIN)/pytest $(TOGETHER) -m "not alone" $(ELSEWHERE)
	$(BIN)/pytest -m alone $$(grep -rl --include='test_*.py' --exclude-dir={browser,interop} 'mark\.alone' tests)
	cd clients && TEST_HUB_PROGRAM=$(CURDIR)/$(BIN)/trunkline npm test --silent

UNIT := --unit -n auto --dist worksteal -rfE

test-unit: $(STAMPS)/dev ## What to run at each save: no process, no network, no ML; with fewer of Hypothesis's examples
	$(BIN)/pytest $(UNIT)

# Where pyenv has it, a python3.13 is on the path that answers only to who names a version.
PYTHON313 ?= $(shell for found in python3.13 "env PYENV_VERSION=3.13 python3.13" \
  "env PYENV_VERSION=$$(pyenv latest 3.13 2>/dev/null) python3.13"; do \
  $$found -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' >/dev/null 2>&1 && echo "$$found" && break; done)
VENV313 := .venv313

$(STAMPS)/python313: pyproject.toml constraints.txt
	@mkdir -p $(STAMPS)
	$(PYTHON313) -m venv $(VENV313)
	$(VENV313)/bin/pip --disable-pip-version-check -q install -c constraints.txt -e '.[unit]'
	@touch $@

test-unit-313: ## The same under Python 3.13, where there is one (PYTHON313=...), and coverage-unit's floors; a failure if CI is set and there is none
ifeq ($(strip $(PYTHON313)),)
	@echo "no Python 3.13 here: its unit tests are left out (PYTHON313=... names one)"; [ -z "$$CI" ]
else
	@$(MAKE) --no-print-directory $(STAMPS)/python313
	@$(MAKE) --no-print-directory coverage-unit COVERING=$(VENV313)/bin
endif

# Collected where the configuration says, by the tests' own processes, their hubs and executors; then summed by room.
COVERING = $(BIN)
COVERED = TEST_TIMEOUT_SCALE=$${TEST_TIMEOUT_SCALE:-4} $(COVERING)/coverage run -m pytest -p no:cacheprovider -o timeout=400
BY_ROOM = $(COVERING)/coverage combine -q && $(COVERING)/coverage json -q -o build/coverage/report.json && \
  $(COVERING)/python -m scripts.coverage_by_room

coverage: setup ## Run all tests that measure nothing; print how much of each room they ran, fail below coverage-floors.toml
	@rm -rf build/coverage && mkdir -p build/coverage
	$(COVERED) $(TOGETHER) -m "not alone" $(ELSEWHERE)
	@$(BY_ROOM) build/coverage/report.json

coverage-unit: $(STAMPS)/dev ## The same with the unit part alone
	@rm -rf build/coverage && mkdir -p build/coverage
	$(COVERED) $(UNIT)
	@$(BY_ROOM) build/coverage/report.json

test-pauses: setup ## Run the tests that need not be alone while random processes of theirs stand still: what races fails; SEED=... repeats
	TEST_TIMEOUT_SCALE=4 $(BIN)/python -m tests.support.pauses $(if $(SEED),--seed $(SEED)) \
	  $(BIN)/pytest $(TOGETHER) -m "not alone" $(ELSEWHERE)

test-browser: setup ## Drive a real Chromium, and Firefox, against real hubs
	$(BIN)/pytest tests/browser

$(STAMPS)/interop: tests/interop/package.json tests/interop/package-lock.json
	@mkdir -p $(STAMPS)
	cd tests/interop && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

test-interop: setup $(STAMPS)/interop ## Drive hubs with clients, proxies and languages that nobody here wrote
	$(BIN)/pytest tests/interop

check: setup ## Lint, types, package checks; build the wheel and start a hub from it in an empty environment
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/vulture
	$(BIN)/vulture server protocol bench examples  # what only tests use is dead, too
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m scripts.budget
	$(BIN)/python -m scripts.architecture --check
	$(BIN)/python -m scripts.settings_page --check
	cd clients && npm run --silent check
	$(BIN)/python tests/support/wheel.py

format: setup ## Format the Python sources
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## Measure: ratios of runs side by side on this machine
	@cd bench/competitors && npm ci --no-audit --no-fund --loglevel=error
	@missed=""; for name in calls startup connections overload sessions inflight fanout metrics dashboards vectors embeddings ingest retrieval; do \
	  echo "== $$name"; $(BIN)/python -m bench.$$name || missed="$$missed $$name"; \
	done; if [ -n "$$missed" ]; then echo "targets missed:$$missed"; exit 1; fi

BASE ?= HEAD^

check-instructions: setup ## Count the instructions of BASE (the parent commit) and HEAD for one dialogue; fails above +3 %
	@$(BIN)/python -m bench.instructions --base '$(BASE)'

FUZZ_SECONDS ?= 60

fuzz: setup ## Fuzz the codec and the framing with atheris, FUZZ_SECONDS (60) a target; finds stay in build/fuzz
	@$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

SEEDS ?= 2000
FIRST ?= 1

simulate: setup ## Simulate SEEDS (2000) runs from FIRST (1) on: hub, clients and executors on a loop with virtual time
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first $(FIRST) --jobs 2

SOAK_SECONDS ?= 600
SOAK_RUNS ?= 10

soak: setup ## Clients at work while things break, SOAK_SECONDS (600) over SOAK_RUNS (10) seeds; finds stay in build/recorder
	@$(BIN)/python -m tests.faults.recorder --seconds $(SOAK_SECONDS) --runs $(SOAK_RUNS) --clients 6
	@TEST_KILL_SECONDS=$(SOAK_SECONDS) TEST_CRASH_ROUNDS=$(SOAK_RUNS) \
	  $(BIN)/pytest tests/methods/test_collection_kills.py tests/methods/test_collection_crashes.py
	@$(BIN)/python -m tests.faults.endurance --reloads 100 --crashes 1000
	@$(BIN)/python -m tests.simulation --seeds 1000000 --first $$(date +%s) --jobs 2 --seconds $(SOAK_SECONDS)

autobahn: setup ## Run the Autobahn suite against the WebSocket edge (wants a Python 2.7, skips without one)
	$(BIN)/python -m tests.autobahn.run $(CASES)

deps-debian: ## Install outside programs on Debian (the only target that calls apt)
	@if command -v apt-get >/dev/null; then \
	  need=""; for p in make git; do command -v $$p >/dev/null || need="$$need $$p"; done; \
	  command -v node >/dev/null || need="$$need nodejs npm"; \
	  for d in python3.11-doc debian-faq debian-handbook debian-reference-en sqlite3-doc; do dpkg -s $$d >/dev/null 2>&1 || need="$$need $$d"; done; \
	  for p in curl faketime chromium firefox-esr haproxy caddy elixir; do command -v $$p >/dev/null || [ -x /usr/sbin/$$p ] || need="$$need $$p"; done; \
	  command -v callgrind_control >/dev/null || need="$$need valgrind"; \
	  command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || need="$$need nginx-light"; \
	  command -v nats-server >/dev/null || [ -x /usr/sbin/nats-server ] || need="$$need nats-server"; \
	  $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || need="$$need python3-venv"; \
	  if [ -n "$$need" ]; then apt-get update -qq && apt-get install -y -qq --no-install-recommends $$need; else echo "nothing to install"; fi; \
	  command -v promtool >/dev/null || [ -x build/prometheus/usr/bin/promtool ] || \
	    { mkdir -p build/prometheus && (cd build/prometheus && apt-get update -qq && apt-get download -qq prometheus && dpkg -x prometheus_*.deb .); }; \
	  mkdir -p build/rabbitmq-server && cd build/rabbitmq-server && { ls rabbitmq-server_*.deb >/dev/null 2>&1 || { apt-get update -qq && apt-get download -qq rabbitmq-server; }; }; \
	else echo "no apt-get here: nothing to do"; fi

clean: ## Remove everything that was made here, collections excepted
	rm -rf $(VENV) $(VENV313) $(STAMPS) build dist clients/node_modules bench/competitors/node_modules clients/js/dist clients/js/build clients/dashboard/build server/trunkline/edge/http/static tests/interop/node_modules
