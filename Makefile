PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 8003
DOCS := $(shell find docs -type f -not -path 'docs/_build/*') CHANGELOG.md
SPHINX := $(BIN)/sphinx-build -q -W --keep-going -n -d docs/_build/doctrees
# For chores that only look at the code: settings load, nothing of it is a real secret.
CHECK_ENV := SAAS_READ_LOCAL_ENV=0 DATABASE_URL=sqlite:////tmp/saas-litellm-check.sqlite3 ALLOWED_HOSTS=localhost

.PHONY: help run test check docs docs-links reference lock screenshots bench bench-supply bench-money bench-pages
help:  ## Show the chores
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(VENV)/.run: requirements.txt
	@echo "Installing what the platform runs on (about a minute, once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt
	@echo "Installing what building and testing need (about a minute, once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@ $(VENV)/.run $(VENV)/.docs

$(VENV)/.docs: requirements-docs.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.txt
	@touch $@

# Built beside and then put in its place, so that nobody is served half of it.
docs/_build/html/index.html: $(VENV)/.docs $(DOCS)
	@rm -rf docs/_build/new
	@$(SPHINX) -b html docs docs/_build/new
	@rm -rf docs/_build/html && mv docs/_build/new docs/_build/html

docs: docs/_build/html/index.html  ## The documentation, served at /help/ (strict: a broken link fails)

docs-links: $(VENV)/.docs  ## Ask other hosts whether the documentation's links to them still lead somewhere
	@$(SPHINX) -b linkcheck docs docs/_build/linkcheck

reference: $(VENV)/.dev  ## The generated pages of the documentation, from the code
	@$(CHECK_ENV) SECRET_KEY=reference-only $(BIN)/python -m tests.reference

run: $(VENV)/.run  ## A working platform at http://localhost:8003
	@$(BIN)/python -m saas_litellm.local_env $(HOST) $(PORT)
	@$(BIN)/python manage.py migrate --noinput --verbosity 0
	@PUBLIC_URL=$${PUBLIC_URL:-http://localhost:$(PORT)} $(BIN)/python manage.py quickstart
# /help/ is built meanwhile: what comes of it never holds the platform up.
	@mkdir -p docs/_build && touch docs/_build/building
	@(nice $(MAKE) --no-print-directory docs >var/docs.log 2>&1 </dev/null; rm -f docs/_build/building) &
	@$(BIN)/uvicorn saas_litellm.asgi:application --host $(HOST) --port $(PORT) --lifespan on --no-server-header --no-proxy-headers --ws-max-size 4096 --timeout-graceful-shutdown 30

test: $(VENV)/.dev  ## The suite, embedded and on PostgreSQL + Redis
	@$(BIN)/python -m tests.run

check: $(VENV)/.dev  ## Format, lint, types, imports, migrations, deploy check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	SAAS_READ_LOCAL_ENV=0 $(BIN)/mypy
	$(BIN)/lint-imports
	$(CHECK_ENV) $(BIN)/python manage.py makemigrations --check --dry-run --skip-checks
	$(CHECK_ENV) SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(48))') \
	  API_KEY_PEPPER=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(48))') \
	  ENCRYPTION_KEYS=$$($(BIN)/python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())') \
	  $(BIN)/python manage.py check --deploy --fail-level ERROR

lock: $(VENV)/.dev  ## Compile requirements*.txt from requirements*.in
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 requirements.in -o requirements.txt
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 requirements-docs.in -c requirements.txt -o requirements-docs.txt
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 requirements-warehouse.in -c requirements.txt -o requirements-warehouse.txt
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 requirements-dev.in -o requirements-dev.txt

screenshots: $(VENV)/.dev  ## The documentation's pictures, of a platform that seed_demo filled
	@$(BIN)/python -m tests.screenshots

bench: $(VENV)/.dev  ## This project beside litellm's proxy, Portkey's gateway and bare litellm; money, a second worker, idle streams, start-up (twenty minutes)
	@$(BIN)/python -m benchmarks

bench-supply: $(VENV)/.dev  ## What limits, idempotency, cache and privacy add to a call (PostgreSQL + Redis)
	@$(BIN)/python -m benchmarks supply

bench-money: $(VENV)/.dev  ## Hold + settle pairs/s, and profit at a million calls (PostgreSQL)
	@$(BIN)/python -m benchmarks money
	@$(BIN)/python -m benchmarks.profit

bench-pages: $(VENV)/.dev  ## Every page's time and queries on the seeded database of DATABASE_URL
	@$(BIN)/python -m benchmarks.pages
