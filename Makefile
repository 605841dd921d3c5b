# Every target brings its own environment: .venv is made once, and again when what it depends on changes.
PYTHON ?= python3
STUDY  ?= demo
CORES  ?= 2
DATA   ?=
LANDMARKS ?=
NAME   ?=
TORCH  ?=
READY  := .venv/.ready
RUN    := .venv/bin/python -m lib
PIP    := .venv/bin/python -m pip
# What a person has set for other work decides nothing here; lib/study/environment.py says the same of notebooks.
export PYTHONPATH := $(CURDIR)
export PYTHONNOUSERSITE := 1
export PYTHONUTF8 := 1
export PIP_USER := 0
export OMP_WAIT_POLICY := PASSIVE
export IPYTHONDIR := $(CURDIR)/notebooks/.ipython
export JUPYTER_PREFER_ENV_PATH := 1
unexport PYTHONHOME PYTHONSTARTUP PYTHONSAFEPATH PYTHONWARNINGS PYTHONOPTIMIZE JUPYTER_PATH OMP_NUM_THREADS
NO_VENV := echo "$(PYTHON) cannot make .venv; on Debian and Ubuntu: apt install python3-venv and give the same command again" >&2; exit 1
comma  := ,
# The python that .venv should have: the one named on the command line, else its own.
ASKED  := $(if $(findstring command,$(origin PYTHON)),$(PYTHON),.venv/bin/python)
SEES_MORE := grep -qs 'system-site-packages = true' .venv/pyvenv.cfg  # .venv uses the packages of $(PYTHON) too
STALE  := $(shell test "$$(cat .venv/.ready 2>&1)" = "$$(pwd -P; $(ASKED) --version 2>&1 | cut -d. -f1,2)" \
            $(if $(TORCH),&& $(SEES_MORE)) || echo stale)
$(if $(filter-out installed,$(TORCH)),$(error TORCH=$(TORCH) is not allowed; TORCH=installed uses the torch that $(PYTHON) has))

help:
	@echo 'make demo                              phantom study, from nothing to reports/demo/report.pdf (minutes)'
	@echo 'make demo TORCH=installed [PYTHON=...]  the same with the torch that this Python has (clusters, rented GPUs)'
	@echo 'make test                              every test that does not take minutes by itself: package, notebooks, studies, real data'
	@echo 'make study STUDY=<name> [DATA=<raw folder>] [LANDMARKS=<folder>] [CORES=n]   to reports/<name>/report.pdf'
	@echo 'make why STUDY=<name>                  what would run, and why'
	@echo 'make download NAME=<data set>          fetches it from its publisher, checked, or says how to get it'
	@echo 'make verify DATA=<raw folder>          which data set it is, what is wrong with it, what to do'
	@echo 'make test-all                          those too that take minutes each'
	@echo 'make lab                               JupyterLab with the notebooks'
	@echo 'make lint                              ruff, order of imports, nbstripout'
	@echo 'make bench                             speed and memory, as ratios measured in one run (a quarter of an hour)'
	@echo 'make clean                             removes generated reports, processed arrays and .venv; keeps data/raw'

# .venv belongs to this place and to a version of Python; set up anew where it is another's or was never finished.
# One that make has not made (without .ready or .making) is kept as .venv.old.
# A torch that .venv finds in $(PYTHON) is a constraint of its own, so that pip leaves it as it is.
$(READY): pyproject.toml constraints.txt $(if $(STALE),anew)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
	  "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make demo PYTHON=python3.12" >&2; exit 1; }
	@maker=$$(cat .venv/.making 2>/dev/null); test -z "$$maker" || test "$$maker" = "$$PPID" || \
	  ! ps -o comm= -p "$$maker" 2>/dev/null | grep -q make || { echo \
	  'another make is setting up .venv; wait for its end' >&2; exit 1; }
	@$(if $(STALE),$(PYTHON) -c 'import ensurepip$(comma) venv' 2>/dev/null || { $(NO_VENV); })
	@$(if $(and $(STALE),$(TORCH)),$(PYTHON) -c 'import torch' 2>/dev/null || { \
	  echo "TORCH=installed: $(PYTHON) cannot import torch; name the Python that can: PYTHON=<path>" >&2; exit 1; })
	$(if $(STALE),test ! -e .venv || test -e .venv/.ready || test -e .venv/.making || { rm -rf .venv.old; mv .venv .venv.old; })
	$(if $(STALE),rm -rf .venv && mkdir .venv)
	@echo $$PPID > .venv/.making
	@$(if $(STALE),$(PYTHON) -m venv $(if $(TORCH),--system-site-packages) .venv > /dev/null || { $(NO_VENV); })
	@if $(SEES_MORE); then .venv/bin/python -c 'import torch' 2> /dev/null || { echo \
	  "TORCH=installed: .venv does not see the torch of $(PYTHON), which is a virtual environment itself; docs/howto-own-torch.md" >&2; exit 1; }; \
	  { grep -v '^torch' constraints.txt; .venv/bin/python -c 'from importlib.metadata import distributions as d; \
	  print(*{f"{p.name}=={p.version}" for p in d() if p.name in ("torch", "torchvision")}, sep="\n")'; } > .venv/constraints.txt; \
	  else cp constraints.txt .venv/constraints.txt; fi
	$(PIP) install --quiet --constraint .venv/constraints.txt --editable '.[dev]'
	@rm -f .venv/.making
	@{ pwd -P; .venv/bin/python --version | cut -d. -f1,2; } > $@

demo: $(READY)
	$(RUN) study demo --cores $(CORES)

study: $(READY)
	$(RUN) study $(STUDY) --cores $(CORES) $(if $(DATA),--data "$(DATA)") $(if $(LANDMARKS),--landmarks "$(LANDMARKS)")

why: $(READY)
	$(RUN) why $(STUDY)

test: $(READY)
	.venv/bin/python -m pytest

test-all: $(READY)
	.venv/bin/python -m pytest -m ''

download: $(READY)
	$(RUN) download $(NAME)

verify: $(READY)
	$(RUN) verify "$(DATA)"

lab: $(READY)
	.venv/bin/python -m jupyterlab notebooks

lint: $(READY)
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/python -m nbstripout --keep-id --verify notebooks/*.ipynb

bench: $(READY)
	.venv/bin/python -m benchmarks

clean:
	find reports -mindepth 1 -maxdepth 1 ! -name template -exec rm -rf {} +
	rm -rf data/processed .snakemake .venv

.PHONY: anew help demo study why download verify test test-all lab lint bench clean
