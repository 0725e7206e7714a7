# One virtual environment, .venv, built in two steps, each with a stamp that is written only when its imports work:
#   core   what the tools need: training, probes, reports                        (about 2 minutes)
#   full   core + test tools + mmdet3d to test against; compiles mmcv the first time  (10 to 20 minutes; pip keeps the wheel)

VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip
CORE   := $(VENV)/.core-installed
FULL   := $(VENV)/.full-installed

PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
# The pinned set is for Python 3.11; other versions follow the bounds in setup.cfg.
CONSTRAINTS := $(shell $(PYTHON) -c 'import sys; print("-c constraints.txt" if sys.version_info[:2] == (3, 11) else "")')
INSTALL := $(PIP) install --disable-pip-version-check $(if $(CI),-q) $(CONSTRAINTS)

MAX_JOBS     ?= $(shell nproc 2>/dev/null || echo 2)
TEST_WORKERS ?= 2
PYTEST_ARGS  ?=
DEMO         := work_dirs/demo

# Where nuScenes is; see data/README.md.
ifneq ($(wildcard ../shared/data/nuscenes),)
export AVJEPA_NUSCENES ?= $(abspath ../shared/data/nuscenes)
endif

.PHONY: help demo study test lint venv venv-full clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: $(CORE)  ## generate a mini city, pretrain on it, probe it, write an HTML report; run again to go on
	$(PY) tools/demo.py --out $(DEMO)

study: $(CORE)  ## generate 24 drives, train every objective with three seeds, probe them all, write the tables; run again to go on
	$(PY) tools/make_city.py --scenes 24 --out data/city24
	$(PY) tools/study.py configs/studies/city.py --data data/city24 --out work_dirs/study

# One thread in each of two workers: two workers with two threads each would fight for two cores.
test: lint $(FULL)  ## ruff, then every test; skipped tests are listed with their reasons
	OMP_NUM_THREADS=1 MPLBACKEND=Agg HF_HUB_OFFLINE=1 \
	$(PY) -m pytest -ra -n $(TEST_WORKERS) --dist loadfile --durations=15 $(PYTEST_ARGS)

lint:  ## ruff with the rules of ruff.toml
	@$(PY) -m ruff --version >/dev/null 2>&1 || { $(PYTHON) -m venv $(VENV) && $(INSTALL) -q ruff; }
	$(PY) -m ruff check .

venv: $(CORE)  ## build .venv with what the tools need
venv-full: $(FULL)  ## add the test tools, and mmdet3d to test against

clean:  ## remove .venv and caches; data/ and work_dirs/ stay
	rm -rf $(VENV) *.egg-info build dist .pytest_cache .ruff_cache .hypothesis
	find avjepa projects tools configs tests -name __pycache__ -type d -prune -exec rm -rf {} +

# mmengine asks for opencv-python, nuscenes-devkit for opencv-python-headless. Both wheels write the folder cv2, the
# later one wins, and the first needs libGL. Keep the headless one alone, whole.
define keep_headless_cv2
$(PIP) uninstall -q -y opencv-python
$(INSTALL) -q --no-deps --force-reinstall "opencv-python-headless<4.12"
endef

$(CORE): setup.cfg pyproject.toml constraints.txt
	@echo "Installing the core packages into $(VENV)"
	$(PYTHON) -m venv $(VENV)
	@date +%s > $(VENV)/.core-started
	$(INSTALL) -e .
	$(keep_headless_cv2)
	$(PY) -W ignore -c "import avjepa, cv2, mmengine, nuscenes, spconv.pytorch, torch, transformers"
	@echo $$(( $$(date +%s) - $$(cat $(VENV)/.core-started) )) > $@  # seconds; the demo's report shows them

# mmcv has no wheel for a recent torch, and mmdet3d needs its operators, so it is compiled, for the CPU.
$(FULL): $(CORE)
	@echo "Installing the test tools and mmdet3d; compiling mmcv takes 10 to 20 minutes the first time"
	$(INSTALL) "setuptools<81" wheel ninja
	MAX_JOBS=$(MAX_JOBS) MMCV_WITH_OPS=1 FORCE_CUDA=0 $(INSTALL) --no-build-isolation --no-deps mmcv==2.1.0
	$(INSTALL) --no-deps mmdet==3.3.0 mmdet3d==1.4.0 lyft-dataset-sdk==0.0.8
	$(INSTALL) -e ".[dev,mmdet3d,dynamic,fleet,viz]"
	$(keep_headless_cv2)
	$(PY) -W ignore -c "import mmcv.ops, mmdet3d.models, mmdet3d.datasets" || \
	{ echo "If mmcv fails to load, its cached wheel was built for another torch: $(PIP) cache remove mmcv; make clean"; exit 1; }
	touch $@
