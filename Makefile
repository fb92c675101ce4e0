# `make` alone lists the targets. Each does what it needs first.
#
# With DB_HOST or KAFKA_BROKERS in the environment those servers are used, no private ones.

PYTHON := .venv/bin/python
SERVICES := $(PYTHON) -m dev.services
RUN := $(SERVICES) run --
PRIVATE := $(if $(DB_HOST)$(KAFKA_BROKERS),,services)

.DEFAULT_GOAL := help
.PHONY: help setup browser lock services services-down migrate web run demo pictures watch test coverage faults \
	faults-short soak lint check bench clean

help:
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target text; do printf '  %-20s %s\n' "$$target" "$$text"; done

setup: ## install system packages, Kafka's jars and .venv; nothing if they are there
	@dev/setup.sh

# Versions that are locked stay unless the lists say otherwise; ARGS=--upgrade takes the newest.
LOCK := .venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--custom-compile-command "make lock" $(ARGS)

lock: setup ## after a change of requirements*.txt: write the locks and install them
	@$(LOCK) requirements.txt -o requirements.lock
	@$(LOCK) -c requirements.lock requirements.txt requirements-otel.txt -o requirements-otel.lock
	@$(LOCK) -c requirements-otel.lock requirements.txt requirements-otel.txt requirements-dev.txt \
		-o requirements-dev.lock
	@dev/setup.sh

services: setup ## start a private PostgreSQL and Kafka, settings in .dev/env
	@$(SERVICES) up

services-down: ## stop them
	@python3 -m dev.services down

migrate: setup $(PRIVATE) ## bring the database schema to the newest version
	@$(if $(DB_HOST),,$(RUN)) .venv/bin/alembic upgrade head

web: setup ## build the pages into web/dist; nothing if they are built
	@$(PYTHON) -m dev.web

run: migrate web ## run the server on the private services until Ctrl-C
	@$(RUN) $(PYTHON) server.py

demo: setup web ## watch pets move: services, server, simulator and viewer, until Ctrl-C or DEMO_SECONDS; ROLES=2: processes that are killed
	@$(RUN) $(PYTHON) -m dev.demo

pictures: browser web ## take the pictures of all states of the pages; PICTURES=ops- some
	@$(RUN) $(PYTHON) -m dev.pictures

watch: setup ## follow a booking of `make run` in the terminal: BOOKING=its id
	@$(RUN) $(PYTHON) -m dev.watch $(or $(BOOKING),$(error make watch BOOKING=an id)) $(ARGS)

# Tests wait more than they compute: three workers for two cores.
# Brokers of tests live for minutes: half of their start is work of the optimizing compiler.
test coverage: export KAFKA_JVM_PERFORMANCE_OPTS := -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
# Each worker compiles all test modules, or reads what an earlier run compiled: seven seconds of CPU.
test coverage: export PYTHONDONTWRITEBYTECODE :=

browser: setup
	@dev/setup.sh tests

test: browser web ## run the tests; ARGS="-k route" picks some
	@$(RUN) $(PYTHON) -m pytest -n 3 $(ARGS)

coverage: browser web ## run the tests, show what they do not reach; fails below the floor
	@$(RUN) $(PYTHON) -m pytest -n 3 --cov --cov-report=term:skip-covered $(ARGS)

faults: setup ## break everything on purpose, prove that nothing is lost; ARGS="-k kill"
	@$(PYTHON) -m pytest faults -n 2 -o timeout=600 $(ARGS)

faults-short: setup ## the same with outages of five seconds, as CI does
	@FAULTS_OUTAGE_S=5 $(PYTHON) -m pytest faults -n 2 -o timeout=300 -m "not long" $(ARGS)

soak: setup ## random scenarios with new seeds, until one fails or SOAK_HOURS are over
	@$(PYTHON) -m faults.soak

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	$(PYTHON) -m dev.web types

check: lint test ## lint, format, types and tests, as CI does

bench: browser web ## measure latency, throughput and the pages against their floors
	@$(RUN) $(PYTHON) -m bench $(ARGS)

clean: ## stop the services; remove .venv, .dev and caches
	@python3 -m dev.services remove
	rm -rf .venv .dev web/node_modules web/dist web/client/dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
