# Every target sets up what it needs first (scripts/setup.sh), and does nothing where that is done.
# PYTHON=/path/to/python chooses the interpreter; without it the first of 3.11 or later is taken.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: install uninstall demo test test-full test-pure test-modes check conformance bench bench-podman clean help

BIN := .venv/bin
IMAGE ?=
BENCH ?=
CONFORMANCE ?=
PYTEST ?=
export PYTHON

# Where `make install` puts the program, a stage before that (for packages), and where mount(8) looks
# for helpers: in /sbin, which is /usr/sbin today. SBINDIR= leaves the helper out.
PREFIX ?= /usr/local
DESTDIR ?=
SBINDIR ?= /usr/sbin
PLACES := --prefix '$(PREFIX)' --destdir '$(DESTDIR)' --sbindir '$(SBINDIR)'

# As root the tests run in a mount namespace of their own: what a failing test leaves mounted dies
# with it, and no other namespace keeps copies of the mounts that would hold daemons alive.
# The mark in the environment is how tests/conftest.py finds daemons that the tests left behind.
# They run in one process more than there are processors, four at most, each with mounts and a mark
# of its own (tests/support/workers.py); PYTEST=-n0 runs them in one, for a debugger, say.
OWN_MOUNTS := $(if $(filter 0,$(shell id -u)),unshare --mount --propagation private)
RUN_TESTS := $(OWN_MOUNTS) env UNIONFS_TEST_SESSION=$$$$ $(BIN)/python -m pytest \
	-n auto --maxprocesses 4 $(PYTEST)

install: ## Install the command, mount helper, manual page, completions (PREFIX, DESTDIR, SBINDIR)
	@scripts/setup.sh build
	@$(BIN)/python -m scripts.install install $(PLACES)

uninstall: ## Remove what install put there (with the same PREFIX, DESTDIR, SBINDIR)
	@scripts/setup.sh build
	@$(BIN)/python -m scripts.install uninstall $(PLACES)

demo: ## Mount a real image and work in it, with a running commentary (IMAGE=oci:DIR for yours)
	@scripts/setup.sh demo
	@$(BIN)/python -m scripts.demo $(if $(IMAGE),--image '$(IMAGE)')

test: ## Run the whole test suite, real mounts included (PYTEST='-k name' to choose)
	@scripts/setup.sh test
	$(RUN_TESTS)

test-full: ## As test, at full size, which takes hours
	@scripts/setup.sh test
	HYPOTHESIS_PROFILE=full $(RUN_TESTS) --timeout=3600

test-pure: ## As test, without the C extension
	@scripts/setup.sh test
	UNIONFS_PURE=1 $(RUN_TESTS) -m 'not needs_extension' tests/mount tests/property tests/cli tests/ordinary tests/unit/fuse

test-modes: ## As test, mounts only, with lend=off and then with spin=off (twenty minutes)
	@scripts/setup.sh test
	for mode in lend=off spin=off; do UNIONFS_TEST_OPTIONS=$$mode \
		$(RUN_TESTS) -m 'not default_mode' tests/mount tests/property || exit 1; done

check: ## Lint, formatting and types
	@scripts/setup.sh build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict

conformance: ## Run pjdfstest, a suite that cargo fetches, on unionfs and others (CONFORMANCE='--help')
	@scripts/setup.sh conformance
	@$(OWN_MOUNTS) $(BIN)/python -m scripts.conformance $(CONFORMANCE)

bench: ## Time unionfs beside the kernel's overlayfs and fuse-overlayfs (BENCH='--help' for options)
	@scripts/setup.sh bench
	@$(OWN_MOUNTS) $(BIN)/python -m scripts.bench $(BENCH)

bench-podman: ## Time Podman with each of them as its mount program (BENCH='--help' for options)
	@scripts/setup.sh bench-podman
	@$(OWN_MOUNTS) $(BIN)/python -m scripts.bench.podman $(BENCH)

clean: ## Remove what was built here: the environment, caches, the demo's image
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find unionfs scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
