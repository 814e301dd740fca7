# Chatscope's commands, the same ones here, in CI and in the README.
.DEFAULT_GOAL := help
.PHONY: help build up down status logs chat demo doctor ledger drill dashboards rules prices audit sbom docs check test lint mutation fuzz bench bench-cpu bench-start bench-capacity bench-soak bench-load clean

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
# Expired waits once more; the run lists them, with the first tracebacks.
RETRIES = --reruns 1 --rerun-show-tracebacks

help:
	@sed -n -e 's/^##@ //p' -e 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

##@ Use
up: ## Start everything, setting up what is missing; show a chat
	$(BOOTSTRAP) parts
	@$(PY) -m stack up

down: ## Stop everything; stored data stays
	$(BOOTSTRAP)
	@$(PY) -m stack down

status: ## State, address, memory and uptime of components; alerts
	$(BOOTSTRAP)
	@$(PY) -m stack status

logs: ## Newest log lines; PART=app for one, FOLLOW=1 to follow
	$(BOOTSTRAP)
	@$(PY) -m stack logs $(PART) $(if $(FOLLOW),--follow)

chat: ## Chat in the terminal; TEXT="…" asks once
	$(BOOTSTRAP)
	@$(PY) -m stack chat $(if $(TEXT),-- "$$TEXT")

demo: ## 15 minutes of simulated users, to fill the dashboards
	$(BOOTSTRAP)
	@$(PY) -m stack demo

clean: ## Stop; remove stored data, logs and the Python environment
	@[ ! -x $(PY) ] || $(PY) -m stack down
	rm -rf .chatscope .venv .mypy_cache .pytest_cache .ruff_cache

##@ Prove
doctor: ## Check the delivery of telemetry; name faults and fixes
	$(BOOTSTRAP)
	@$(PY) -m chatscope doctor

ledger: ## Send numbered items, and find each of them
	$(BOOTSTRAP)
	@$(PY) -m ledger

drill: build ## Break a stack of its own; check its alerts; CASE=loki
	@$(PY) -m drill $(CASE)

# What needs no stack comes first; what cannot be measured leaves the rest to be measured.
bench: ## Measure everything, and write docs/performance.md
	$(BOOTSTRAP)
	@status=0; for name in cpu paced overhead otlp queues startup sockets blocking; do \
	$(PY) -m bench.$$name || status=1; done; \
	$(MAKE) --no-print-directory bench-start || status=1; \
	for name in backends stored; do $(PY) -m bench.$$name || status=1; done; \
	{ $(MAKE) --no-print-directory up && $(PY) -m bench.latency; } || status=1; \
	for name in performance "capacity --write"; do $(PY) -m bench.$$name || status=1; done; \
	exit $$status

bench-cpu: ## CPU of a response, beside other gateways
	$(BOOTSTRAP)
	@$(PY) -m bench.cpu

bench-start: build ## Measure how soon each component is ready
	@$(PY) -m bench.start

bench-capacity: build ## Measure costs; compute machines and money
	@for name in cpu backends stored; do $(PY) -m bench.$$name || exit 1; done
	@$(PY) -m bench.capacity --write

bench-soak: build ## 10 minutes of load: does anything grow? MINUTES=60
	@$(PY) -m bench.soak $(if $(MINUTES),--minutes $(MINUTES))

bench-load: build ## 1 minute of full load: is anything refused? RATE=4000
	@$(PY) -m bench.load $(if $(RATE),--rate $(RATE))

##@ Develop
check: lint ## Style, types, words and the fast tests, in two minutes
	@$(PYTEST) -n $(CHECK_WORKERS) -m "not slow" tests/unit tests/config

test: ## All tests, on stacks of their own
	$(BOOTSTRAP) parts
	@status=0; $(MAKE) --no-print-directory lint || { status=1; \
	echo "The linters found something (above); the tests run all the same."; }; \
	$(PYTEST) -n $(TEST_WORKERS) --build $(COVERAGE) $(RETRIES) || status=1; exit $$status

SPELLED = *.md .github alerts docs prometheus/rules/*.rules.yaml website/mkdocs.yml
lint: ## Style, types, and the words of texts for users
	$(BOOTSTRAP)
	@status=0; $(PY) -m ruff check || status=1; $(PY) -m ruff format --check || status=1; \
	$(PY) -m mypy || status=1; $(PY) -m prose || status=1; \
	$(PY) -m codespell_lib $(SPELLED) || status=1; exit $$status

mutation: ## Change code, see tests fail; MODULE=app/domain/errors.py
	$(BOOTSTRAP)
	@nice -n 15 $(PY) -m tests.mutation $(MODULE) $(if $(SAMPLE),--sample $(SAMPLE))

fuzz: ## Fuzz the parsers; TARGET=settings, SECONDS=60, INPUTS=9
	$(BOOTSTRAP)
	@nice -n 15 $(PY) -m fuzz $(TARGET) $(if $(SECONDS),--seconds $(SECONDS)) \
	$(if $(INPUTS),--inputs $(INPUTS))

DOCS = .chatscope/docs-environment
docs: ## Build the documentation site into .chatscope/website/site
	$(BOOTSTRAP)
	@[ -x $(DOCS)/bin/python ] || .venv/bin/uv venv -q --python $(PY) $(DOCS)
	@.venv/bin/uv pip sync -q --require-hashes --python $(DOCS) requirements-docs.txt
	@$(PY) -m website

build: ## Build the native components from source
	$(BOOTSTRAP) parts
	@$(PY) -m stack build

dashboards: ## Write the dashboards from dashboards/
	$(BOOTSTRAP)
	@$(PY) -m dashboards

rules: ## Write the alert rules from alerts/
	$(BOOTSTRAP) parts
	@$(PY) -m stack build sloth
	@$(PY) -m alerts
	@$(PY) -m stack.redacting

prices: ## Update the price table
	$(BOOTSTRAP)
	@$(PY) -m chatscope.genai.prices_update

audit: ## Known vulnerabilities of what is pinned; ONLY=tempo
	$(BOOTSTRAP)
	@$(PY) -m audit $(ONLY)

sbom: ## Bills of materials (CycloneDX) into .chatscope/sbom
	$(BOOTSTRAP)
	@$(PY) -m sbom
