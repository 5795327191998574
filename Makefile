# Two commands matter: `make run` and `make test`. Each makes what it needs and neither needs the other.

PYTHON ?= python3
PORT := 8080
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find reactor workers shared supervisor bench src -name '*.py' -o -name '*.pxd' -o -name page.html -o -path 'bench/peers/*' ! -name '*.pyc') setup.py setup.cfg pyproject.toml

# Tests run in as many processes as there are cores, each file in one of them.
JOBS := $(shell nproc)
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadfile
BYTE_LEVEL := tests --ignore=tests/process --ignore=tests/chaos

# What .pre-commit-config.yaml has too. cython-lint calls pycodestyle, which it looks for on the path.
define LINT
$(BIN)/ruff check .
$(BIN)/ruff format --check .
$(BIN)/codespell
PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cython-lint reactor workers shared bench
endef

.PHONY: run test check lint types test-compiled test-bytes test-pure test-pythons coverage profile peers bench bench-micro conformance fuzz chaos soak clean

run: $(VENV)/installed
	@echo
	@echo "  Talk to it from another terminal:   npx wscat -c ws://127.0.0.1:$(PORT)"
	@echo "  or:   $(BIN)/python examples/client.py 127.0.0.1:$(PORT)"
	@echo "  Ctrl+C stops it. Where the port is taken:   make run PORT=9000"
	@echo
	$(BIN)/zwoole run examples/echo.py --port $(PORT)

test: lint types test-compiled test-pure

# While you work, in less than a minute: on the sources as they are, so that nothing is built again for it.
check:
	test -e $(VENV)/tested || $(MAKE) $(VENV)/tested
	$(LINT)
	$(BIN)/mypy
	ZWOOLE_EXPECT_BUILD=pure PYTHONPATH=$(CURDIR)/src $(PYTEST) -q $(BYTE_LEVEL)

lint: $(VENV)/tested
	$(LINT)

types: $(VENV)/tested
	$(BIN)/mypy

# The whole suite, on the compiled build; the chaos runs, which are load enough, by themselves.
test-compiled: $(VENV)/tested
	ZWOOLE_EXPECT_BUILD=compiled $(PYTEST) tests --ignore=tests/chaos
	ZWOOLE_EXPECT_BUILD=compiled $(BIN)/python -m pytest tests/chaos

# Its part that starts no server.
test-bytes: $(VENV)/tested
	ZWOOLE_EXPECT_BUILD=compiled $(PYTEST) $(BYTE_LEVEL)

# The byte-level suite, on the same sources uncompiled: src is put before the installed package.
test-pure: $(VENV)/tested
	ZWOOLE_EXPECT_BUILD=pure PYTHONPATH=$(CURDIR)/src $(PYTEST) $(BYTE_LEVEL)

# The suite on every other Python that is installed, compiled for each; PART=test-bytes for the byte-level suite only.
PART := test-compiled

test-pythons:
	tests/pythons.sh $(PYTHON) $(PART)

# Which lines and branches the tests reach: of the sources uncompiled, in the tests' own processes and in those of the
# servers that they start. COVERED='$(BYTE_LEVEL)' leaves the servers out and takes a few minutes.
COVERED := tests --ignore=tests/chaos
# These fail on the uncompiled build, in a traced process, which zwoole takes for one that is being debugged, in one that
# is so slow, or if coverage.py cannot write its own file.
NOT_TRACED := test_stop.py::test_stops_gracefully test_hung.py \
	test_log_process.py::test_stacks_that_nobody_reads_hold_up_no_end \
	test_memory.py::test_clients_flood_a_worker_that_is_stopped \
	test_memory.py::test_a_client_never_reads_what_it_is_pushed[10] \
	test_memory.py::test_clients_flood_behind_callbacks_that_wait[0] \
	test_full_disk.py::test_a_limit_of_file_sizes_is_one_line_at_the_start

coverage: $(VENV)/tested
	rm -rf build/coverage
	mkdir -p build/coverage
	failed=0; \
	ZWOOLE_EXPECT_BUILD=pure PYTHONPATH=$(CURDIR)/src $(BIN)/coverage run -m pytest -n $(JOBS) --dist loadfile \
		$(NOT_TRACED:%='--deselect=tests/process/%') $(COVERED) || failed=$$?; \
	$(BIN)/coverage combine --quiet; \
	rm -f build/coverage/data.*; \
	$(BIN)/coverage html --quiet; \
	$(BIN)/coverage json --quiet; \
	$(BIN)/coverage report; \
	$(BIN)/python tests/coverage_by_folder.py build/coverage/coverage.json; \
	echo "line by line: build/coverage/html/index.html"; \
	exit $$failed

# The peers of the comparison that are Python or npm packages. `make bench` runs without them too, and names what it skips.
peers: $(VENV)/tested
	REQUIRE_CYTHON=1 $(BIN)/pip install --quiet --disable-pip-version-check '.[peers]'
	npm install --silent --prefix $(HOME)/.cache/zwoole-bench ws bun deno

# Some twenty minutes; nothing else should run meanwhile. It writes the results that README shows, and ends with the goals.
BENCH_OPTIONS := --results bench/results

bench: $(VENV)/tested
	$(BIN)/python -m zwoole.bench.compare $(BENCH_OPTIONS)

# The hot parts by themselves, with canned bytes and without sockets.
bench-micro: $(VENV)/tested
	$(BIN)/python -m pytest bench/micro --benchmark-columns=min,median,stddev,ops

# Where a master and a worker spend their time under load, as flame graphs in build/profile.
PROFILE_OPTIONS :=

profile: $(VENV)/profiled
	$(BIN)/python -m zwoole.bench.flame_graphs $(PROFILE_OPTIONS)

$(VENV)/profiled: $(VENV)/tested
	$(BIN)/pip install --quiet --disable-pip-version-check 'py-spy>=0.4'
	touch $@

# Not an editable install: the checkout stays free of compiled modules, and the pure suite sees plain sources.
$(VENV)/installed: $(SOURCES)
	@echo "Building zwoole into $(VENV): a minute or two, in silence."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/pip install --quiet --disable-pip-version-check .
	touch $@

$(VENV)/tested: $(SOURCES)
	@echo "Building zwoole, and what tests it, into $(VENV): a minute or two, in silence."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	REQUIRE_CYTHON=1 $(BIN)/pip install --quiet --disable-pip-version-check '.[test]'
	touch $@ $(VENV)/installed

# Autobahn|Testsuite's verdict on an echo server; tests/conformance/install_wstest.sh installs the suite.
conformance: $(VENV)/tested
	$(BIN)/python -m tests.conformance

# Arbitrary bytes for what reads bytes from outside, on the sources uncompiled: the lines reached steer the fuzzer.
fuzz: $(VENV)/fuzzed
	PYTHONPATH=src $(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60)

$(VENV)/fuzzed: $(VENV)/tested
	$(BIN)/pip install --quiet --disable-pip-version-check 'atheris>=2.3'
	touch $@

# Real clients under load while workers and masters are killed, reloaded and replaced: exact counts.
chaos: $(VENV)/tested
	$(BIN)/python -m tests.chaos

soak: $(VENV)/tested
	$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),600)

clean:
	rm -rf $(VENV) .venvs build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find reactor workers shared supervisor bench/loadtest \( -name '*.c' -o -name '*.so' -o -name '*.html' ! -name page.html \) -delete
