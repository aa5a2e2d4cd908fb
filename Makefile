# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# One process a core, one thread a process; the tests of a file share their fixtures.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile
STAMP  := $(VENV)/.installed

.PHONY: demo test test-all table bench sweeps peers gpu-suite lint format clean

demo: $(STAMP)
	$(BIN)/bench run --method delta --organism taboo

test: $(STAMP) lint
	$(PYTEST) -m "not slow"

test-all: $(STAMP) lint
	$(PYTEST)

# A small table: every built-in method on both variants of a taboo organism, three seeds (the README's is of core-v2: benchmarks.results).
table: $(STAMP)
	$(BIN)/bench run -m all -o taboo/gold-narrow,taboo/gold-mixed --seed 0,1,2
	$(BIN)/bench leaderboard build

# The table of docs/performance.md: speed against the formulations ours replace. On a quiet machine.
bench: $(STAMP)
	$(BIN)/python -m benchmarks.run --out docs/performance.json
	$(BIN)/python -m benchmarks.table docs/performance.json
	$(BIN)/python -m benchmarks.sweeps.speed

# What kills at random moments and rivals on one store cost a sweep (docs/sweeps.md): nothing. Half an hour.
sweeps: $(STAMP)
	$(BIN)/python -m benchmarks.sweeps.kills --kills 200
	$(BIN)/python -m benchmarks.sweeps.store --processes 8

# What only a GPU can show, in at most eight minutes; `--cpu` in place of `--page …` tests the suite itself.
gpu-suite: $(STAMP)
	$(BIN)/python -m benchmarks.gpu_suite --out docs/gpu.json --page docs/performance.md

# Real peers for `make bench`, in a folder of their own; PEERS="--peer-source NAME=PATH" takes one from a checkout.
peers: $(STAMP)
	$(BIN)/python -m benchmarks.peers.sources $(PEERS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch is asked for by its exact pin first: a looser range would pull the CUDA build on machines that have no use for it.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info runs leaderboard-out
