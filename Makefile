# make run | make test | make lab | make notebooks | make format | make checkpoints | make results
.DEFAULT_GOAL := run
PYTHON ?= python3
BIN := .venv/bin
CHAPTERS := $(sort $(wildcard notebooks/[0-9][0-9]_*.ipynb))

# One stamp a change of requirements.txt: running again reuses the environment.
.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, and $(PYTHON) is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 run")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.PHONY: run test lab notebooks format checkpoints results
run: .venv/ready
	$(BIN)/python -m s3rnet_lite notebooks

test: .venv/ready
	$(BIN)/python -m pytest -q

lab: .venv/ready
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

format: .venv/ready
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .
