# Everything here works on a fresh machine with Python >= 3.11 and make; uv is used when present.
SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
UV := $(shell command -v uv 2>/dev/null)
PYTHON ?= python3
# Errors only: warnings are about the machine's configuration of pip.
PIP := $(PY) -m pip install -qq --disable-pip-version-check --root-user-action=ignore

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-long test-on test-litellm planted simulation fuzz check bench chaos reference lock sbom clean

help: ## Show what each target does
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv with the exact locked packages (quick when nothing changed)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "metering needs Python >= 3.11; set PYTHON=/path/to/python3.11 or newer"; exit 1; }
	@echo "==> Setting up $(VENV) (the first time takes about a minute)"
ifneq ($(UV),)
	@test -x $(PY) || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	@$(UV) pip sync --quiet --compile-bytecode --python $(PY) --require-hashes requirements.lock
	@$(UV) pip install --quiet --python $(PY) --no-deps --editable .
else
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "    installing $$(grep -c '^[a-z0-9].*==' requirements.lock) locked packages with pip; uv on the PATH would be quicker"
	@$(PIP) --require-hashes -r requirements.lock
	@echo "    installing metering itself"
	@$(PIP) --no-deps --no-build-isolation --editable .
endif
	@touch $(STAMP)

demo: setup ## The main job from end to end: gateway, OpenAI SDK, final costs, checked
	@$(VENV)/bin/metering demo

up: setup ## All in one: database, queue, API, worker, beat
	@$(VENV)/bin/metering up

# Tests start hundreds of processes: without written bytecode each would compile the product again.
TESTS := PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -n auto --dist worksteal
test: setup ## The tests of every rule, request and page, against a real PostgreSQL and a real Valkey
	@$(TESTS) -m "not long"

test-long: setup ## The tests of deployments, kills, long random histories, benches, real proxies and browsers
	@$(TESTS) -m long --timeout 1200

STORED := api scenarios months ledger streams totals budgets credits corrections stripe exports audit archive alerts reporting dashboard
test-on: setup ## The tests of what is stored, on a PostgreSQL or Citus of yours: make test-on URL=postgresql://…
	@test -n "$(URL)" || { echo "say where: make test-on URL=postgresql://superuser@host:5432/database"; exit 2; }
	@METERING_TEST_DATABASE_URL="$(URL)" PYTHONDONTWRITEBYTECODE= $(PY) -m pytest $(addprefix tests/,$(STORED))

test-litellm: setup ## The inlet of LiteLLM, with a real LiteLLM proxy in an environment of its own (the first time, 3 minutes to install it)
	@$(PY) -m tests.inlets.litellm_environment
	@PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -n 2 --dist loadfile tests/inlets

planted: setup ## Plant faults in copies of the product, one at a time; the tests must notice each (about 10 minutes)
	@$(PY) -m tests.planted.run

SEEDS ?= 200
simulation: setup ## Months of a deployment under faults, from SEEDS seeds (200: about 5 minutes)
	@SIMULATION_SEEDS=$(SEEDS) $(PY) -m pytest -n auto tests/simulation

EXAMPLES ?= 100
fuzz: setup ## Odd requests of every kind, new ones each time: make fuzz EXAMPLES=1000 (100: about 10 minutes)
	@FUZZ_EXAMPLES=$(EXAMPLES) $(PY) -m pytest -q --timeout 0 tests/fuzz

check: setup ## Lint, types, layers, tidy, licences
	@echo "==> ruff"; $(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	@echo "==> mypy --strict"; $(VENV)/bin/mypy
	@echo "==> import-linter"; $(VENV)/bin/lint-imports --no-cache
	@echo "==> tidy, licences"; $(PY) -m pytest -q tests/test_tidy.py tests/test_licences.py

bench: setup ## Measure this machine: ingest, finalizing, totals, rating, audit, months, Stripe, exports, alerts, gateway, emitter, neighbours, growth (about 90 minutes)
	@$(VENV)/bin/metering bench speed --out docs/performance/speed.json
	@$(VENV)/bin/metering bench ingest --out docs/performance/ingest.json
	@$(VENV)/bin/metering bench finalize --out docs/performance/finalize.json
	@$(VENV)/bin/metering bench totals --out docs/performance/totals.json
	@$(VENV)/bin/metering bench rating --out docs/performance/rating.json
	@$(VENV)/bin/metering bench audit --out docs/performance/audit.json
	@$(VENV)/bin/metering bench invoices --out docs/performance/invoices.json
	@$(VENV)/bin/metering bench push --out docs/performance/push.json
	@$(VENV)/bin/metering bench exports --out docs/performance/exports.json
	@$(VENV)/bin/metering bench alerts --out docs/performance/alerts.json
	@$(VENV)/bin/metering bench gateway --out docs/performance/gateway.json
	@$(VENV)/bin/metering bench resume --out docs/performance/resume.json
	@$(VENV)/bin/metering bench emitter --out docs/performance/emitter.json
	@$(VENV)/bin/metering bench neighbours --out docs/performance/neighbours.json
	@$(VENV)/bin/metering bench growth --charges 1000000 --charges 10000000 --out docs/performance/growth.json
	@$(VENV)/bin/metering bench page docs/performance --out docs/performance.md

chaos: setup ## The whole product under faults, compared with an oracle: make chaos MINUTES=30 SEED=7, or make chaos STREAMS=200000 CLIENTS=64
	@$(VENV)/bin/metering bench chaos --minutes $(or $(MINUTES),3) $(if $(SEED),--seed $(SEED)) $(if $(STREAMS),--streams $(STREAMS)) $(if $(CLIENTS),--clients $(CLIENTS)) --log chaos.log --out docs/reliability/chaos.json; \
	  result=$$?; test $$result -eq 1 || $(VENV)/bin/metering bench reliability-page docs/reliability --out docs/reliability.md; exit $$result

reference: setup ## Write the API reference (docs/api.md, docs/api/) from the API's own description
	@$(PY) -m tests.docs.api_reference

lock: ## Resolve the newest allowed versions into the lock files (needs uv)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --all-extras --output-file requirements.lock pyproject.toml
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --extra server --extra gateway --constraint requirements.lock --output-file deploy/requirements.lock pyproject.toml
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --output-file tests/api/client-generator.lock tests/api/client-generator.in
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --output-file tests/inlets/litellm-proxy.lock tests/inlets/litellm-proxy.in
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --output-file .ci/pip-audit.lock .ci/pip-audit.in

sbom: setup ## Write the bill of materials (CycloneDX) of the image and of everything locked into dist/
	@mkdir -p dist
	@for pair in deploy/requirements.lock:sbom.cdx.json requirements.lock:sbom-development.cdx.json; do \
	  PYTHONWARNINGS=ignore $(VENV)/bin/cyclonedx-py requirements "$${pair%%:*}" --pyproject pyproject.toml \
	    --output-reproducible --validate --of JSON --output-file "dist/$${pair##*:}" && echo "dist/$${pair##*:}" || exit 1; \
	done

clean: ## Remove .venv and caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis .import_linter_cache
