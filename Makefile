# Each target makes .venv and installs what it needs when that is missing or older than pyproject.toml, then runs.
PYTHON ?= $(firstword $(shell command -v python3.11 python3 2>/dev/null))
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo-out
DEVICES := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/evit-edge/devices

.PHONY: demo test test-all lint devices-up clean
.DELETE_ON_ERROR:

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo 'evit-edge needs Python 3.11; name one with: make PYTHON=/path/to/python3.11 …' >&2; exit 3; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.base

# bench ends with 7 on a machine that is too busy: the table says so, and all else worked.
demo: $(VENV)/.base
	$(BIN)/evit-edge convert efficientvit_m0 --weights demo --target onnx --target tflite --target coreml --out $(DEMO)
	$(BIN)/evit-edge convert efficientvit_m0 --weights demo --target tflite --precision int8 --out $(DEMO)
	@rm -f $(DEMO)/results.jsonl
	$(BIN)/evit-edge bench $(DEMO)/efficientvit_m0-demo-224px-onnx-fp32 $(DEMO)/efficientvit_m0-demo-224px-tflite-fp32 \
	  $(DEMO)/efficientvit_m0-demo-224px-tflite-int8 --runtime torch --runtime onnxruntime --runtime litert \
	  --effort quick --out $(DEMO)/results.jsonl || [ $$? -eq 7 ]
	$(BIN)/evit-edge report $(DEMO)/results.jsonl --format html --out $(DEMO)/comparison.html
	@echo "the same as a page: $(DEMO)/comparison.html"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -m 'not slow'

test-all: lint
	$(BIN)/pytest

# An emulated aarch64 board for the tests over ssh, kept outside of the checkout. Needs mmdebstrap and qemu-user-static.
devices-up: | $(BIN)/python
	sh tests/devices/build.sh '$(DEVICES)/aarch64' $(BIN)/python

clean:
	rm -rf $(VENV) $(DEMO) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
