# `make demo` trains and shows pictures, `make test` runs the tests; both set up a virtual environment in $(VENV) first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo_output
FROM ?= shipped
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt
OLDEST := $(VENV)-oldest
INSTALL_OLDEST := $(OLDEST)/bin/uv pip install --quiet --python $(OLDEST)/bin/python --resolution lowest-direct \
	--only-binary :all: --no-binary basicsr --no-binary clusir
BASICSR_BUILD := PYTHONPATH=$(CURDIR)/tools/basicsr_build
FUZZ_EXAMPLES ?= 500
FUZZ_FILES ?= 5000
DATA ?= data
PHOTOGRAPHS ?= photographs
WEIGHTS ?= clusir_modules/weights/clusir_tiny.safetensors
UNIT_TESTS := -n 2 --dist worksteal
export OMP_NUM_THREADS_TEST ?= 1
export UV_COMPILE_BYTECODE = 1

.PHONY: demo bench test test-fast test-oldest test-long test-gpu killtest soak lint clean fuzz fuzz-files degradation-table docs site-test quality contest

demo: $(VENV)/.demo
	$(BIN)/python -m basicsr_plugin.demo --out $(OUT) --from $(FROM)

test: lint
	OMP_NUM_THREADS=$(OMP_NUM_THREADS_TEST) $(BIN)/python -m pytest $(UNIT_TESTS)

test-fast: lint
	OMP_NUM_THREADS=$(OMP_NUM_THREADS_TEST) $(BIN)/python -m pytest $(UNIT_TESTS) -m "not slow and not long and not gpu"

# The package in an environment of its own with the lowest declared version of every dependency; not the slow tests, nor those
# of documents and tools.
test-oldest: $(OLDEST)/.test
	OMP_NUM_THREADS=$(OMP_NUM_THREADS_TEST) $(OLDEST)/bin/python -m pytest $(UNIT_TESTS) -m "not slow and not long and not gpu" \
		$(addprefix --ignore=tests/,docs fuzz basicsr_plugin/demo test_documentation.py test_benchmarks.py test_growth.py test_quality.py test_killtest.py)

# What keeps torch's compiler busy for minutes, in the newest environment and in the oldest.
test-long: $(VENV)/.test $(OLDEST)/.test
	for python in $(BIN)/python $(OLDEST)/bin/python; do \
		OMP_NUM_THREADS=$(OMP_NUM_THREADS_TEST) $$python -m pytest $(UNIT_TESTS) -m long || exit 1; done

# Property tests, $(FUZZ_EXAMPLES) cases of each; `make test` runs 5 of each.
fuzz: $(VENV)/.test
	CLUSIR_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) OMP_NUM_THREADS=$(OMP_NUM_THREADS_TEST) $(BIN)/python -m pytest $(UNIT_TESTS) -q tests/fuzz

# $(FUZZ_FILES) damaged pictures and as many damaged files of weights; `make test` tries 112 and 30.
fuzz-files: $(VENV)/.test
	OMP_NUM_THREADS=$(OMP_NUM_THREADS_TEST) PYTHONPATH=$(CURDIR) $(BIN)/python tools/fuzz_files.py --pictures $(FUZZ_FILES) --weights $(FUZZ_FILES)

# Which degradation each cluster of $(WEIGHTS) stands for, by the clean pictures in $(PHOTOGRAPHS); stored in the weights.
degradation-table: $(VENV)/.test
	PYTHONPATH=$(CURDIR) $(BIN)/python tools/measure_degradations.py $(PHOTOGRAPHS) --weights $(WEIGHTS)

# Correctness and speed on a GPU in at most 4 minutes; writes benchmarks/results/gpu.*. Without a virtual environment, network and
# BasicSR: `python3 -m benchmarks.gpu`.
test-gpu: $(VENV)/.test
	$(BIN)/python -m benchmarks.gpu

# Kills a small training 20 times and compares its end with that of an undisturbed one: about 5 minutes.
killtest: $(VENV)/.test
	$(BIN)/python tools/killtest.py

# Trains under random faults for MINUTES, and compares every end with that of an undisturbed training.
MINUTES ?= 60
soak: $(VENV)/.test
	$(BIN)/python tools/soak.py --minutes $(MINUTES)

# Speed and memory beside peers, about 13 minutes on two idle cores; writes benchmarks/results.
bench: $(VENV)/.test
	$(BIN)/python -m benchmarks

# The shipped weights on CBSD68 and other known sets below $(DATA), 20 minutes of one core; writes benchmarks/results.
quality: $(VENV)/.test
	$(INSTALL) bm3d
	$(BIN)/python -m benchmarks.quality --data $(DATA)

# clusir_tiny beside Restormer and NAFNet for three minutes of one core each, and beside itself without a part for 300 steps;
# three seeds, an hour and a half of one core.
contest: $(VENV)/.test
	$(BIN)/python -m benchmarks.quality.contest --photographs $(PHOTOGRAPHS)/train --kept-out $(PHOTOGRAPHS)/val
	$(BIN)/python -m benchmarks.quality.contest --photographs $(PHOTOGRAPHS)/train --kept-out $(PHOTOGRAPHS)/val --unit steps --budget 300

# The site in docs/_build/html, pictures and tables included; a warning is an error.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

# Links, widths, errors and barriers of the built site, and its page that restores pictures, in Chromium if there is one.
site-test: docs $(VENV)/.test
	$(INSTALL) playwright axe-playwright-python
	$(BIN)/python -m pytest -q -n 0 tests/docs/test_site.py tests/docs/test_try_page.py

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ruff format --check --line-length 88 README.md CONTRIBUTING.md docs/*.md docs/*/*.md
	$(BIN)/mypy
	$(BIN)/lint-imports

%/.uv:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'clusir needs Python 3.11 or newer, this is ' + sys.version)"
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

# BasicSR imports torch when it is built, so it is built in the environment itself, after torch.
$(VENV)/.base: $(VENV)/.uv pyproject.toml constraints.txt
	@echo "Installing torch and the other packages, about 6 GB on disk: half a minute with a fast connection"
	$(INSTALL) torch torchvision "setuptools<82" wheel numpy cython
	$(BASICSR_BUILD) $(INSTALL) --no-build-isolation-package basicsr basicsr==1.4.2
	@touch $@

$(VENV)/.demo: $(VENV)/.base
	$(INSTALL) --editable ".[demo]"
	@touch $@

$(VENV)/.test: $(VENV)/.base
	$(INSTALL) --editable ".[test]"
	@touch $@

# Of each dependency the lowest version that has a wheel for this Python; --upgrade forgets the newer ones of the first line.
$(OLDEST)/.test: $(OLDEST)/.uv pyproject.toml
	@echo "Installing the oldest torch and other packages, about 6 GB on disk"
	$(INSTALL_OLDEST) --requirement pyproject.toml "setuptools>=75,<82" "wheel>=0.40" "cython>=3"
	$(BASICSR_BUILD) $(INSTALL_OLDEST) --upgrade --no-build-isolation-package basicsr --editable ".[test]"
	@touch $@

$(VENV)/.docs: $(VENV)/.base
	$(INSTALL) --editable ".[docs]"
	@touch $@

clean:
	rm -rf $(VENV) $(OLDEST) $(OUT) docs/_build docs/_generated docs/api/generated build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
