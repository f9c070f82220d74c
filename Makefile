# Everything runs in .venv, made on the first call, by `python -m` in this folder: ige itself is not
# installed, so the folder can be moved.

VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/requirements-installed

# Of its own, so that the demo does not touch a run that you trained as hpe/b128-1.
DEMO_DIR := ~/ige_models/demo
DEMO := $(PYTHON) -m ige --gin_file=hpe/b128-1 --gin_param="data='synthetic'" \
	--gin_param="default_model_dir.base_dir='$(DEMO_DIR)'"

# Set by most services that run tests: no colours, no progress bars.
ifdef CI
export NO_COLOR := 1
export PIP_PROGRESS_BAR := off
export TERM := dumb
endif
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint venv clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 8

demo: venv ## train a small pose lifter on generated data, print its errors, draw them (minutes)
	$(DEMO) --command=prepare
	$(DEMO) --command=train --epochs=5
	$(DEMO) --command=evaluate --gin_param='include_procrustes=True'
	$(DEMO) --command=vis

test: lint ## check the style and run all tests
	$(PYTHON) -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

lint: venv ## check the style
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

venv: $(INSTALLED) ## make .venv with the pinned requirements

# Written last: an installation that was interrupted is taken up again.
$(INSTALLED): requirements.txt
	@for python in python3.11 python3.12 python3.13 python3; do \
		if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
			2>/dev/null; then echo "$$python -m venv $(VENV)"; exec $$python -m venv $(VENV); fi; \
	done; \
	echo "make: needs Python 3.11, 3.12 or 3.13 (TensorFlow 2.21 has no later)," \
		"found $$(python3 --version 2>/dev/null || echo none); install python3.11" >&2; \
	exit 1
	$(PYTHON) -m pip install --requirement requirements.txt
	@touch $@

clean: ## remove .venv and the caches of the tools (trained models and data stay)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
