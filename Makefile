# Everything needs Python 3.11 or newer and make, nothing else. `make run` and `make test` install what they need.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
PYTHON := $(VENV)/bin/python
RUNTIME := $(VENV)/.installed-run
DEVELOPMENT := $(VENV)/.installed-dev
OTEL := $(VENV)/.installed-otel
LLM := $(VENV)/.installed-llm
PIP := $(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes
CODE := apps gateway_site tests manage.py

.PHONY: help install run worker otel test llm browser node acceptance check fmt lint coverage smoke bench lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(RUNTIME)  ## install what serving needs into .venv

run: $(RUNTIME)  ## install, set up on the first start, serve (GATEWAY_PORT, 8000)
	@exec $(PYTHON) manage.py serve --bootstrap

worker: $(RUNTIME)  ## do the scheduled work beside `make run`: nightly audit, alerts, purge
	@exec $(PYTHON) manage.py worker

otel: $(OTEL)  ## install what the export of traces and metrics by OTLP needs (docs/telemetry.md)

test: $(DEVELOPMENT)  ## install what tests need, run the whole suite (ARGS="-k name")
	@$(PYTHON) -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

llm: $(LLM)  ## install llama.cpp's server, a real LLM server that `make test` then tests with too
	@$(PYTHON) -c 'import gguf, xllamacpp' && echo "llama.cpp's server is installed."

browser: $(DEVELOPMENT)  ## see to a browser for the tests of the console: as root on Debian, install chromium
	@$(PYTHON) tests/browser/chromium.py && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    echo "Installing chromium ..."; export DEBIAN_FRONTEND=noninteractive; \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null && \
	    $(PYTHON) tests/browser/chromium.py; \
	else \
	    echo "No browser to test with. Install chromium (Debian: apt install chromium), or name yours: GATEWAY_TEST_CHROMIUM=/path/to/it make test" >&2; \
	    exit 1; \
	fi

node: $(DEVELOPMENT)  ## install the Node packages that are tested with; as root on Debian, Node too
	@if ! command -v npm >/dev/null 2>&1; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	        echo "Installing Node ..."; export DEBIAN_FRONTEND=noninteractive; \
	        apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null || exit 1; \
	    else \
	        echo "No Node to test with. Install Node 20 or newer, with npm." >&2; exit 1; \
	    fi; \
	fi; \
	$(PYTHON) tests/node/packages.py

acceptance: $(DEVELOPMENT)  ## every feature of the Agents SDK, a module each (docs/compatibility.md)
	@$(PYTHON) -m pytest tests/acceptance $(ARGS)

check: $(DEVELOPMENT) lint  ## what CI runs before the tests
	$(PYTHON) -m ruff format --check $(CODE)
	$(VENV)/bin/mypy
	$(PYTHON) manage.py check --fail-level WARNING
	$(PYTHON) manage.py makemigrations --check --dry-run

lint: $(DEVELOPMENT)  ## ruff, and the stack's import directions
	$(PYTHON) -m ruff check $(CODE)
	$(VENV)/bin/lint-imports

fmt: $(DEVELOPMENT)  ## format, and mend what ruff can mend
	$(PYTHON) -m ruff check --fix $(CODE)
	$(PYTHON) -m ruff format $(CODE)

coverage: $(DEVELOPMENT)  ## the suite, with the lines that it misses
	$(PYTHON) -m pytest --cov --cov-report=term-missing:skip-covered $(ARGS)

smoke: $(DEVELOPMENT)  ## a fresh installation, tried end to end in half a minute
	$(PYTHON) -m tests.smoke

bench: $(DEVELOPMENT)  ## CPU and latency of the gateway, as ratios
	$(PYTHON) -m tests.bench

# With the extras of each package: older pips, finding an extra that the lock does not pin, take the newest release and
# then refuse it for lack of a hash.
lock:  ## write the lock files anew from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-strip-extras --no-header --python-version 3.11 \
	    pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-strip-extras --no-header --python-version 3.11 \
	    -c requirements.lock --group dev --extra otel pyproject.toml -o requirements-dev.lock
	uv pip compile --quiet --universal --generate-hashes --no-strip-extras --no-header --python-version 3.11 \
	    -c requirements.lock -c requirements-dev.lock --extra otel pyproject.toml -o requirements-otel.lock
	uv pip compile --quiet --universal --generate-hashes --no-strip-extras --no-header --python-version 3.11 \
	    -c requirements.lock -c requirements-dev.lock --group llm -o requirements-llm.lock

clean:  ## remove .venv and caches; the data folder stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp holds the lock's content: pip runs only when that differs, not when a checkout gave the file a new date.
$(RUNTIME): requirements.lock | $(PYTHON)
	@cmp -s requirements.lock $@ || { echo "Installing into $(VENV) ..."; $(PIP) -r requirements.lock; }
	@cp requirements.lock $@

$(DEVELOPMENT): requirements-dev.lock | $(PYTHON)
	@cmp -s requirements-dev.lock $@ || { echo "Installing into $(VENV) ..."; $(PIP) -r requirements-dev.lock; }
	@cp requirements-dev.lock $@

# All of requirements.lock is in it: both of them at the same versions.
$(OTEL): requirements-otel.lock $(RUNTIME)
	@cmp -s requirements-otel.lock $@ || { echo "Installing into $(VENV) ..."; $(PIP) -r requirements-otel.lock; }
	@cp requirements-otel.lock $@

# Built wheels alone: from source, llama.cpp takes a C++ compiler and a quarter of an hour.
$(LLM): requirements-llm.lock $(DEVELOPMENT)
	@cmp -s requirements-llm.lock $@ || { echo "Installing into $(VENV) ..."; \
	    $(PIP) --only-binary :all: -r requirements-llm.lock; }
	@cp requirements-llm.lock $@

$(PYTHON):
	@rm -rf $(VENV); \
	for name in $(PYTHON3) python3 python3.14 python3.13 python3.12 python3.11; do \
	    if command -v $$name >/dev/null 2>&1 && \
	       $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        $$name -m venv $(VENV) || { rm -rf $(VENV); \
	            echo "$$name cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	        exit 0; \
	    fi; \
	done; \
	echo "Agent Gateway needs Python 3.11 or newer, and finds none. Install one, or name it: make PYTHON3=/path/to/python3 $(MAKECMDGOALS)" >&2; \
	exit 1
