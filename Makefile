# The one door to everything a developer runs. `make` alone says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-vagrant demo test check lint bench clean environment openstack-up openstack-down test-openstack test-vagrant test-vagrant-openstack

BIN := .venv/bin

help:  ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## Install what is missing: system packages, the locked environment, the node image
	@scripts/setup

setup-vagrant: setup  ## Set up, and install Vagrant with its provider lxc, for nodes and tests of driver vagrant
	@scripts/setup vagrant

environment:
	@scripts/setup environment

demo: setup  ## Set up, then watch a push run on real nodes: green, red and held, fixed
	@$(BIN)/greenroom demo

test: setup  ## Set up, then run all tests; skipped ones are listed with their reasons
	@scripts/test

openstack-up: environment  ## Start an OpenStack for tests and trials: FAKES=n posing hypervisors, REAL=1 a real one
	@$(BIN)/python -m tests.openstack.cloud up --fakes $(or $(FAKES),4) $(if $(REAL),--real)

openstack-down: environment  ## End it; nothing of it runs any more, its packages and images stay
	@$(BIN)/python -m tests.openstack.cloud down

test-vagrant: setup-vagrant  ## Install Vagrant with its provider lxc, then run the tests that need them
	@scripts/test-vagrant

test-openstack: environment  ## Start it with a real hypervisor, run the tests that need it, and end it
	@scripts/test-openstack

test-vagrant-openstack: setup-vagrant  ## The same with the tests in which Vagrant makes the servers
	@scripts/test-openstack vagrant

check: lint  ## Lint, and run the fast tests: run it before a push
	$(BIN)/pytest tests/unit -q -n 2

lint: environment  ## Format, lint, strict types and import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## Measure; one line of JSON per figure
	@$(BIN)/python -m tests.bench

clean:  ## Remove what set-up and runs made in this directory; your runs and images stay
	rm -rf .venv .tools build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
