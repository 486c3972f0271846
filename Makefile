# One command each, for people and for CI. The environment is made once and kept until pyproject.toml or constraints.txt change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
# Of the tests: processes, and the threads of each. Together more than there are processors, they wait for one another.
WORKERS ?= 2
THREADS ?= 1
# Whole files go to one process, in the order of tests/conftest.py.
TESTS = OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: bench test test-fast classifiers check format sysroot benchmark schema clean examples
.DEFAULT_GOAL := help

help:
	@echo 'make bench      set up, then run the shipped example: `harness bench` on this CPU'
	@echo 'make test       set up, then run every test'
	@echo 'make test-fast  set up, then run the tests that take no long time'
	@echo 'make classifiers  the most used classifiers of torchvision and timm, in every kind of file, as far as INT8'
	@echo 'make check      ruff, mypy --strict, import contracts'
	@echo 'make examples   two qualification reports into reports/examples, one of an emulated board: a quarter of an hour and more'
	@echo 'make sysroot    fetch what emulated Arm CPUs need into the cache folder (about 60 MB, once)'
	@echo 'make benchmark  speed against plain baselines, as ratios measured in one run'
	@echo 'make schema     write reports/record.schema.json from harness/records'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11'; exit 1; }
	@echo 'Setting up $(VENV) (about 6 GB, once) ...'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/stubs tensorrt-stubs==10.13.0.35.1
	sed -i -E 's/\bin: list/in_: list/; s/channel_axis: int\)/channel_axis: int = -1)/' $(VENV)/stubs/tensorrt_bindings/tensorrt.pyi  # as published it does not parse
	@touch $@

bench: $(STAMP)
	$(BIN)/harness bench

test: $(STAMP)
	$(TESTS)

test-fast: $(STAMP)
	$(TESTS) -m 'not slow'

classifiers: $(STAMP)
	$(TESTS) --dist load tests/contracts/classifiers.py

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

sysroot: $(STAMP)
	$(BIN)/harness devices prepare raspberry-pi-4

benchmark: $(STAMP)
	$(BIN)/python tests/benchmarks/run.py

# Two qualification reports, of this computer and of an emulated board (a quarter of an hour on two idle cores, after `make sysroot`). Their
# exit codes are those of what they find.
examples: $(STAMP)
	rm -rf runs/x86-server runs/raspberry-pi-4
	-$(BIN)/harness bench --requirements docs/examples/x86-server.toml --out runs/x86-server
	-$(BIN)/harness bench --device raspberry-pi-4 --emulate --model resnet18x16-at-rslad-mobilenetv2-cifar-x0.25 --flavour onnx-fp32 --flavour ort-int8 --flavour ort-int8-precise --samples 64 --requirements docs/examples/raspberry-pi.toml --out runs/raspberry-pi-4
	for run in x86-server raspberry-pi-4; do \
	  mkdir -p reports/examples/$$run && cp runs/$$run/report.html runs/$$run/report.md runs/$$run/record.json reports/examples/$$run/; \
	done

schema: $(STAMP)
	$(BIN)/python -m harness.records > reports/record.schema.json

clean:
	rm -rf $(VENV) runs dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
