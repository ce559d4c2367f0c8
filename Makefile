# Two commands on a fresh machine with Python 3.11 or newer: `make run` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: run test smoke lint format lock schema clean help

run: $(INSTALLED) ## the default experiment, to results/report.html
	. $(BIN)/activate && snakemake --cores all

test: $(INSTALLED) ## all tests, the whole pipeline on a tiny model included
	. $(BIN)/activate && python -m pytest

smoke: $(INSTALLED) ## the real model and real facts through every rule, on the smallest grid
	. $(BIN)/activate && snakemake --cores all --configfile configs/smoke.yaml

lint: $(INSTALLED) ## the style checks
	. $(BIN)/activate && ruff check . && ruff format --check . && snakefmt --check Snakefile rules && snakemake --lint

format: $(INSTALLED) ## put the code into form
	. $(BIN)/activate && ruff check --fix . && ruff format . && snakefmt Snakefile rules

lock: $(INSTALLED) ## write the exact versions of all dependencies to envs/
	$(BIN)/python envs/lock.py

schema: $(INSTALLED) ## write schemas/config.schema.json from schemas/configuration.py
	PYTHONPATH=scripts $(BIN)/python schemas/configuration.py > schemas/config.schema.json.new
	mv schemas/config.schema.json.new schemas/config.schema.json

clean: ## remove the environment and all results
	rm -rf $(VENV) results .snakemake

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

$(INSTALLED): envs/requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "knowshift needs Python 3.11 or newer; name one with: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement envs/requirements.lock
	@touch $@
