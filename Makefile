# Every target sets up .venv first: once, and again when its dependencies change.
PYTHON ?= python3
STUDY  ?= demo
CORES  ?= 2
GPUS   ?=
DATA   ?=
LANDMARKS ?=
PROFILE ?=
NAME   ?=
TORCH  ?=
MODEL  ?=
IN     ?=
OUT    ?=
DRAFT  ?=
# As text: make expands no $ in them, and recipes read "$$DATA" from the environment, so that a value of any letters is one
# word to the shell. `$(shell …)` has another environment (make before 4.4) and gets quoted words.
NAMED  := $(findstring command,$(origin PYTHON))# a Python is named on the command line
override PYTHON    := $(value PYTHON)
override STUDY     := $(value STUDY)
override CORES     := $(value CORES)
override GPUS      := $(value GPUS)
override DATA      := $(value DATA)
override LANDMARKS := $(value LANDMARKS)
override PROFILE   := $(if $(findstring command,$(origin PROFILE)),$(value PROFILE))# shells set one too
override NAME      := $(if $(findstring command,$(origin NAME)),$(value NAME))# WSL sets a variable of this name
override TORCH     := $(value TORCH)
override MODEL     := $(value MODEL)
override IN        := $(value IN)
override OUT       := $(value OUT)
override DRAFT     := $(value DRAFT)
override ARGS      := $(value ARGS)
export PYTHON STUDY CORES GPUS DATA LANDMARKS PROFILE NAME TORCH MODEL IN OUT DRAFT ARGS
quoted = '$(subst ','\'',$(1))'
READY  := .venv/.ready
RUN    := .venv/bin/python -m lib
PIP    := .venv/bin/python -m pip
# User settings must not change results; lib/study/environment.py does the same for notebooks.
export PYTHONPATH := $(CURDIR)
export PYTHONNOUSERSITE := 1
export PYTHONUTF8 := 1
export PIP_USER := 0
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 20000
export IPYTHONDIR := $(CURDIR)/notebooks/.ipython
export JUPYTER_PREFER_ENV_PATH := 1
unexport PYTHONHOME PYTHONSTARTUP PYTHONSAFEPATH PYTHONWARNINGS PYTHONOPTIMIZE JUPYTER_PATH OMP_NUM_THREADS
unexport GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_PREFIX
# Git leaves out what running adds to a notebook. Only in this clone, not in a repository around the project. The path is
# relative, so that a clone can be moved and each worktree uses its own .venv; without .venv notebooks stay as they are, and if
# .venv is broken git refuses them (`required`) rather than take outputs. The filter has a name of its own, since a user's
# `nbstripout --install --global` has other options. Without rfc3987_syntax, which jsonschema imports if it can, it takes half
# a second instead of two.
NBSTRIPOUT := .venv/bin/python -I -c "import sys; sys.modules.update(rfc3987_syntax=None); from nbstripout import main; main()"
LEFT_OUT := $(addprefix metadata.language_info.,codemirror_mode file_extension mimetype nbconvert_exporter pygments_lexer version)
CLEAN  := if test -e .venv; then exec $(NBSTRIPOUT) --keep-id --extra-keys "$(LEFT_OUT)"; else exec cat; fi
STRIP  := above=$$(git rev-parse --show-cdup 2>/dev/null) && test -z "$$above" || exit 0; \
            git config filter.fetal-thesis.clean '$(CLEAN)' && git config filter.fetal-thesis.smudge cat && \
            git config filter.fetal-thesis.required true || \
            echo 'git config failed: git status will list the notebooks that you run' >&2
NO_VENV := echo "$$PYTHON cannot make .venv; on Debian and Ubuntu run 'apt install python3-venv' and repeat the command" >&2; exit 1
comma  := ,
# The Python that .venv should use: the one named on the command line, else its current one.
ASKED  := $(if $(NAMED),$(call quoted,$(PYTHON)),.venv/bin/python)
SEES_MORE := grep -qs 'system-site-packages = true' .venv/pyvenv.cfg  # .venv also uses the packages of $(PYTHON)
STALE  := $(shell test "$$(cat .venv/.ready 2>&1)" = "$$(pwd -P; $(ASKED) --version 2>&1 | cut -d. -f1,2)" \
            $(if $(TORCH),&& $(SEES_MORE)) || echo stale)
$(if $(filter-out installed,$(TORCH)),$(error TORCH=$(TORCH) is not allowed; the only value is TORCH=installed, which uses the torch of $(PYTHON)))
$(if $(filter-out yes,$(DRAFT)),$(error DRAFT=$(DRAFT) is not allowed; the only value is DRAFT=yes, which prints a reminder for each text not written yet))
needs = $(if $(filter $(1),$(MAKECMDGOALS)),$(if $(strip $(value $(2))),,$(error $(2) is empty; write: make $(1) $(2)=<$(3)>)))
$(call needs,study,STUDY,name)$(call needs,why,STUDY,name)$(call needs,report,STUDY,name)$(call needs,watch,STUDY,name)$(call needs,check-report,STUDY,name)$(call needs,bundle,STUDY,name)$(call needs,download,NAME,data set)$(call needs,verify,DATA,raw folder)
$(call needs,card,STUDY,name)$(call needs,ship,STUDY,name)$(call needs,ship,OUT,new folder)
$(call needs,predict,MODEL,study or file)$(call needs,predict,IN,image or folder)$(call needs,predict,OUT,folder of the answers)

help:
	@echo 'make demo                              run the phantom study and write reports/demo/report.pdf (a few minutes)'
	@echo 'make demo TORCH=installed [PYTHON=...]  the same, using the torch installed in this Python (clusters, rented GPUs)'
	@echo 'make test                              run all tests except those that take minutes each'
	@echo 'make test-all                          run all tests'
	@echo 'make study STUDY=<name> [DATA=<raw folder>] [LANDMARKS=<folder>] [CORES=n] [GPUS=n]'
	@echo '                                       run the study and write reports/<name>/report.pdf'
	@echo 'make study STUDY=<name> PROFILE=profiles/slurm [CORES=n] [GPUS=n]'
	@echo '                                       the same on a cluster with Slurm: docs/howto-cluster.md'
	@echo 'make why STUDY=<name>                  list the steps that would run, with reasons'
	@echo 'make report STUDY=<name> [DRAFT=yes]    typeset the report of a finished study again, with the texts of texts/<name>'
	@echo 'make watch STUDY=<name> [DRAFT=yes]     the same on each save of a text, until Ctrl-C'
	@echo 'make check-report STUDY=<name>          recompute every printed number of a finished study, and name what differs'
	@echo 'make download NAME=<data set>          download and verify a data set, or print how to obtain it'
	@echo 'make verify DATA=<raw folder>          identify the data set in a folder and report its problems'
	@echo 'make predict MODEL=<study or file> IN=<image or folder> OUT=<folder> [ARGS="--pixel-size 0.1"]'
	@echo '                                       predict and measure images that have no reference'
	@echo 'make bundle STUDY=<name>               pack a finished study for a supervisor: reports/<name>/<name>.zip'
	@echo 'make card STUDY=<name>                 write the model card of a finished study: reports/<name>/card.md'
	@echo 'make ship STUDY=<name> OUT=<folder>    write its models in half precision, with card and licence, to be passed on'
	@echo 'make slurm-test                        run studies through a Slurm of one node, set up for it and removed'
	@echo 'make lab [ARGS="--no-browser ..."]     open the notebooks in JupyterLab; ARGS are options of jupyter lab'
	@echo 'make lint                              check code style and import layers'
	@echo 'make bench                             measure speed and memory as ratios (15 minutes)'
	@echo 'make gpu-check                          check and time the training on an NVIDIA GPU (9 minutes)'
	@echo 'make clean                             remove generated reports, processed arrays and .venv; keep data/raw'

# .venv belongs to one path and Python version; it is rebuilt if either differs or the set-up was interrupted.
# A .venv that make did not create (no .ready or .making) is kept as .venv.old.
# The torch of $(PYTHON) is added to the constraints so that pip does not replace it.
$(READY): pyproject.toml constraints.txt $(if $(STALE),anew)
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
	  "Python 3.11 or newer is required; $$PYTHON is $$("$$PYTHON" --version 2>&1). Use another one: make demo PYTHON=python3.12" >&2; exit 1; }
	@maker=$$(cat .venv/.making 2>/dev/null); test -z "$$maker" || test "$$maker" = "$$PPID" || \
	  ! ps -o comm= -p "$$maker" 2>/dev/null | grep -q make || { echo \
	  'another make is setting up .venv; wait for it to finish' >&2; exit 1; }
	@$(if $(STALE),"$$PYTHON" -c 'import ensurepip$(comma) venv' 2>/dev/null || { $(NO_VENV); })
	@$(if $(and $(STALE),$(TORCH)),"$$PYTHON" -c 'import torch' 2>/dev/null || { \
	  echo "TORCH=installed: $$PYTHON cannot import torch; set PYTHON=<path> to a Python that can" >&2; exit 1; })
	$(if $(STALE),test ! -e .venv || test -e .venv/.ready || test -e .venv/.making || { rm -rf .venv.old; mv .venv .venv.old; })
	$(if $(STALE),rm -rf .venv && mkdir .venv)
	@echo $$PPID > .venv/.making
	@$(if $(STALE),"$$PYTHON" -m venv $(if $(TORCH),--system-site-packages) .venv > /dev/null || { $(NO_VENV); })
	@if $(SEES_MORE); then .venv/bin/python -c 'import torch' 2> /dev/null || { echo \
	  "TORCH=installed: .venv cannot use the torch of $$PYTHON, which is itself in a virtual environment; see docs/howto-own-torch.md" >&2; exit 1; }; \
	  { grep -v '^torch' constraints.txt; .venv/bin/python -c 'from importlib.metadata import distributions as d; \
	  print(*{f"{p.name}=={p.version}" for p in d() if p.name in ("torch", "torchvision")}, sep="\n")'; } > .venv/constraints.txt; \
	  else cp constraints.txt .venv/constraints.txt; fi
	$(PIP) install --quiet --constraint .venv/constraints.txt --editable '.[dev]'
	@rm -f .venv/.making
	@$(STRIP)
	@{ pwd -P; .venv/bin/python --version | cut -d. -f1,2; } > $@

demo: $(READY)
	$(RUN) study demo --cores="$$CORES" $${GPUS:+--gpus="$$GPUS"} $${PROFILE:+--profile="$$PROFILE"}

study: $(READY)
	$(RUN) study --cores="$$CORES" $${GPUS:+--gpus="$$GPUS"} $${DATA:+--data="$$DATA"} $${LANDMARKS:+--landmarks="$$LANDMARKS"} $${PROFILE:+--profile="$$PROFILE"} -- "$$STUDY"

why: $(READY)
	$(RUN) why -- "$$STUDY"

report: $(READY)
	@$(RUN) report $${DRAFT:+--draft} -- "$$STUDY"

watch: $(READY)
	@$(RUN) watch $${DRAFT:+--draft} -- "$$STUDY"

check-report: $(READY)
	$(RUN) check-report -- "$$STUDY"

predict: $(READY)
	@set -f; $(RUN) predict --out="$$OUT" $$ARGS -- "$$MODEL" "$$IN"

bundle: $(READY)
	$(RUN) bundle -- "$$STUDY"

card: $(READY)
	$(RUN) card -- "$$STUDY"

ship: $(READY)
	$(RUN) ship -- "$$STUDY" "$$OUT"

test: $(READY)
	.venv/bin/python -m pytest

test-all: $(READY)
	.venv/bin/python -m pytest -m ''

slurm-test: $(READY)
	.venv/bin/python tests/slurm/run

download: $(READY)
	$(RUN) download -- "$$NAME"

verify: $(READY)
	$(RUN) verify -- "$$DATA"

lab: $(READY)
	@$(STRIP)
	set -f; .venv/bin/python -m jupyterlab notebooks --FileContentsManager.post_save_hook=lib.study.saved_notebook.refresh $$ARGS

lint: $(READY)
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/lint-imports

bench: $(READY)
	.venv/bin/python -m benchmarks

gpu-check:
	$(if $(NAMED),,$(if $(wildcard .venv/bin/python),PYTHON=.venv/bin/python)) benchmarks/gpu.sh

clean:
	find reports -mindepth 1 -maxdepth 1 ! -name template -exec rm -rf {} +
	rm -rf data/processed .snakemake .venv

.PHONY: anew help demo study why predict report watch check-report bundle card ship download verify test test-all slurm-test lab lint bench gpu-check clean
