# What a person, a script or the CI runs. Needs Python 3.11 or newer, make and git; everything else is set up here.

PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11 python3.14,\
	$(if $(shell $(name) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo yes),$(name))))
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.set-up-from
LOCKS := requirements/base.txt requirements/flower.txt requirements/tracing.txt requirements/dev.txt
UV ?= uv
COMPILE = $(UV) pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header --no-annotate
# What the set-up depends on: the locks and the package's metadata. A checkout that only touches them changes nothing.
WANTED = $(shell cat $(LOCKS) pyproject.toml | cksum)

.DEFAULT_GOAL := help
.PHONY: help setup install up demo check format test test-only test-parts migration endpoints catalogs interleavings chaos hosts mutations update-test bench audit lock FORCE

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

setup: $(READY) ## the virtual environment with the locked dependencies

$(READY): FORCE
	@[ "$$(cat $(READY) 2>/dev/null)" = "$(WANTED)" ] || $(MAKE) --no-print-directory install

install:
	@[ -x $(BIN)/python ] || [ -n "$(PYTHON)" ] || { echo "smsfleet needs Python 3.11 or newer with venv" >&2; exit 1; }
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@echo "$(WANTED)" > $(READY)

up: $(READY) ## the gateway, its data kept in .smsfleet/
	@exec $(BIN)/smsfleet up $(ARGS)

demo: $(READY) ## a campaign on five virtual phones; ARGS="--messages 20000 --phones 20 --keep"
	@exec $(BIN)/smsfleet demo $(ARGS)

check: $(READY) ## lint, format, types, imports: seconds
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/typos

format: $(READY) ## format the code and fix what the linter can
	$(BIN)/ruff format --quiet
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

test: check test-only ## every check and every test

test-only: $(READY) ## tests without the checks; ARGS="tests/unit -k number" for some of them
	@exec $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

test-parts: $(READY) ## the tests that touch database and broker, against each kind that is installed; ONLY="pgbouncer" for some
	@exec $(BIN)/python -m tests.parts $(ONLY)

migration: $(READY) ## NAME="what it does": the next migration, from what the models say
	@$(BIN)/python -m app.local.new_migration "$(NAME)"
	@$(BIN)/ruff check --quiet --fix app/migrations/versions && $(BIN)/ruff format --quiet app/migrations/versions

endpoints: $(READY) ## write the table of endpoints in docs/developing/
	@$(BIN)/python -m app.endpoints

interleavings: $(READY) ## every pair of operations against each other, statement by statement; ONLY="cancel" for some
	@exec $(BIN)/python -m tests.interleavings $(ONLY)

chaos: $(READY) ## users, phones and receivers while everything breaks; ARGS="--messages 20000 --blows 46 --seed 1"
	@exec $(BIN)/python -m tests.chaos $(ARGS)

hosts: $(READY) ## the same on six machines, as network namespaces, that are cut off, killed and failed over; as root, with haproxy
	@exec $(BIN)/python -m tests.chaos --hosts --html hosts.html $(ARGS)

mutations: $(READY) ## break copies of the product on purpose, to see that the proof finds it; ONLY="sweep" for some
	@exec $(BIN)/python -m tests.mutations $(ONLY)

update-test: $(READY) ## FROM="v0.1.0": from an earlier version to this one, process by process, under load
	@exec $(BIN)/python -m tests.update $(FROM) $(ARGS)

catalogs: $(READY) ## bring the dashboard's translations in line with its strings, and compile them
	@$(BIN)/python -m app.web.catalogs

bench: $(READY) ## PART=… of the performance table
	@exec $(BIN)/python -m benchmarks $(PART)

audit: $(READY) ## known vulnerabilities of the locked dependencies; asks a service on the network, and fails where it knows none of them
	$(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements/dev.txt

lock: ## resolve requirements/*.in anew; needs uv
	$(COMPILE) --upgrade --output-file requirements/dev.txt requirements/dev.in
	$(COMPILE) --constraint requirements/dev.txt --output-file requirements/base.txt requirements/base.in
	$(COMPILE) --constraint requirements/dev.txt --output-file requirements/flower.txt requirements/base.in requirements/flower.in
	$(COMPILE) --constraint requirements/dev.txt --output-file requirements/tracing.txt requirements/base.in requirements/tracing.in
