# make app    start the dashboard            make test   run every test
# make lint   style, types, layers, spelling make bench  speed beside the usual loop
# Each target makes .venv and installs what it needs; what is there already is left alone.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
APP := .venv/.app-installed
DEV := .venv/.dev-installed

# Where the Python of .venv has gone, all that was installed for it is to be installed anew. Said before make looks at
# the marks, as it does not look at them a second time.
$(shell test -x $(BIN)/python || rm -f $(APP) $(DEV))

.PHONY: app test lint bench docs format coverage lock sbom clean
.DEFAULT_GOAL := app

app: $(APP)
	$(BIN)/reality-check app $(ARGS)

test: $(DEV)
	$(BIN)/python -m pytest $(ARGS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/typos

bench: $(APP)
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(DEV)
	$(BIN)/python docs/generate.py

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(DEV)
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage report

lock: $(APP)
	$(BIN)/python deploy/supply.py lock

sbom: $(APP)
	$(BIN)/python deploy/supply.py sbom

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage htmlcov build dist

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Reality Check needs Python 3.11 or newer, and none was found as python3 or python3.x." \
		"Install it, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Reality Check needs Python 3.11" \
		"or newer; $(PYTHON) is $$("$(PYTHON)" --version 2>&1 || echo missing)." >&2; exit 1; }
	"$(PYTHON)" -m venv --clear .venv || { echo "The environment could not be made. On Debian and Ubuntu install" \
		"python3-venv." >&2; rm -rf .venv; exit 1; }

$(APP): requirements.txt constraints.txt pyproject.toml | .venv/bin/python
	@echo "Installing the application into .venv (the first time this takes some minutes)"
	$(PIP) --requirement requirements.txt
	@touch $@

$(DEV): requirements-dev.txt $(APP)
	@echo "Installing tests and checks into .venv"
	$(PIP) --requirement requirements-dev.txt
	@touch $@
