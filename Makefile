# Everything a newcomer needs: `make demo` and `make test`. Needs Python 3.11 or newer, git and make.

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
WORKERS ?= 2
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# A stamp carries the checksum of pyproject.toml: installation is repeated when the dependencies change, not before.
SUM := $(shell cksum < pyproject.toml | cut -d ' ' -f 1)
INSTALLED := $(VENV)/.installed-$(SUM)
INSTALLED_TEST := $(VENV)/.installed-test-$(SUM)

.DEFAULT_GOAL := help
.PHONY: help demo test lint types slurm install install-test

help:  ## show this list
	@echo "make TARGET [PYTHON=python3.12] [PIP_ARGS='...']"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile
	@echo "PYTHON makes the virtual environment; PIP_ARGS goes to pip install (an index, a cache, ...);"
	@echo "WORKERS is the number of processes that test, with one thread and up to 6 GB each."

demo: $(INSTALLED)  ## install, then generate videos, train, evaluate and report (ARGS='key=value ...')
	@echo "== python train.py $(ARGS)"
	@$(BIN)/python train.py $(ARGS)

test: $(INSTALLED_TEST)  ## install the test extra, then run the fast tests (PYTEST_ARGS='-k NAME ...', WORKERS=4)
	@echo "== pytest -n $(WORKERS) $(PYTEST_ARGS)"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: $(INSTALLED_TEST)  ## check format and style
	@echo "== ruff format --check, ruff check"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(INSTALLED_TEST)  ## check types
	@echo "== mypy"
	@$(BIN)/mypy

slurm:  ## start a SLURM of three pretended nodes on this machine (root, Debian); says how to use and end it
	@$(PYTHON) slurm/testcluster.py up

install: $(INSTALLED)  ## install the project into .venv

install-test: $(INSTALLED_TEST)  ## install the project with its test extra into .venv

# One pip command for all: pip must choose torch, torchvision and timm together, or they do not fit each other.
$(INSTALLED): | $(BIN)/python
	@echo "== installing into $(VENV) (several GB the first time)"
	@$(BIN)/python -m pip install $(PIP_ARGS) -e .
	@rm -f $(VENV)/.installed-*
	@touch $@

$(INSTALLED_TEST): | $(BIN)/python
	@echo "== installing with the test extra into $(VENV) (several GB the first time)"
	@$(BIN)/python -m pip install $(PIP_ARGS) -e '.[test]'
	@rm -f $(VENV)/.installed-*
	@touch $(INSTALLED) $@

$(BIN)/python:
	@command -v $(PYTHON) > /dev/null || { \
	  echo "make: there is no $(PYTHON); install Python 3.11 or newer, or name yours: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1); name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "== creating $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "make: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
