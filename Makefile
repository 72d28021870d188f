# make demo | test | quick | lint | docs | bench | clean
# Each target makes the virtual environment it needs. PYTHON chooses the interpreter, DEMO the demo's folder, TORCH an older
# release of torch for which there is a constraints-torch*.txt, in an environment of its own.

PYTHON ?= python3
DEMO ?= runs/demo
VENV := .venv$(TORCH:%=-torch%)
CONSTRAINTS := $(TORCH:%=constraints-torch%.txt) constraints.txt
INSTALLED := $(VENV)/installed
RUN := $(VENV)/bin/python
# an older torch's stubs lack much of what mypy asks for: it judges by the newest alone
CHECKED := $(if $(TORCH),$(INSTALLED),lint)

.PHONY: demo test quick lint docs bench clean
.DELETE_ON_ERROR:
# a run that was interrupted is resumed, not deleted
.PRECIOUS: $(DEMO)/%/summary.json

# Every step of the demo leaves a file: interrupted, it goes on where it stopped.
demo: $(DEMO)/report/metrics.json
	@echo "Look at $(DEMO)/report/report.html"

test: $(CHECKED)
	$(RUN) -m pytest --numprocesses auto

# an answer within two minutes on two cores; pyproject.toml says what the marks mean
quick: $(CHECKED)
	$(RUN) -m pytest --numprocesses auto -m 'not (slow or network or gpu)'

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict
	@echo "Open site/index.html; searching in it needs a server: $(RUN) -m http.server --directory site"

bench: $(INSTALLED)
	$(RUN) -m benchmarks

clean:
	rm -rf .venv .venv-torch* runs build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): setup.py $(CONSTRAINTS)
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV) || \
	  { echo "error: $(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV): torch, CUDA's libraries, DALI and the rest, 5 GB to fetch and 7 GB on the disk. With a"
	@echo "fast connection it takes two minutes; what was fetched before comes out of pip's cache."
	@# of a package that both files name, the first counts
	@awk -F== '!named[$$1]++' $(CONSTRAINTS) > $(VENV)/constraints.txt
	$(RUN) -m pip install --disable-pip-version-check --constraint $(VENV)/constraints.txt --editable '.[dev,docs,cluster,export,hdf5,parquet,timm,trackers]'
	@touch $@

$(DEMO)/dataset: | $(INSTALLED)
	rm -rf $@.part
	$(RUN) -m tools.synthesize --output $@.part --frames-per-subject 25 --eval-frames 6 --environments 5 --modalities rgba json
	mv $@.part $@

$(DEMO)/validation.json: | $(DEMO)/dataset
	$(RUN) -m tools.validate --dataset $(DEMO)/dataset --report $@

$(DEMO)/shards/manifest.json: | $(DEMO)/validation.json
	$(RUN) -m tools.shard --dataset $(DEMO)/dataset --output $(@D) --components rgba json --image-size 128

$(DEMO)/2d/summary.json $(DEMO)/3d/summary.json: $(DEMO)/%/summary.json: $(DEMO)/shards/manifest.json
	$(RUN) engine/train.py --config configs/demo/train$*.yaml --data.shards $(DEMO)/shards --run-dir $(@D) --resume

$(DEMO)/full/summary.json: $(DEMO)/2d/summary.json $(DEMO)/3d/summary.json
	$(RUN) engine/train.py --config configs/demo/finetune.yaml --data.shards $(DEMO)/shards --run-dir $(@D) --resume \
	  --load-2d $(DEMO)/2d/best.pt --load-3d $(DEMO)/3d/best.pt

$(DEMO)/report/metrics.json: $(DEMO)/full/summary.json
	$(RUN) engine/evaluate.py --checkpoint $(DEMO)/full/best.pt --data.shards $(DEMO)/shards --output $(@D)
