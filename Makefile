# Needs Python 3.11 or newer with pip, git and GNU make; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
# Newer than what it depends on: .venv holds exactly what the requirements say.
STAMP := $(VENV)/.installed
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check

# The version of uv that `make lock` fetches; nothing else needs it.
UV_VERSION := 0.13.9
LOCK := $(VENV)/bin/uv pip compile --universal --python-version 3.11 \
	--generate-hashes --no-header --no-emit-index-url --annotation-style line --quiet

# What dtm is measured against has an environment of its own.
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test soak crash fuzz lint types format bench bench-compare bench-peers lock build clean mutate

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(STAMP) ## run server, clients and admin commands once, end to end
	$(PY) examples/demo.py

test: lint types ## lint, types and all tests (ARGS="-k name" picks)
	$(PY) -m pytest$(if $(ARGS), $(ARGS))

lint: $(STAMP) ## check format and style
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

types: $(STAMP) ## check types (mypy --strict)
	$(PY) -m mypy

format: $(STAMP) ## format, and repair what can be repaired
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

soak: $(STAMP) ## run the long fault tests, then random faults for MINUTES=5 (SEED=n replays them)
	SEED=$(SEED) MINUTES=$(MINUTES) $(PY) -m pytest -m soak -o faulthandler_timeout=0 -rs$(if $(ARGS), $(ARGS))

fuzz: $(STAMP) ## put LINES=100000 fuzzed lines into the codec and a server (SEED=n replays them)
	$(PY) -m tests.faults.fuzz_run $(if $(LINES),--lines $(LINES)) $(if $(SEED),--seed $(SEED))

simulate: $(STAMP) ## run SEEDS=1000 worlds in made-up time (SEED= the first, JOBS=2; ARGS=--trace shows each event)
	$(PY) -m tests.simulation --seed $(or $(SEED),1) --seeds $(or $(SEEDS),1000) --jobs $(JOBS)$(if $(ARGS), $(ARGS))

N ?= 10000
JOBS ?= 2
crash: $(STAMP) ## crash and cut the power N=10000 times (SEED=, JOBS=2, WALK=1 for each kill point, REPLAY=)
	$(PY) -m tests.faults.crash --schedules $(N) --jobs $(JOBS)$(if $(SEED), --seed $(SEED))$(if $(WALK), --walk)$(if \
		$(REPLAY), --replay $(REPLAY))$(if $(ARGS), $(ARGS))

bench: $(STAMP) ## run the benchmarks (ARGS="..." is passed on)
	$(PY) -m bench$(if $(ARGS), $(ARGS))

bench-compare: $(STAMP) ## measure REV=revision and this tree by turns; fails where this one is slower (ARGS="drain --rounds 5")
	$(PY) -m bench.compare $(or $(REV),$(error name the revision to compare with: make bench-compare REV=HEAD~1))$(if $(ARGS), $(ARGS))

bench-peers: $(STAMP) $(PEERS_STAMP) ## measure dtm beside its peers (ARGS="rq huey --tasks 1000"; Debian, as root or with their servers)
	$(PY) -m bench.peers$(if $(ARGS), $(ARGS))

mutate: $(STAMP) ## weaken each safety line in a copy, and see a test turn red
	$(PY) -m tests.mutations$(if $(ARGS), $(ARGS))

lock: $(STAMP) ## write requirements/*.txt anew (UPGRADE=--upgrade takes newer versions)
	$(PIP_INSTALL) uv==$(UV_VERSION)
	$(LOCK) pyproject.toml $(UPGRADE) --output-file requirements/runtime.txt
	$(LOCK) pyproject.toml $(UPGRADE) --extra dev --constraint requirements/runtime.txt --output-file requirements/dev.txt
	$(LOCK) requirements/peers.in $(UPGRADE) --output-file requirements/peers.txt

build: $(STAMP) ## build the wheel into dist/
	rm -rf build
	$(PY) -m build --wheel --no-isolation --outdir dist
	rm -rf build *.egg-info

clean: ## remove .venv, .venv-peers, builds and caches
	rm -rf $(VENV) $(PEERS) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'dtm needs Python 3.11 or newer; "$(PYTHON)" is not that.' \
			'Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP_INSTALL) --require-hashes --only-binary=:all: -r requirements/dev.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(PEERS_STAMP): requirements/peers.txt
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check \
		--require-hashes --only-binary=:all: -r requirements/peers.txt
	@touch $@
