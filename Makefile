# `make demo` trains and shows pictures, `make test` runs the tests; both set up a virtual environment in $(VENV) first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo_output
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt
UNIT_TESTS := -n 2 --dist worksteal
export OMP_NUM_THREADS_TEST ?= 1

.PHONY: demo test test-fast test-gpu lint clean

demo: $(VENV)/.demo
	$(BIN)/python -m basicsr_plugin.demo --out $(OUT)

test: lint
	OMP_NUM_THREADS=$(OMP_NUM_THREADS_TEST) $(BIN)/python -m pytest $(UNIT_TESTS)

test-fast: lint
	OMP_NUM_THREADS=$(OMP_NUM_THREADS_TEST) $(BIN)/python -m pytest $(UNIT_TESTS) -m "not slow and not gpu"

test-gpu: $(VENV)/.test
	$(BIN)/python -m pytest -m gpu

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# BasicSR imports torch when it is built, so it is built in the environment itself, after torch.
$(VENV)/.base: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'clusir needs Python 3.11 or newer, this is ' + sys.version)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo "Installing torch and the other packages, about 6 GB on disk: half a minute with a fast connection"
	$(INSTALL) torch torchvision "setuptools<82" wheel numpy cython
	PYTHONPATH=$(CURDIR)/tools/basicsr_build $(INSTALL) --no-build-isolation-package basicsr basicsr==1.4.2
	@touch $@

$(VENV)/.demo: $(VENV)/.base
	$(INSTALL) --editable ".[demo]"
	@touch $@

$(VENV)/.test: $(VENV)/.base
	$(INSTALL) --editable ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) $(OUT) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
