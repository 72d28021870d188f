# make demo | test | lint | bench | clean
# Each target makes the virtual environment it needs. PYTHON chooses the interpreter, DEMO the demo's folder.

PYTHON ?= python3
DEMO ?= runs/demo
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test lint bench clean
.DELETE_ON_ERROR:

$(INSTALLED): setup.py constraints.txt
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || \
	  { echo "error: $(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,cluster]'
	@touch $@

# Each step of the demo is a file: an interrupted demo goes on where it stopped.
demo: $(DEMO)/report/report.html
	@echo "The report is $<"

$(DEMO)/dataset: $(INSTALLED)
	rm -rf $@ $@.part
	$(BIN)/python -m tools.synthesize --output $@.part --config configs/demo/synthesize.yaml
	mv $@.part $@

test: lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv build *.egg-info runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
