# Thin: pip, DVC, pytest and Jupyter Book do the work. Every path is relative, so a folder with a space in its name works.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3.11
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONHASHSEED := 0
# Results are committed to git; DVC must not ask whether to overwrite what it finds.
DVC := dvc --quiet

.PHONY: help check-python setup pull repro rerun pipeline check book changes test bench data clean

help:  ## Show what each command does
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 14

check-python:  ## Check that PYTHON is a Python 3.11
	@"$(PYTHON)" -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else 1)' 2>/dev/null || { \
	  found=$$("$(PYTHON)" --version 2>&1 || true); \
	  echo "This project needs Python 3.11 (its lock pins libraries for 3.11); $(PYTHON) is: $${found:-not found}." >&2; \
	  echo "Install Python 3.11, or name one: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }

setup: .venv/.ready  ## Make .venv with the pinned libraries (once, and again when the lock changes)

.venv/.ready: requirements.lock pyproject.toml | check-python
	@echo "== Environment: .venv, from requirements.lock (some minutes, once)"
	@"$(PYTHON)" -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch .venv/.ready

pull: setup  ## Fetch the data from the remote inside the repository
	@echo "== Data: dvc pull (into data/)"
	@$(DVC) pull

repro: pull  ## Environment, data, pipeline, book; does only what is not done yet
	@echo "== Pipeline: dvc repro"
	@python -m paperkit pipeline
	@dvc repro
	@python -m paperkit pipeline
	@$(MAKE) --no-print-directory book

rerun: pull  ## Train everything again (or NAME=lion alone), then verdicts, figures and book
	@echo "== Pipeline: $${NAME:-all training stages} again"
	@PAPERKIT_RERUN=1 dvc repro --single-item --force $${NAME:-$$(dvc stage list --name-only | grep -v @)}
	@$(MAKE) --no-print-directory repro

pipeline: setup  ## Write dvc.yaml, the book's contents and the README's table from the replications' folders
	@python -m paperkit pipeline

check: pull  ## Say everything that a replication lacks: make check NAME=lion
	@python -m paperkit check "$${NAME:?say which one: make check NAME=lion}"

book: pull  ## Build the book from the committed results
	@echo "== Book: book/_build/html"
	@jupyter-book build book --all -W -n --keep-going --quiet
	@echo "Open book/_build/html/index.html"

changes: setup  ## Record results that moved: make changes SINCE=<commit with the old ones> WHY="one sentence"
	@PYTHONPATH=book/_ext python -m results_in_text.numbers_changed --since "$${SINCE:-}" --why "$${WHY:-}"

test: pull  ## The whole test suite
	@echo "== Tests"
	@python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

bench: setup  ## Ratios of speed against peers, measured in one run
	@python -m pytest benchmarks -o python_files='bench_*.py' --benchmark-enable --benchmark-columns=median,iqr,rounds

data: setup  ## Rebuild data/ from the packages named in data_sources.yaml (not needed to reproduce)
	@python -m build_data.ingest

clean:  ## Remove what can be made again: environment, data, built book, kept runs
	rm -rf .venv data book/_build .paperkit .pytest_cache .ruff_cache .benchmarks .hypothesis
