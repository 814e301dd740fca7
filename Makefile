# Chatscope's commands, the same ones here, in CI and in the README.
.DEFAULT_GOAL := help
.PHONY: help build up down status logs chat demo ledger drill dashboards rules prices docs check test lint mutation bench bench-start bench-soak bench-load clean

PY := .venv/bin/python
# The first Python that starts makes the environment; a version manager's shim may not.
SYSTEM_PYTHON = $$(for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null && \
	echo $$python && break; done)
BOOTSTRAP = @python="$(SYSTEM_PYTHON)"; if [ -z "$$python" ]; then \
	echo "Python 3.11 or newer is needed, and none was found: install it, on Debian or" \
	"Ubuntu with apt-get install python3 python3-venv"; exit 1; fi; $$python -m stack.bootstrap

# More processes than cores where many tests wait for other processes.
CHECK_WORKERS ?= 3
TEST_WORKERS ?= 4
# Each worker and each process that a test starts would compile all modules again.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(PY) -m pytest --dist loadgroup --max-worker-restart 100
COVERAGE = --cov --cov-report=

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

up: ## Set up what is missing, start everything, show one chat in three stores
	$(BOOTSTRAP) parts
	@$(PY) -m stack up

down: ## Stop what `make up` started
	$(BOOTSTRAP)
	@$(PY) -m stack down

status: ## State, address, memory and uptime of each part
	$(BOOTSTRAP)
	@$(PY) -m stack status

logs: ## The ends of the parts' logs; PART=app for one, FOLLOW=1 to go on
	$(BOOTSTRAP)
	@$(PY) -m stack logs $(PART) $(if $(FOLLOW),--follow)

chat: ## Chat in the terminal; TEXT="…" asks once
	$(BOOTSTRAP)
	@$(PY) -m stack chat $(if $(TEXT),-- "$$TEXT")

demo: ## People who chat with the running service for a quarter of an hour; see docs/demo.md
	$(BOOTSTRAP)
	@$(PY) -m stack demo

ledger: ## Send numbered items through the running stack, find each one; see docs/ledger.md
	$(BOOTSTRAP)
	@$(PY) -m ledger

drill: build ## Break a stack of its own, see who is told; CASE=loki for one; see docs/alerts.md
	@$(PY) -m drill $(CASE)

rules:
	$(BOOTSTRAP) parts
	@$(PY) -m stack build sloth
	@$(PY) -m alerts
	@$(PY) -m stack.redacting

dashboards:
	$(BOOTSTRAP)
	@$(PY) -m dashboards

prices:
	$(BOOTSTRAP)
	@$(PY) -m chatscope.genai.prices_update

DOCS = .chatscope/docs-environment
docs: ## Build the documentation site into .chatscope/website/site
	$(BOOTSTRAP)
	@[ -x $(DOCS)/bin/python ] || .venv/bin/uv venv -q --python $(PY) $(DOCS)
	@.venv/bin/uv pip sync -q --require-hashes --python $(DOCS) requirements-docs.txt
	@$(PY) -m website

build:
	$(BOOTSTRAP) parts
	@$(PY) -m stack build

check: lint ## Style, types, words and the fast tests, in about two minutes
	@$(PYTEST) -n $(CHECK_WORKERS) -m "not slow" tests/unit tests/config

test: ## Set up what is missing and run every layer of tests
	$(BOOTSTRAP) parts
	@status=0; $(MAKE) --no-print-directory lint || { status=1; \
	echo "The linters found something (above); the tests run all the same."; }; \
	$(PYTEST) -n $(TEST_WORKERS) --build $(COVERAGE) || status=1; exit $$status

SPELLED = *.md .github alerts docs prometheus/rules/*.rules.yaml website/mkdocs.yml
lint: ## Style, types, and the words of documentation, alerts and dashboards
	$(BOOTSTRAP)
	@status=0; $(PY) -m ruff check || status=1; $(PY) -m ruff format --check || status=1; \
	$(PY) -m mypy || status=1; $(PY) -m prose || status=1; \
	$(PY) -m codespell_lib $(SPELLED) || status=1; exit $$status

mutation: ## See tests fail for changed code; MODULE=app/domain/errors.py for one
	$(BOOTSTRAP)
	@nice -n 15 $(PY) -m tests.mutation $(MODULE) $(if $(SAMPLE),--sample $(SAMPLE))

bench: bench-start up ## Measure ready-times, then on the running stack the way of each signal
	@$(PY) -m bench.overhead
	@$(PY) -m bench.queues
	@$(PY) -m bench.latency

bench-start: build ## Measure the parts' ready-time, with their own defaults and with ours
	@$(PY) -m bench.start

bench-soak: build ## Ten minutes of load on a stack of its own: what grows? MINUTES=60 for longer
	@$(PY) -m bench.soak $(if $(MINUTES),--minutes $(MINUTES))

bench-load: build ## A minute of full load: is anything refused? RATE=4000 for more
	@$(PY) -m bench.load $(if $(RATE),--rate $(RATE))

clean: ## Stop; remove what the stack stored, the logs and the Python environment
	@[ ! -x $(PY) ] || $(PY) -m stack down
	rm -rf .chatscope .venv .mypy_cache .pytest_cache .ruff_cache
