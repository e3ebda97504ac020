# Needs Python 3.11 or newer, make and the package registry; everything else is installed into .venv.
PYTHON ?= python3
# Processes that tests run in, each on a core of its own.
WORKERS ?= 2
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: run test lint format lock clean

run: $(READY)  ## train the baseline on the embedded default track and leave its record under results/
	$(BIN)/kit run

test: $(READY)  ## the test suite, on two cores; PYTEST_ARGS="--slow --long --fuzz 100000" adds the rest
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: $(READY)  ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# A stamp, written last: an interrupted installation is done again, from nothing, as half a package stops pip.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kit needs Python 3.11 or newer; name one with make PYTHON=...")'
	[ -e $@ ] || rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Names, versions and hashes only, so that any registry or mirror serves.
lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-header --no-annotate --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
