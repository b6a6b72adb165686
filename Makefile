# Everything a newcomer needs: `make verify` and `make test`. Both set up .venv on their first run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= build/report

# Small eigenproblems spin when every library brings its own threads; one each is faster (see CONTRIBUTING.md).
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export OMP_NUM_THREADS := 1

.PHONY: verify test lint clean
.DEFAULT_GOAL := verify

verify: $(READY) ## check the mathematics and write the report
	$(BIN)/fisherproof verify --tier fast --out $(OUT)

test: $(READY) ## run the test suite
	$(BIN)/python -m pytest -n 2 --dist worksteal -q

lint: $(READY) ## style, types, import rules, no bare numbers in comparisons
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.lint.bare_numbers tests proofs_checks

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"fisherproof needs Python >= 3.11, but $(PYTHON) is {v[0]}.{v[1]}; try: make PYTHON=python3.12")'
	@echo "Setting up $(VENV) (once; later runs reuse it) ..."
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,lint]'
	@touch $@

clean: ## remove the environment and everything built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
