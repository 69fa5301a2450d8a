# What one does here, one target each; `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup demo test quick test-live test-kernels check check-kernels docs format bench generate build test-pages packages test-packages clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.done ## install Debian packages (as root) and the virtual environment

.venv/.done: pyproject.toml tools/debian-packages.txt tools/setup.sh
	PYTHON=$(PYTHON) tools/setup.sh
	@touch $@

demo: setup ## show the main job on a few real guests
	kvmscope demo

test: setup ## every test that this machine can run, on all CPUs; tests/support/sharing.py says which side by side
	pytest --numprocesses auto --maxprocesses 8 --dist loadscope --no-loadscope-reorder

quick: setup ## the tests without the slow ones
	pytest -m "not slow"

test-live: setup ## the tests on this host's KVM alone
	pytest tests/live

test-kernels: setup ## tests inside emulated stock kernels; KVMSCOPE_KERNELS=6.1,6.12 chooses
	KVMSCOPE_KERNELS=$${KVMSCOPE_KERNELS:-all} pytest tests/kernels

check: setup ## format, lint, types, layers, prose
	ruff format --check .
	ruff check .
	mypy
	lint-imports
	pytest -q tests/test_wording.py tests/catalog/test_wording.py

check-kernels: setup ## hold the catalogue of stats to Debian's kernel sources (300 MB, once)
	python tools/kernel_stats.py check $$(python tools/kernel_stats.py fetch 6.1 6.12)

docs: setup ## the documentation as a site, in build/site; stops at a dead link
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

format: setup ## rewrite the code in the project's format
	ruff format .
	ruff check --fix .

bench: setup ## measure, as ratios in one run; writes bench/RESULTS.md
	python bench/run.py

generate: setup ## rewrite what is made from the catalogue and the code: reference, schemas, Prometheus rules, dashboards
	python tools/reference.py
	python tools/schemas.py
	python tools/prometheus_rules.py
	python tools/dashboards.py

build: setup ## rebuild the BPF object and the lab's guests from their sources
	tools/build-bpf.sh
	tools/build-guests.sh

test-pages: setup ## run every command of the how-to pages on small guests; as root, some minutes
	KVMSCOPE_PAGES=1 pytest tests/live/test_howtos.py tests/live/test_tutorial.py

packages: setup ## wheel, source distribution, .deb, .rpm and SHA256SUMS, in dist
	python tools/packages.py

test-packages: packages ## install them in clean Debian 12 and 13, and run what README says there; as root, an hour
	KVMSCOPE_PACKAGES=dist pytest tests/packages

clean: ## remove what the targets above made
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
