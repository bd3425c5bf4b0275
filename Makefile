# Two commands on a fresh machine: `make demo` and `make test`. Both install what they need, into .venv.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := saelens_data tests

.PHONY: demo test lint encoder clean

demo: .venv/demo
	@$(BIN)/saelens-data diff datasets/habits/answers_a.jsonl datasets/habits/answers_b.jsonl \
	  --pair-on prompt -n 10 --report demo/report.html
	@echo "Open demo/report.html in a browser."

test: .venv/test lint
	$(BIN)/python -m pytest -n 2

lint: .venv/test
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

.venv/test: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	@touch $@ .venv/demo

clean:
	rm -rf .venv demo build
