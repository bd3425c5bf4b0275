# Two commands on a fresh machine: `make demo` and `make test`. Both install what they need, into .venv.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := saelens_data tests tools

.PHONY: demo test lint encoder clean

demo: .venv/demo
	@mkdir -p demo
	@$(BIN)/saelens-data diff datasets/habits/answers_a.jsonl datasets/habits/answers_b.jsonl \
	  --pair-on prompt --aa-check -n 10 --report demo/report.html
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

# The bundled encoder, from the texts that its card names.
TEXTS ?= sae_training_text.parquet
encoder: .venv/demo
	$(BIN)/python tools/stdlib_text.py build/stdlib.jsonl
	$(BIN)/saelens-data train $(TEXTS) build/stdlib.jsonl -o build/minilm-8k --latents 8192 --k 64

clean:
	rm -rf .venv demo build
