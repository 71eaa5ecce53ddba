# make train         set up what running needs, train on the built-in dataset
# make test          set up what testing needs, run the linters and the tests
# make check-native  the C++ tests of the kernels, under sanitizers and emulators too
# make check-all     all tests, the slow ones too
#
# PYTHON chooses the interpreter (3.10 or later), EXTRA_CONSTRAINTS names a second file of pinned
# versions, CMAKE_ARGS goes to CMake.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# ---- What `make train` runs: small sizes and quick schedules, so that minutes are enough ----
TRAIN_LOG_ROOT ?= runs/first
TRAIN_HPARAMS ?= enc_model=layer_norm,enc_rnn_size=64,dec_model=layer_norm,dec_rnn_size=192,$\
  z_size=32,num_mixture=10,max_seq_len=40,num_steps=1000,save_every=250,$\
  learning_rate=0.005,decay_rate=0.998,kl_decay_rate=0.998,$\
  recurrent_dropout_prob=0.95,augment_stroke_prob=0
# A run that was stopped goes on where it was.
TRAIN_RESUME = $(if $(wildcard $(TRAIN_LOG_ROOT)/checkpoints/last),--resume_training)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The isolated build gets the pinned tools too; pip before 25.3 reads only the first of these.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt $(EXTRA_CONSTRAINTS)
export PIP_BUILD_CONSTRAINT := $(CURDIR)/constraints.txt
# In CI a compiler warning is an error; on a stranger's compiler it is not.
export CMAKE_ARGS ?= $(if $(CI),-DSKETCHRNN_FAST_WERROR=ON)

SOURCES := $(sort pyproject.toml setup.py CMakeLists.txt MANIFEST.in LICENSE NOTICE README.md \
  $(shell find sketchrnn_fast kernels csrc -type f \
    -not -name '*.so' -not -path '*/__pycache__/*'))
CXX_SOURCES := $(filter %.h %.cpp %.cu %.cuh,$(SOURCES)) \
  $(wildcard tests/native/*.h tests/native/*.cpp) \
  $(wildcard tests/cuda_on_cpu/*.h tests/cuda_on_cpu/*.cpp tests/cuda_on_cpu/shim/*)
# Rewritten when the list itself changes, so that a deleted file rebuilds the wheel as well.
SOURCE_LIST := build/sources.txt
$(shell mkdir -p build; echo '$(SOURCES)' | cmp -s - $(SOURCE_LIST) \
  || echo '$(SOURCES)' > $(SOURCE_LIST))

WHEEL := build/wheel.stamp
RUNTIME := $(VENV)/runtime.stamp
TOOLS := $(VENV)/tools.stamp

# What tests/native/check.sh does; it says what each word means.
NATIVE_CHECKS ?= plain symbols address thread clang cpus aarch64

.PHONY: setup train test lint format check-native check-slow check-fuzz check-all clean

setup: $(RUNTIME)

train: $(RUNTIME)
	$(BIN)/sketchrnn-fast train --log_root $(TRAIN_LOG_ROOT) $(TRAIN_RESUME) --hparams "$(TRAIN_HPARAMS)"
	$(BIN)/sketchrnn-fast sample $(TRAIN_LOG_ROOT) --count 40 --columns 8 --temperature 0.3 \
	  --out $(TRAIN_LOG_ROOT)/samples.png

test: lint
	$(BIN)/pytest -m "not slow"

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run -Werror $(CXX_SOURCES)

format: $(TOOLS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_SOURCES)

# Its parts may run side by side: `make -j4 check-all`.
check-all: test check-native check-slow check-fuzz

# The large sizes, and the sdist, the wheel made from it, and the editable install.
check-slow: $(TOOLS)
	$(BIN)/pytest -m slow --ignore tests/fuzz

# Each reader of files, ten minutes.
check-fuzz: $(TOOLS)
	$(BIN)/pytest -m slow tests/fuzz

# The C++ tests of the kernels, in many builds.
check-native: $(TOOLS)
	PATH="$(CURDIR)/$(BIN):$$PATH" tests/native/check.sh $(NATIVE_CHECKS)

clean:
	rm -rf build dist $(VENV) *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# ---- The environment ----

$(VENV)/venv.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
	  { echo "make: $(PYTHON) is missing or older than 3.10; name another with PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "make: $(PYTHON) cannot make virtual environments; install its venv package" \
	    "(apt install python3-venv)"; exit 1; }
	@$(PYTHON) -c 'import os, sysconfig as s; open(os.path.join(s.get_path("include"), "Python.h"))' \
	  2>/dev/null || \
	  { echo "make: the headers of $(PYTHON) are missing; install its development package" \
	    "(apt install python3-dev)"; exit 1; }
	@for compiler in "$$CXX" c++ g++ clang++; do \
	  command -v "$$compiler" > /dev/null && exit 0; done; \
	  echo "make: no C++ compiler found; install one (apt install g++) or set CXX"; exit 1
	$(PYTHON) -m venv $(VENV)
	touch $@

# setuptools would copy files that were deleted from the sources out of build/lib.
$(WHEEL): $(VENV)/venv.stamp $(SOURCES) $(SOURCE_LIST) constraints.txt
	rm -rf build/lib* build/wheel
	$(BIN)/pip wheel . --no-deps --wheel-dir build/wheel
	touch $@

# Uninstalled first because pip keeps an installed wheel of the same version.
$(RUNTIME): $(WHEEL)
	$(BIN)/pip uninstall --yes --quiet sketchrnn-fast
	$(BIN)/pip install --quiet $$(echo build/wheel/*.whl)
	touch $@

$(TOOLS): $(RUNTIME)
	$(BIN)/pip install --quiet "$$(echo build/wheel/*.whl)[test,dev]"
	touch $@
