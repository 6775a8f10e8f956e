# SPDX-License-Identifier: Apache-2.0
# make demo | test | lint | boards | benchmarks | certify.   Each installs what it needs first (scripts/bootstrap).
BIN   := .venv/bin
TORCH ?= $(if $(CI),1)
export TORCH

.PHONY: demo test lint boards benchmarks certify bootstrap clean

bootstrap:
	@scripts/bootstrap

demo: bootstrap
	@$(BIN)/python examples/demo.py

test: bootstrap
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST)

lint: bootstrap
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy boards exporters runtime_c

boards: bootstrap
	@$(BIN)/python benchmarks/boards.py

benchmarks: bootstrap
	@$(BIN)/python examples/demo.py --write
	@$(BIN)/python benchmarks/models.py --write
	@$(BIN)/python benchmarks/boards.py --write

certify: export TORCH = 1
certify: bootstrap
	@$(BIN)/python benchmarks/certify.py --write

clean:
	rm -rf build .venv .pytest_cache .mypy_cache .ruff_cache
