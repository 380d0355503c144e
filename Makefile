# Everything runs in .venv, which the first target makes; a second call installs nothing again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_DATA := demo-data
DEMO_RUN := demo-run
SITE := build/site

.DEFAULT_GOAL := help
.PHONY: help demo test lint wheel docs site clean

help:  ## say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/installed  ## write demo data with known mistakes, audit them, say what was found
	@test -f $(DEMO_DATA)/truth.csv || $(BIN)/labelfix demo $(DEMO_DATA)
	$(BIN)/labelfix audit $(DEMO_DATA)/data --out $(DEMO_RUN) --overwrite --tune head
	@$(BIN)/labelfix demo $(DEMO_DATA) --score $(DEMO_RUN)
	@echo; echo "labelfix is in $(BIN); to have it within reach: source $(BIN)/activate"

test: $(VENV)/installed-dev  ## run the tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/installed-dev  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: $(VENV)/installed-dev  ## build the package into dist/
	$(BIN)/python -m build --outdir dist

docs: $(VENV)/installed-dev  ## write the generated pages and the picture of an audit anew
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/audit_picture.py

site: $(VENV)/installed-dev  ## build the pages of the documentation into build/site, and check their links
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $(SITE)

clean:  ## remove what these targets made
	rm -rf $(VENV) $(DEMO_DATA) $(DEMO_RUN) dist build

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: there is no $(PYTHON) here"; \
	  echo "hint: install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3.12"; \
	  exit 1; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1), and labelfix needs Python 3.11 or newer"; \
	  echo "hint: name a newer one: make PYTHON=python3.12"; \
	  exit 1; } >&2
	@$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "error: $(PYTHON) cannot make a virtual environment"; \
	  echo "hint: on Debian and Ubuntu: apt install python3-venv"; \
	  exit 1; } >&2

$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/installed
