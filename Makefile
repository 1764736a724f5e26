# Every command that works on this checkout; `make` alone lists them.

SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.11 python3; do if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; exit; fi; done; echo python3)
BIN := .venv/bin
FOLDERS := tests/unit tests/contracts tests/integration tests/acceptance tests/chaos

.DEFAULT_GOAL := help
.PHONY: help setup demo test interop lint format models bench chaos up down clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make the environment (minutes at first, under 3 seconds later)
	@$(PYTHON) deploy/setup/setup.py

demo: setup ## ask a spoken question of the whole cluster and keep the spoken answer
	@$(BIN)/maeari demo

test: setup lint ## look at the code, then run unit, contracts, integration, acceptance and interop tests
	@$(BIN)/python -m pytest $(FOLDERS)
	@$(BIN)/python -m tests.interop

interop: setup ## compile the Java client and run it against a real cluster
	@$(BIN)/python -m tests.interop

lint: setup ## style, format, types, import walls
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: setup ## rewrite the code in the one format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

MODELS := language speech adapter-parent adapter-artist embedding voice

models: setup ## train the laptop models from their recipes (about 85 minutes on two cores)
	@$(MAKE) --no-print-directory -j3 $(addprefix train-,$(MODELS)) # three: both adapters beside the longest, speech

train-adapter-parent train-adapter-artist: train-language # an adapter needs its base

train-%:
	@OMP_NUM_THREADS=1 $(BIN)/python -m workers.training $*

bench: setup ## measure the speed of the cluster as ratios
	@$(BIN)/python -m tests.benchmarks $(SECTIONS)

chaos: setup ## throw faults at a cluster: make chaos SEEDS="1 2 3"
	@$(BIN)/python -m tests.chaos $(SEEDS)

up: setup ## start the cluster of the laptop profile
	@$(BIN)/maeari up

down: setup ## stop it
	@$(BIN)/maeari down

clean: ## remove caches and the link to the environment; the shared environment itself stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find shared tasks workers tests deploy -name __pycache__ -type d -prune -exec rm -rf {} +
