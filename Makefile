# Everything runs in $(VENV), which `make install` fills.
PYTHON ?= python3
PARENTS ?= onedl
VENV ?= .venv
TEST_JOBS ?= 2
export PYTHON PARENTS VENV
# Waiting threads sleep: spinning ones are slow on cores that are busy.
export OMP_WAIT_POLICY ?= PASSIVE

BIN := $(VENV)/bin
REQUIREMENTS := requirements.txt $(wildcard requirements/*.txt)
# Made anew when a file changes that says what belongs in $(VENV).
STAMP := $(VENV)/.installed-$(PARENTS)

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-install test-gpu lint format docs \
	notebook clean distclean

help:
	@echo 'make install     $(VENV) with mmfgl, its parents and tools'
	@echo '                 (about 20 min on 2 cores the first time)'
	@echo 'make quickstart  install, then pretrain, fine-tune, test, report'
	@echo '                 in work_dirs/quickstart (15 min more)'
	@echo 'make test        install, then the test suite'
	@echo 'make test-install  install, then build sdist and wheel and try'
	@echo '                 the wheel in an empty environment'
	@echo 'make test-gpu    install, then the tests that need a GPU'
	@echo 'make lint        install, then style, spelling, docstring coverage'
	@echo 'make format      install, then rewrite the code in house style'
	@echo 'make docs        install, then docs/_build/{en,zh_cn}/index.html'
	@echo 'make notebook    install, then run docs/en/demo.ipynb (3 min)'
	@echo 'make clean       remove caches and build products'
	@echo 'make distclean   clean, and remove $(VENV)'
	@echo
	@echo 'Variables: PYTHON=python3.11  VENV=.venv'
	@echo '           PARENTS=onedl|openmmlab  (the parents to install)'
	@echo '           TORCH_INDEX=URL          (another build of torch)'
	@echo '           MAX_JOBS=2               (compiler processes)'
	@echo '           TEST_JOBS=2              (processes of make test)'

install: $(STAMP)

$(STAMP): $(REQUIREMENTS) pyproject.toml tools/install.sh \
		tools/check_install.py
	@bash tools/install.sh
	@touch $@

quickstart: $(STAMP)
	$(BIN)/python tools/quickstart.py --out work_dirs/quickstart

# In two processes of a thread each; a file's tests stay together.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(TEST_JOBS) \
	    --dist loadfile tests

test-install: $(STAMP)
	$(BIN)/python .ci/test_install.py

test-gpu: $(STAMP)
	$(BIN)/python -m pytest -q -m gpu tests/test_gpu

# The same commands as in .pre-commit-config.yaml.
lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/interrogate mmfgl tools

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# It is run as it is, and nothing of what it shows is stored.
notebook: $(STAMP)
	$(BIN)/jupyter-execute docs/en/demo.ipynb

# Warnings are errors: a dead link or a broken docstring stops the build.
docs: $(STAMP)
	for language in en zh_cn; do \
	    $(BIN)/python -m sphinx -W --keep-going -q -c docs \
	        -D language=$$language docs/$$language \
	        docs/_build/$$language || exit 1; \
	done

clean:
	rm -rf docs/_build build dist *.egg-info .pytest_cache .ruff_cache
	find mmfgl tools tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
