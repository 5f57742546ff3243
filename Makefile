# make run    serve in one command: venv, install, migrate, serve
# make demo   the same on a database of its own, with a sample campaign
# make test   all tests, on SQLite and, where there is one, on PostgreSQL
# make check  lint, types, import rules, migrations
# make bench  ours and what stands beside it, as a table of ratios; ONLY=pixel runs a part

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
INSTALLED_DEV = $(VENV)/.installed-dev
INSTALLED_BENCH = $(VENV)/.installed-bench

#: Where tests of PostgreSQL go, if it answers.
TEST_DATABASE_URL ?= postgresql://postgres@127.0.0.1:5432/tracking

.PHONY: run demo test check bench clean

run: $(INSTALLED)
	@$(BIN)/python -m tracking.server

demo: $(INSTALLED)
	@TRACKING_DB_PATH=demo/tracking.db $(BIN)/python -m tracking.demo
	@TRACKING_DB_PATH=demo/tracking.db $(BIN)/python -m tracking.server

test: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -n auto --dist loadgroup
	@if $(BIN)/python -m tests.postgresql "$(TEST_DATABASE_URL)"; then \
		TRACKING_TEST_DATABASE_URL="$(TEST_DATABASE_URL)" $(BIN)/python -m pytest -n auto --dist loadgroup -m "not browser"; \
	fi

check: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/djlint --check --quiet templates
	TRACKING_DB_PATH=$(VENV)/check.db $(BIN)/python manage.py makemigrations --check --dry-run
	TRACKING_DB_PATH=$(VENV)/check.db $(BIN)/python manage.py check

bench: $(INSTALLED_BENCH)
	@$(BIN)/python -m benchmarks $(ONLY)

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml requirements.txt | $(VENV)
	@echo "Installing into $(VENV), this once."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -e .
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,postgres,redis]'
	@touch $@

$(INSTALLED_BENCH): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[postgres,bench]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
