# install · init · run · test · test-team · test-lake · test-deploy · drill · test-all · check · check-real · bench · image
PYTHON ?= python3
PORT ?= 3000
API_PORT ?=
BIN := .venv/bin
, := ,
STAMP := .venv/.installed
# what tests, checks and benchmarks need besides
TESTED := .venv/.tested
# pip compiles every module on one core, also the tests of packages; all cores compile what may be imported
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile
COMPILE = $(BIN)/python -W ignore -m compileall -qq -j 0 -x '/site-packages/.*/tests/' \
	$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') || true  # some are templates, or for Python 2
.DEFAULT_GOAL := run
# compiled modules stay: every worker and every process of a test would compile them anew
export PYTHONDONTWRITEBYTECODE :=
.PHONY: install init run test test-team test-lake test-deploy drill test-all check check-real bench image clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "stock_assets: $(PYTHON) is missing; install Python 3.11 or newer, or name it: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "stock_assets: $(PYTHON) is $$($(PYTHON) -V 2>&1); Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "stock_assets: $(PYTHON) cannot make environments; install its venv package (Debian: apt-get install python3-venv)" >&2; exit 2; }
	@$(PYTHON) -c 'import shutil, sys; sys.exit(shutil.disk_usage(".").free < 4e9)' || { echo "stock_assets: the disk is full: the environment needs 4 GB here" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(PIP) -c constraints.txt -e .
	@$(COMPILE)
	@touch $(STAMP)

$(TESTED): $(STAMP)
	$(PIP) -c constraints.txt -e '.[dev]'
	@$(COMPILE)
	@touch $(TESTED)

# four questions, whose answers every command reads from then on
init: install
	@$(BIN)/stock-assets init

run: install
	@PORT=$(PORT) $(if $(API_PORT),STOCK_ASSETS_API_PORT=$(API_PORT)) exec $(BIN)/stock-assets run

DRILLS := system/test_drill.py system/test_kills.py system/test_crash.py lifecycle/test_deciding.py model/test_skill.py model/test_tuning.py \
	serving/test_swaps.py serving/test_schema.py serving/test_connections.py publication/test_republish.py trading/broker/test_kill_drill.py trading/test_account.py trading/test_reconcile.py
DRILLS := $(addprefix stock_assets_tests/,$(DRILLS))

PYTEST := $(BIN)/pytest --dist loadgroup --no-loadscope-reorder

test: $(TESTED)
	$(PYTEST) -n 3 -m "not drill and not team and not deploy"

# the profile of a team: needs PostgreSQL
test-team: $(TESTED)
	$(PYTEST) -n 2 -m team stock_assets_tests/team stock_assets_tests/deploy

# the store as a lake: DuckDB's extensions are packages for an older DuckDB than ours, which lies in an environment over
# .venv, with a home of its own for what it installs
LAKE := .venv-lake
test-lake: $(LAKE)/.installed
	REQUIRE_LAKE=1 HOME=$(CURDIR)/$(LAKE) $(LAKE)/bin/python -m pytest -n 2 stock_assets_tests/team/test_lake.py

$(LAKE)/.installed: $(TESTED)
	$(PYTHON) -m venv $(LAKE)
	$(LAKE)/bin/pip install --quiet --disable-pip-version-check --no-deps duckdb==1.5.5 duckdb-extensions==1.5.5 \
		duckdb-extension-ducklake==1.5.5 duckdb-extension-postgres-scanner==1.5.5 duckdb-extension-httpfs==1.5.5
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		$$($(LAKE)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/parent.pth
	HOME=$(CURDIR)/$(LAKE) $(LAKE)/bin/python -c 'from duckdb_extensions import import_extension as install; \
		[install(name) for name in ("ducklake", "postgres_scanner", "httpfs")]'
	@touch $@

# the image of deploy/, by docker or what ENGINE names; its index of wheels, or any other of pip's settings, is PIP_CONF
ENGINE ?= docker
VARIANT ?= cpu
PIP_CONF ?=
IMAGE ?= localhost/stock_assets:$(VARIANT)
image:
	$(ENGINE) build $(ENGINE_OPTIONS) --file deploy/image/Dockerfile --tag $(IMAGE) --build-arg VARIANT=$(VARIANT) \
		$(if $(PIP_CONF),--secret id=pip.conf$(,)src=$(PIP_CONF)) .

# what takes minutes: every command of the image that `make image ENGINE=buildah` made, and Terraform against moto
test-deploy: $(TESTED)
	TESTED_IMAGE=$(IMAGE) $(PYTEST) -m deploy stock_assets_tests/deploy

# what takes long: a year of evenings, every kill of one, many decisions at once, trials of killed workers, walk-forward;
# and much of what a test run tries a little. After a month the year is played every fourteenth evening, which makes
# fourteen sessions at once; `make drill EVERY=1` plays each of them, for fifteen minutes more
EVERY ?= 14
drill: $(TESTED)
	DRILL_SESSIONS=252 DRILL_EVERY=$(EVERY) $(PYTEST) -n 2 -m "drill or tries" $(DRILLS)

# both in one call, as CI does: what tries little in the first and much in the second is run once, and no core waits for
# the last test of the one before the other begins
test-all: $(TESTED)
	DRILL_SESSIONS=252 DRILL_EVERY=$(EVERY) $(PYTEST) -n 4 -m "not deploy"

check: $(TESTED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	@mkdir -p .venv/dagster_home
	VIRTUAL_ENV=$(CURDIR)/.venv DAGSTER_HOME=$(CURDIR)/.venv/dagster_home $(BIN)/dg check defs

check-real: $(TESTED)
	$(BIN)/pytest -n 2 --dist loadgroup -m real_data

bench: $(TESTED)
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .venv-lake data build *.egg-info
