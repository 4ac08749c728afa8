# Alpha Forge. `make demo` and `make test` need only python3 >= 3.11 and make.
VENV   := .venv
ENGINES := .engines
DYNALITE = $(CURDIR)/$(ENGINES)/node_modules/dynalite/cli.js
PYTHON := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
PEERS  := benchmarks/.peers
DEMO   := examples/08_signal_generation/minimal_signal_generation.yaml

.PHONY: setup engines demo test lint bench bench-peers soak clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python3 must be 3.11 or newer, this is " + sys.version.split()[0])'
	@echo "Setting up $(VENV): this takes a minute the first time"
	@test -x $(PYTHON) || python3 -m venv $(VENV)
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' 2>.venv/pip.log \
		|| { cat .venv/pip.log; exit 1; }
	@touch $@

# Trains a small model on the sandbox's market, then streams 36 hourly bars through it into a CSV file.
demo: setup
	@echo "== 1. Train the example's model on a year of the local exchange's bars"
	@$(VENV)/bin/alpha_forge train $(DEMO) --sandbox
	@echo "== 2. Run it on the local exchange, an hour every half second, for 36 bars of each symbol"
	@$(VENV)/bin/alpha_forge signal $(DEMO) --sandbox --speed 7200 --bars 36
	@echo "== 3. outputs/predictions/minimal_predictions.csv"
	@head -n 5 outputs/predictions/minimal_predictions.csv

# What the tests of sinks talk to: a real ClickHouse out of a wheel, and dynalite, which speaks DynamoDB.
engines: $(ENGINES)/.installed

$(ENGINES)/.installed: $(STAMP) tests/engines/package.json tests/engines/package-lock.json
	@command -v npm >/dev/null || { echo "make test needs Node.js with npm for its DynamoDB engine" >&2; exit 1; }
	@mkdir -p $(ENGINES) && cp tests/engines/package.json tests/engines/package-lock.json $(ENGINES)
	@cd $(ENGINES) && npm ci --silent --no-audit --no-fund --no-update-notifier
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[engines]'
	@touch $@

test: setup engines
	AF_DYNALITE=$(DYNALITE) $(PYTHON) -m pytest -n 2 --dist loadfile

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: setup engines
	AF_DYNALITE=$(DYNALITE) $(PYTHON) -m benchmarks

# The libraries that the benchmarks compare with live in an environment of their own.
bench-peers: setup
	@test -x $(PEERS)/bin/python || python3 -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt

soak: setup engines
	AF_DYNALITE=$(DYNALITE) $(PYTHON) -m pytest -m soak tests/soak

clean:
	rm -rf $(VENV) $(ENGINES) $(PEERS) outputs tmp .alpha_forge .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
