# Every target brings its own environment: .venv is made once, and again when what it depends on changes.
PYTHON ?= python3
STUDY  ?= demo
CORES  ?= 2
DATA   ?=
LANDMARKS ?=
NAME   ?=
READY  := .venv/.ready
RUN    := .venv/bin/python -m lib

help:
	@echo 'make demo                              phantom study, from nothing to reports/demo/report.pdf (minutes)'
	@echo 'make test                              every test: package, notebooks, studies, real data if present'
	@echo 'make study STUDY=<name> [DATA=<raw folder>] [LANDMARKS=<folder>] [CORES=n]   to reports/<name>/report.pdf'
	@echo 'make why STUDY=<name>                  what would run, and why'
	@echo 'make download NAME=<data set>          fetches it from its publisher, checked, or says how to get it'
	@echo 'make verify DATA=<raw folder>          which data set it is, what is wrong with it, what to do'
	@echo 'make test-all                          those too that take minutes each'
	@echo 'make lab                               JupyterLab with the notebooks'
	@echo 'make lint                              ruff, nbstripout'
	@echo 'make bench                             speed and memory, as ratios measured in one run (ten minutes)'
	@echo 'make clean                             removes generated reports, processed arrays and .venv; keeps data/raw'

$(READY): pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

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
	.venv/bin/jupyter lab notebooks

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/nbstripout --keep-id --verify notebooks/*.ipynb

bench: $(READY)
	.venv/bin/python -m benchmarks

clean:
	find reports -mindepth 1 -maxdepth 1 ! -name template -exec rm -rf {} +
	rm -rf data/processed .snakemake .venv

.PHONY: help demo study why download verify test test-all lab lint bench clean
