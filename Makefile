# Everything a fresh machine needs: `make compare` to see it, `make test-all-backends` to trust it.
# Variables: PYTHON (3.10 to 3.12; 3.11 is what constraints.txt was made for), VENV, BACKENDS, ARGS; for fuzz N, SEED.

PYTHON ?= $(shell for p in python3.11 python3 python3.10 python3.12 python; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN = $(VENV)/bin
BACKENDS ?= torch mindspore mxnet numpy
FRAMEWORKS ?= torch,mindspore,mxnet
READY = $(VENV)/.ready

.PHONY: setup compare train test test-all-backends test-core test-site test-export export-onnx test-workers chaos study search fuzz \
	fuzz-input bench-live bench-gpu docs docs-links lint format clean
.DELETE_ON_ERROR:

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.10 to 3.12 is needed; none was found. Name one: make PYTHON=..."; exit 2; }
	@echo "Setting up $(VENV), once: PyTorch, MindSpore, MXNet and what they need. It takes some minutes and 5 GB."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,dev]'
	@touch $@

# The same small net, from the same weights, briefly in all three frameworks: some minutes on two cores. With
# the chapter's own recipe so few images teach nothing yet; this one gets off the plateau.
compare: setup
	$(BIN)/python -m nin_multi compare --backend $(FRAMEWORKS) --arch nin-mnist \
		--train-examples 6400 --test-examples 1000 --epochs 1 --batch-size 16 \
		--init he --momentum 0.9 --lr 0.01 $(ARGS)

train: setup
	$(BIN)/python -m nin_multi train --backend torch $(ARGS)

# Backends that can start; the core's tests need none.
test: setup
	$(BIN)/python -m pytest $(ARGS)

# Every backend is named, so each must run; one process per backend, in the environment it asks for. JOBS parts at a
# time, the longest first; ALSO names more of them. They share the cores: an OpenMP thread that waits must not hold one
# (torch's and MXNet's random architectures took 3.1 and 2.8 s for 4.9 and 4.6 beside other work).
JOBS ?= 2
ALSO ?=
test-all-backends: export OMP_WAIT_POLICY ?= passive
test-all-backends: setup
	@$(MAKE) --no-print-directory -j $(JOBS) --output-sync=target \
		$(addprefix conformance-,$(filter mindspore,$(BACKENDS))) $(ALSO) test-core \
		$(addprefix conformance-,$(filter-out mindspore,$(BACKENDS)))
	@$(if $(filter-out $(BACKENDS),torch mindspore mxnet),true,$(BIN)/python tests/conformance/mutation_table.py)

SITE_TESTS = tests/pages/test_page_site.py
test-core: setup
	@echo "== the core"
	$(BIN)/python -m pytest --durations=15 -n auto --dist loadfile --ignore=tests/conformance --ignore=tests/interop \
		--ignore=$(SITE_TESTS) $(ARGS)

# The documentation site, built, in a browser.
test-site: docs
	NIN_MULTI_SITE=$(CURDIR)/docs/_build/html NIN_MULTI_PAGES=1 $(BIN)/python -m pytest $(SITE_TESTS) $(ARGS)

conformance-%: setup
	@echo "== conformance and interop of $*"
	$(BIN)/python -m nin_multi.launcher $* -m pytest --durations=15 tests/conformance tests/interop --backend $* $(ARGS)

# What `export` writes for every architecture of the zoo, in every framework, NumPy and ONNX: each by itself, in a
# process that cannot import this project, gives the same net. MindSpore's own convolutions want that instruction set.
test-export: setup
	@began=$$(date +%s); $(MAKE) --no-print-directory $(addprefix export-,$(BACKENDS)) export-onnx && \
		echo "== every exported form of every architecture passed, in $$(( $$(date +%s) - began )) s"

export-mindspore: export ONEDNN_MAX_CPU_ISA ?= AVX2
export-%: setup
	@echo "== programs of $*"
	@$(BIN)/python -m nin_multi.launcher $* -m pytest -q --zoo all --durations=3 \
		tests/conformance/test_exported.py --backend $* $(ARGS)

export-onnx: setup
	@echo "== ONNX files"
	@$(BIN)/python -m pytest -q --zoo all --durations=3 tests/export/test_export_onnx_alone.py $(ARGS)

# Workers of one run, in every framework, with what takes minutes of starting processes: three of them, one that does not
# come, a port that is taken, all of them started again.
test-workers: setup
	@set -e; for backend in $(filter-out numpy,$(BACKENDS)); do \
		echo "== workers of $$backend"; \
		$(BIN)/python -m nin_multi.launcher $$backend -m pytest -q --long --durations=3 --backend $$backend \
			tests/conformance/test_workers*.py $(ARGS); \
	done

# Random architectures in every framework against the oracle, N of them; another SEED draws others.
N ?= 1000
SEED ?= 0
fuzz: setup
	@set -e; for backend in $(BACKENDS); do \
		echo "== $(N) random architectures in $$backend, seed $(SEED)"; \
		$(BIN)/python -m nin_multi.launcher $$backend -m pytest -q -s tests/conformance/test_fuzz.py \
			--backend $$backend --fuzz $(N) --fuzz-seed $(SEED) $(ARGS); \
	done

# Runs that are killed at random instants come to the same end, bit for bit: KILLS of them over all frameworks.
KILLS ?= 100
chaos: setup
	$(BIN)/python tests/conformance/chaos.py --kills $(KILLS) --backends $(FRAMEWORKS) --seed $(SEED) $(ARGS)

# The study docs/studies/STUDY.yaml, for MINUTES, and on from there the next time: its runs go to OUT/runs, its results to
# docs/studies/STUDY.json. ARGS="--only CASE --backends torch --seeds 0-4" does some of it, --take FOLDER adds runs.
STUDY ?= recipes
study search: OUT = study
study search: MINUTES = 60
study: setup
	$(BIN)/python tools/study.py '$(STUDY)' --out '$(OUT)' --minutes $(MINUTES) $(ARGS)

# Better hyper-parameters for the chapter's training: an Optuna study for MINUTES, and on from there the next time, also
# on several machines at once where STORAGE is a database's address. Its results go to docs/studies/search.json.
STORAGE ?= $(OUT)/search.log
search: setup
	$(BIN)/python tools/search.py --out '$(OUT)' --storage '$(STORAGE)' --minutes $(MINUTES) $(ARGS)

# Damaged input for every parser, N each: only documented errors may come out. ENGINE=atheris goes by branches reached.
ENGINE ?= hypothesis
fuzz-input: setup
	@test $(ENGINE) = hypothesis || $(BIN)/python -c 'import atheris' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet 'atheris>=2.3'
	$(BIN)/python tests/fuzz/run.py --engine $(ENGINE) --inputs $(N) --seed $(SEED) $(ARGS)

# What 200 browsers on the live page cost a training that goes on beside.
bench-live: setup
	$(BIN)/python tools/bench_live.py $(ARGS)

# All checks and measurements on one GPU, into the folder OUT: also in a bare checkout, with whatever Python has torch.
# PARTS=tests,epochs does some; SET="compile=on" sets knobs of the runs; MINUTES is for the study of seeds, which goes on
# where it stopped. Fashion-MNIST's files are in DATA, or where NIN_MULTI_DATA says.
bench-gpu: OUT = bench-gpu
bench-gpu: MINUTES = 3
DEVICE ?= cuda:0
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,python3)
bench-gpu:
	$(GPU_PYTHON) tools/bench_gpu.py --out '$(OUT)' --minutes $(MINUTES) --device $(DEVICE) \
		$(if $(PARTS),--parts $(PARTS)) $(if $(DATA),--data-dir '$(DATA)') $(addprefix --set ,$(SET)) $(ARGS)

# The documentation site, with its cells executed, some minutes: docs/_build/html/index.html. The other asks the
# addresses that it links to, so it needs a network.
docs: setup
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html $(ARGS)

docs-links: setup
	$(BIN)/python -m sphinx -q -b linkcheck docs docs/_build/links $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist docs/_build
