# Everything runs from .venv, made on first use; no activation needed. Another Python: make PYTHON=python3.12 test,
# where PYTHON is the name or the path of one program.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help verify test lint format package docs report peers mutants styles speed bench bench-quick bench-site bench-compare gate-selftest gpu catalogue clean

help: ## show this list
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

verify: $(INSTALLED) ## check the claims of the paper on this machine, and print the tables
	$(BIN)/python -m reports.verify

# One thread per worker: the workers' thread pools would fight over the cores. pytest last: its closing line is the verdict.
test: lint ## lint, hold the engines against the quick requirements, then run the tests on all cores
	OMP_NUM_THREADS=1 $(BIN)/pytest conformance --quick -n auto --maxprocesses 8 -q
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 8

lint: $(INSTALLED) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## put the code into the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

package: $(INSTALLED) ## build both distributions into dist/, and use them where no checkout is (some minutes)
	$(BIN)/python -m tools.package

docs: $(INSTALLED) ## the site, in site/index.html; fails on broken links and undocumented names
	$(BIN)/mkdocs build --quiet

report: $(INSTALLED) ## the project's own results, results.md and figures, from the data in reports/data
	$(BIN)/python -m reports.build

peers: export PEERS_PYTHON ?= $(BIN)/python
peers: $(INSTALLED) ## other people's libraries: an environment each, the suite, and a comparison with ours (under 40 minutes)
	$(BIN)/python -m reports.peers --python "$$PEERS_PYTHON"

mutants: $(INSTALLED) ## the kill matrix: which wrong implementation fails which requirement (under 25 minutes)
	$(BIN)/python -m pcalm_conformance.kill_matrix

# Slow by design: products are summed term by term in Python, and one style does so in long double.
styles: $(INSTALLED) ## eleven right styles through the whole suite, which must reject none (under an hour; LEVEL=--full: a day)
	OMP_NUM_THREADS=1 $(BIN)/pytest conformance --implementation pcalm_conformance.implementations.styles --time-limit 600 -n auto $(LEVEL)

speed: $(INSTALLED) ## the speed table and its goals (under 20 minutes; resumes)
	$(BIN)/python -m benchmarks.speed

# asv in the environment that is there; it keeps the results only of code that a commit names.
ASV_HERE = $(BIN)/asv machine --yes >/dev/null && $(BIN)/asv run --environment existing:$(BIN)/python
bench: export PCALM_BENCH_GRID ?= cpu
bench: $(INSTALLED) ## all asv benchmarks on the CPU grid (under 10 minutes); PCALM_BENCH_GRID=paper is the paper's
	$(ASV_HERE) --durations 10 $$(git diff --quiet HEAD -- pcalm benchmarks && echo --set-commit-hash=HEAD || echo --dry-run)

bench-quick: export PCALM_BENCH_GRID = quick
bench-quick: $(INSTALLED) ## all asv benchmarks at one shape (under a minute), as tables
	$(ASV_HERE) --dry-run

bench-site: $(INSTALLED) ## pages of the last 10 commits to pcalm/, in .asv/html (under 30 minutes)
	$(BIN)/python -m benchmarks.site

export BASE HEAD SUMMARY  # as they are, whatever they hold
# The verdict is the status of the command, which make shows as "Error N" and turns into its own 2.
bench-compare: $(INSTALLED) ## what did the last commits make slower or less accurate: make bench-compare BASE=main~1
	$(if $(BASE),,$(error name a commit: make bench-compare BASE=main~1))
	$(BIN)/python -m benchmarks.compare $(if $(SUMMARY),--summary "$$SUMMARY") -- "$$BASE" $(if $(HEAD),"$$HEAD")

gate-selftest: $(INSTALLED) ## plant regressions and failures, and check that bench-compare says so (under 20 minutes)
	$(BIN)/python -m benchmarks.selftest

# Installs nothing: runs with a Python that has torch, numpy, triton and pytest.
gpu: ## conformance and the speed table on a CUDA device: make gpu PYTHON=python3
	PYTHONPATH=.:conformance "$(PYTHON)" -m pytest conformance -o minversion=8.0 -q --device cuda --report gpu-conformance.json
	PYTHONPATH=.:conformance "$(PYTHON)" -m pytest conformance -o minversion=8.0 -q --device cuda --dtype float32 --quick
	PYTHONPATH=.:conformance "$(PYTHON)" -m benchmarks.speed --device cuda

catalogue: $(INSTALLED) ## write the requirements into conformance/README.md
	$(BIN)/python -m pcalm_conformance.catalogue

clean: ## remove the environment, caches and generated files
	rm -rf $(VENV) .venv-peers .asv build dist site *.egg-info reports/latest .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

ANOTHER = name another with: make PYTHON=python3.12 ...

# Only this step uses the network, and only when the file is missing or older than what it installs from.
$(INSTALLED): pyproject.toml conformance/pyproject.toml constraints.txt
	@case "$$("$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" in \
	  3.1[1-9] | 3.[2-9][0-9]) ;; \
	  "") echo "pcalm needs Python >= 3.11, but '$(PYTHON)' does not run as a Python; $(ANOTHER)" >&2; exit 1 ;; \
	  *) echo "pcalm needs Python >= 3.11, but '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1); $(ANOTHER)" >&2; exit 1 ;; \
	esac
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable conformance --editable '.[test]'
	@touch $@

# An environment that is there stays as it is: asked for another Python, make says so.
ifneq ($(origin PYTHON),file)
$(INSTALLED): | same-python
endif
.PHONY: same-python
same-python:
	@[ ! -x $(BIN)/python ] || [ "$$("$(PYTHON)" --version 2>&1)" = "$$($(BIN)/python --version)" ] || { \
	  echo "$(VENV) has $$($(BIN)/python --version), which '$(PYTHON)' is not; make clean removes it" >&2; exit 1; }
