# Two commands from a fresh machine: `make quickstart`, `make test`. Everything else is `edgeft …` (in .venv/bin).
#
#   PYTHON=python3.12        the interpreter to make the environment from
#   VENV=.venv               where the environment goes
#   TORCH_INDEX_URL=…        where torch comes from, when not from the default index (README says which for CPU, CUDA)
VENV ?= .venv
export PYTHON VENV TORCH_INDEX_URL

.PHONY: help install dev quickstart test test-slow test-optimum check format clean

help:
	@echo "make quickstart   install edgeft into $(VENV) and run recipes/quickstart.yaml"
	@echo "make test         the default test suite      make test-slow   the long tests"
	@echo "make test-optimum   the tests of backend: optimum, in an environment made for it"
	@echo "make check        lint, types, layers         make format      format the code"
	@echo "make install      only install                make dev         with the development tools"

install: $(VENV)/.installed-all
dev: $(VENV)/.installed-dev

$(VENV)/.installed-%: pyproject.toml constraints.txt tools/install
	tools/install $*

quickstart: install
	$(VENV)/bin/edgeft run recipes/quickstart.yaml

test: dev
	tools/test

test-slow: dev
	tools/test slow

.venv-optimum/.installed: tools/optimum.txt tools/install-optimum
	tools/install-optimum

test-optimum: dev .venv-optimum/.installed
	EDGEFT_OPTIMUM_PYTHON=$(CURDIR)/.venv-optimum/bin/python tools/test slow tests/exporters/onnx/test_optimum.py

check: dev
	tools/check

format: dev
	tools/format

clean:
	rm -rf $(VENV) .venv-optimum .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
