# The one entry for people, hooks and CI. PYTHON=... picks an interpreter, ARGS=... goes to the program.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
AXE := tests/browser/node_modules/.stamp
ARGS ?=
# What CI runs; no test chosen is no fault. Those that hold a deadline run alone, after the others.
SHORT := not soak and not rehearsal
# An environment with everything serves the demo too.
DEMO_STAMP := $(if $(wildcard $(VENV)/all.stamp),$(VENV)/all.stamp,$(VENV)/demo.stamp)

.PHONY: help demo test quick check chaos soak rehearsal bench bandit audit sbom lint format types lock clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(DEMO_STAMP) ## the whole thing on this machine, with a database and a stand-in for WhatsApp
	@$(BIN)/whatsapp-hub demo $(ARGS)

test: $(VENV)/all.stamp $(AXE) ## the whole test suite
	@$(BIN)/python -m pytest -n 3 --dist loadgroup -m "not deadlines and $(SHORT)" $(ARGS) || [ $$? -eq 5 ]
	@$(BIN)/python -m pytest -m "deadlines and $(SHORT)" $(ARGS) || [ $$? -eq 5 ]

quick: $(VENV)/all.stamp ## what every change runs: everything but whole processes and deployments
	@$(BIN)/python -m pytest -n 3 --dist loadgroup -m "not deadlines and $(SHORT)" \
		tests/unit tests/contract tests/integration tests/test_architecture.py tests/test_security_table.py $(ARGS)

check: lint types bandit test ## lint, types, dangerous calls and tests

chaos: $(VENV)/all.stamp ## random faults, then what must hold (SEED=1,2 MINUTES=1 HUBS=3 SERVERS=1 RATE=40)
	@$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(HUBS),--hubs $(HUBS)) $(if $(SERVERS),--servers $(SERVERS)) $(if $(RATE),--rate $(RATE)) $(ARGS)

soak: $(VENV)/all.stamp ## the tests that take minutes each
	@$(BIN)/python -m pytest -m soak -s $(ARGS)

rehearsal: $(VENV)/all.stamp ## deployments for real: systemd, image, disasters (root, Debian packages, minutes)
	@$(BIN)/python -m pytest -m rehearsal -s $(ARGS)

bench: $(VENV)/all.stamp ## the benchmarks
	@$(BIN)/python -m bench $(ARGS)

bandit: $(VENV)/all.stamp ## look for dangerous calls
	@$(BIN)/bandit -c pyproject.toml -r whatsapp_hub -q

audit: $(VENV)/all.stamp ## look the locked packages up in the public advisories
	@for file in requirements/*.txt; do $(BIN)/pip-audit --strict --disable-pip --require-hashes -r $$file || exit 1; done

sbom: $(VENV)/all.stamp ## write sbom.json, CycloneDX
	@$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --short-PURLs \
		-o sbom.json requirements/server.txt

lint: $(VENV)/all.stamp ## style and order
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .

format: $(VENV)/all.stamp ## mend what lint can mend
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

types: $(VENV)/all.stamp ## mypy --strict
	@$(BIN)/mypy

lock: $(VENV)/all.stamp ## remake requirements/*.txt from pyproject.toml
	@PYTHON=$(BIN)/python requirements/lock

clean: ## throw away the environment and what the tools left
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov

# One stamp for each set of packages: the second time nothing is done.
$(VENV)/%.stamp: requirements/%.txt pyproject.toml
	@PYTHON="$(PYTHON)" requirements/install $(VENV) $<
	@touch $@

# What the tests in Chromium need of npm. Without npm they say so themselves.
$(AXE): tests/browser/package.json tests/browser/package-lock.json
	@if command -v npm >/dev/null; then cd tests/browser && npm ci --silent --no-audit --no-fund && touch node_modules/.stamp; fi
