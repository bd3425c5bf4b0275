# Two commands on a fresh machine: `make demo` and `make test`. Both install what they need, into .venv.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := saelens_data tests tools recipes

.PHONY: demo test lint docs oracle record-oracle encoder clean

demo: .venv/demo
	@mkdir -p demo
	@$(BIN)/saelens-data diff datasets/habits/answers_a.jsonl datasets/habits/answers_b.jsonl \
	  --pair-on prompt --aa-check -n 10 --dtype float32 --report demo/report.html
	@echo "Open demo/report.html in a browser. For commands of your own: source .venv/bin/activate"

test: .venv/test lint
	$(BIN)/python -m pytest -n 2

lint: .venv/test
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing into .venv: some minutes the first time, most of them for torch."
	$(PIP) --editable .
	@touch $@

.venv/test: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	@touch $@ .venv/demo

# The pages as a site: open site/index.html. Links and anchors that lead nowhere are errors.
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "Open site/index.html in a browser."

.venv/docs: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[docs]'
	@touch $@ .venv/demo

# The libraries that published SAEs are compared with, live, in an environment of their own (0.9 GB, minutes). `make test`
# compares with what they gave when `make record-oracle` was last run.
oracle: .venv-oracle/ready
	PYTHONPATH=. .venv-oracle/bin/python -m pytest tests/oracle

record-oracle: .venv-oracle/ready
	PYTHONPATH=. .venv-oracle/bin/python tests/oracle/record.py

.venv-oracle/ready: tests/oracle/requirements.txt constraints.txt
	$(PYTHON) -m venv .venv-oracle
	.venv-oracle/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --requirement tests/oracle/requirements.txt
	@touch $@

# The bundled encoder, from the texts that its card names.
TEXTS ?= sae_training_text.parquet
encoder: .venv/demo
	$(BIN)/python tools/stdlib_text.py build/stdlib.jsonl
	$(BIN)/saelens-data train $(TEXTS) build/stdlib.jsonl -o build/minilm-8k --latents 8192 --k 64

clean:
	rm -rf .venv .venv-oracle demo build site
