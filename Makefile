# make run | test | check | lab | gpu | notebooks | format | book | browser-test | lock | checkpoints | results | comparison | robustness | speed | campaign
.DEFAULT_GOAL := run
PYTHON ?= python3
BIN := .venv/bin

# One stamp a change of what is to be installed: running again reuses the environment. Everything is
# checked against the hashes of requirements.lock but torch, whose build (CPU, CUDA) pip chooses.
.venv/ready: requirements.txt requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, and $(PYTHON) is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 run")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check $$(grep -o '^torch==[^ ]*' requirements.txt)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# The pins of requirements.txt and all that they need, for every platform, with hashes; without torch
# and the CUDA libraries that only some of its builds need.
lock:
	$(BIN)/uv pip compile requirements.txt --universal --python-version 3.11 --generate-hashes --quiet \
		--custom-compile-command "make lock" --no-emit-package s3rnet-lite --no-emit-package torch \
		--no-annotate | $(BIN)/python .ci/without_cuda.py > .lock.tmp
	mv .lock.tmp requirements.lock

.PHONY: run test check lock lab gpu notebooks format book browser-test checkpoints results comparison robustness speed campaign
run: .venv/ready
	$(BIN)/python -m s3rnet_lite evaluate --checkpoint data/s3rnet_lite_6bands.safetensors
	@echo "The first picture, what fusion gained: figures/readme.png"
	$(BIN)/python -m s3rnet_lite notebooks
	@echo "Read and play with the chapters: make lab"

# Two workers with one thread each; a notebook's cells stay together. Long files come early in the alphabet, so order is kept.
test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

# Two minutes before a commit: style, imports, types, docstrings and the fast tests.
check: .venv/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m "not slow" -p no:nbval -o addopts="--import-mode=importlib --doctest-modules" s3rnet_lite tests

# From the repository's folder; in a container LAB_FLAGS="--allow-root --no-browser". Only this machine can reach it, with the token that it prints.
LAB_FLAGS ?=
lab: .venv/ready
	$(BIN)/jupyter lab $(LAB_FLAGS) notebooks/00_start_here.ipynb

# On a machine with a CUDA GPU: checks one step, then times and trains the paper's network; run again, it goes on. Without a GPU: the same path at tiny size.
# The paper's own recipe on lines from `prepare`: make gpu DATA=aviris EPOCHS=600 MINUTES=1440
MINUTES ?= 8
EPOCHS ?= 600
gpu: .venv/ready
	$(BIN)/python -m s3rnet_lite gpu --minutes $(MINUTES) $(if $(DATA),--data $(DATA) --epochs $(EPOCHS))

format: .venv/ready
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

notebooks: .venv/ready
	$(BIN)/python -m s3rnet_lite notebooks --in-place
	$(BIN)/python -m s3rnet_lite labs

# The chapters as a web site with search, for any folder or server: runs/book/index.html.
.venv/book: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation -e ".[book]"
	@touch $@
book: .venv/book
	$(BIN)/python -m sphinx -W --keep-going -q -c notebooks/book -d runs/book-cache . runs/book
	@echo "The book: runs/book/index.html"

# Every chapter in JupyterLab, as a reader uses it; needs chromium or google-chrome on the path.
.venv/browser: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation -e ".[browser]"
	@touch $@
browser-test: .venv/browser
	OMP_NUM_THREADS=1 ALL_CHAPTERS=1 $(BIN)/python -m pytest -q -rs tests/course/test_browser.py

# The shipped models, then what is measured on them and on four more seeds. One thread each makes runs repeatable.
# The robust one keeps the skip "injection": "details" also learns from the pair, whose noise misleads it.
checkpoints: .venv/ready
	for bands in 4 6; do \
		OMP_NUM_THREADS=1 $(BIN)/python -m s3rnet_lite train --msi-bands $$bands --out data/s3rnet_lite_$${bands}bands.safetensors || exit; \
	done
	OMP_NUM_THREADS=1 $(BIN)/python -m s3rnet_lite train --msi-bands 6 --snr-db 5 80 --denoise --skip injection --out data/s3rnet_lite_6bands_robust.safetensors

results: .venv/ready
	for bands in 4 6; do \
		OMP_NUM_THREADS=1 $(BIN)/python -m s3rnet_lite evaluate --msi-bands $$bands --out data/results/classical_$${bands}bands.json || exit; \
		for seed in 1 2 3 4; do \
			OMP_NUM_THREADS=1 $(BIN)/python -m s3rnet_lite train --msi-bands $$bands --seed $$seed --out runs/lite_$${bands}bands_seed$$seed.safetensors || exit; \
		done; \
		OMP_NUM_THREADS=1 $(BIN)/python -m s3rnet_lite evaluate --out data/results/lite_$${bands}bands.json \
			--checkpoint data/s3rnet_lite_$${bands}bands.safetensors runs/lite_$${bands}bands_seed[1-4].safetensors || exit; \
	done
	OMP_NUM_THREADS=1 $(BIN)/python -m s3rnet_lite ablate --msi-bands 6 --out data/results/ablation_6bands.json

# Table I with eleven networks: about an hour on two cores, run by run; the models of seed 0 go with the repository.
COMPARE := OMP_NUM_THREADS=1 $(BIN)/python -m s3rnet_lite compare
comparison: .venv/ready
	$(COMPARE) --recipe common --msi-bands 4 --seeds 3
	$(COMPARE) --recipe common --msi-bands 6 --seeds 1
	$(COMPARE) --recipe published --msi-bands 4 --seeds 1
	$(COMPARE) --recipe published --msi-bands 6 --seeds 1
	mkdir -p data/peers
	for file in runs/comparison/common_4bands_*_seed0.*; do \
		name=$${file##*/common_4bands_}; cp $$file data/peers/$${name%_seed0.*}_4bands.$${file##*.}; \
	done

# Table II with eleven networks and three training noises: about an hour and a half on two cores, run by run.
robustness: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m s3rnet_lite robustness
	OMP_NUM_THREADS=1 $(BIN)/python -m s3rnet_lite robustness --network s3rnet --recipe bare published denoised --seeds 3
	OMP_NUM_THREADS=1 $(BIN)/python -m s3rnet_lite robustness --network mssjfl qrcode hypertransformer --recipe bare --seeds 3
	mkdir -p data/robustness
	cp runs/robustness/published_none_s3rnet_seed0.* runs/robustness/published_35dB_s3rnet_seed0.* data/robustness/

# The fast path against the plain equations, fusion of large images, adapt against the truth: a quarter of an hour on two idle cores.
speed: .venv/ready
	$(BIN)/python -m s3rnet_lite benchmark --runs 21 --out data/results/benchmark_cpu.json
	OMP_NUM_THREADS=1 $(BIN)/python -m s3rnet_lite benchmark --preset lite --runs 41 --out data/results/benchmark_cpu_one_thread.json
	$(BIN)/python -m s3rnet_lite fuse-benchmark --out data/results/tiling.json
	OMP_NUM_THREADS=1 $(BIN)/python -m s3rnet_lite adapt-benchmark --out data/results/adaptation.json

# Kills, damaged files, nonsense arguments, crowds and full disks, for ten minutes on one core; SEED=1, 2, ... for others.
SEED ?= 0
campaign: .venv/ready
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m campaigns --minutes 10 --seed $(SEED) --out data/results/campaign.json
