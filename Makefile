# Two commands on a fresh machine with Python 3.11 or newer: `make run` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
BENCH = .venv-bench
MUTATION = .venv-mutation
BENCH_MODEL = results/smollm2-135m
BENCH_TUNED = $(BENCH_MODEL)/exports/full-level0-64-s1/top-transformer-0

CONFIG = config.yaml
CORE = *
# Files of tests run side by side, each process on one thread; each takes up to 4 GB.
JOBS = $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
PYTEST = OMP_NUM_THREADS=1 python -m pytest
BESIDE = --numprocesses $(JOBS) --dist loadfile

.PHONY: run plan test test-fast test-slurm smoke lint format lock schema bench mutation clean help

run: $(INSTALLED) ## the default experiment, to results/report.html
	$(BIN)/snakemake --cores all

plan: $(INSTALLED) ## what an experiment will take (CONFIG=configs/paper.yaml), before it runs
	$(BIN)/python scripts/plan.py --config $(CONFIG)

test: $(INSTALLED) ## all tests, the whole pipeline on a tiny model included
	. $(BIN)/activate && $(PYTEST) $(BESIDE)

test-fast: $(INSTALLED) ## the unit tests that are not slow, in three minutes on 2 cores
	. $(BIN)/activate && $(PYTEST) $(BESIDE) -m "not slow" tests/unit

test-slurm: $(VENV)/.installed-slurm ## the workflow on a real SLURM cluster, set up on this machine (root on Debian)
	. $(BIN)/activate && python -m pytest -m slurm --timeout 1200 tests/slurm

smoke: $(INSTALLED) ## the real model and real facts through every rule, on the smallest grid
	$(BIN)/snakemake --cores all --configfile configs/smoke.yaml

lint: $(INSTALLED) ## the style checks, and the types of the library
	. $(BIN)/activate && ruff check . && ruff format --check .
	. $(BIN)/activate && snakefmt --check Snakefile rules && python rules/lint.py
	. $(BIN)/activate && basedpyright --level error

format: $(INSTALLED) ## put the code into form
	. $(BIN)/activate && ruff check --fix . && ruff format . && snakefmt Snakefile rules

lock: $(INSTALLED) ## write the exact versions of all dependencies to envs/
	$(BIN)/python envs/lock.py

schema: $(INSTALLED) ## write schemas/config.schema.json from scripts/knowshift/configuration/
	PYTHONPATH=scripts $(BIN)/python -m knowshift.configuration.sections > schemas/config.schema.json.new
	mv schemas/config.schema.json.new schemas/config.schema.json

# Nothing is restored in $(BENCH_TUNED): it is the fine-tuned model. vLLM takes part where its environment is, which
# benchmarks/vllm_environment.sh makes.
bench: $(BENCH)/.installed ## the benchmarks, as ratios against named peers
	. $(BIN)/activate && snakemake --cores all $(BENCH_MODEL)/base/manifest.json $(BENCH_TUNED)/manifest.json
	$(BENCH)/bin/python benchmarks/matching.py --model $(BENCH_MODEL)
	$(BENCH)/bin/python benchmarks/evaluation.py --model $(BENCH_TUNED) --python $(BIN)/python
	$(BENCH)/bin/python benchmarks/finetuning.py --model $(BENCH_MODEL)/base
	$(BENCH)/bin/python benchmarks/restoration.py --base $(BENCH_MODEL)/base --tuned $(BENCH_TUNED) --parts sweep scale
	$(BENCH)/bin/python benchmarks/planning.py
	$(BENCH)/bin/python benchmarks/probe.py --model $(BENCH_MODEL)/base \
		$(addprefix --vllm ,$(wildcard .venv-vllm/bin/python))

mutation: $(MUTATION)/.installed ## whether tests notice changes of the core, for hours (CORE='mastery/*')
	OMP_NUM_THREADS=1 $(MUTATION)/bin/python tests/mutation.py '$(CORE)'

clean: ## remove the environments and all results
	rm -rf $(VENV) $(BENCH) $(MUTATION) .venv-vllm .mutation results .snakemake

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

$(INSTALLED): envs/requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "knowshift needs Python 3.11 or newer; name one with: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement envs/requirements.lock
	@touch $@

$(VENV)/.installed-slurm: $(INSTALLED) envs/slurm.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement envs/slurm.lock
	@touch $@

# The peers, and mutmut, have environments of their own that see what $(VENV) holds: torch is not installed twice.
PURELIB = import sysconfig; print(sysconfig.get_path("purelib"))
EXTRA = import sys, tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"][sys.argv[1]])
$(BENCH)/.installed: EXTRAS = bench
$(MUTATION)/.installed: EXTRAS = mutation
$(BENCH)/.installed $(MUTATION)/.installed: $(INSTALLED) pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(BIN)/python -c '$(PURELIB)' > "$$($(@D)/bin/python -c '$(PURELIB)')/knowshift.pth"
	$(@D)/bin/python -m pip install --disable-pip-version-check --quiet --constraint envs/requirements.lock \
		$$($(@D)/bin/python -c '$(EXTRA)' $(EXTRAS))
	@touch $@
