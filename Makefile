# SPDX-License-Identifier: Apache-2.0
# make demo | test | lint | bench | boards | benchmarks | certify | experiments | personalize.   Each installs what it
# needs first (scripts/bootstrap).
BIN   := .venv/bin
TORCH ?= $(if $(CI),1)
export TORCH

.PHONY: demo test lint bench boards benchmarks certify experiments personalize bootstrap clean

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

# BENCH: its options, such as --write, --fit, --pin or "--boards mps2-an500 --works mcunet --no-host"
bench: bootstrap
	@$(BIN)/python benchmarks/bench.py $(BENCH)

boards: bootstrap
	@$(BIN)/python benchmarks/boards.py

benchmarks: bootstrap
	@$(BIN)/python examples/demo.py --write
	@$(BIN)/python benchmarks/models.py --write
	@$(BIN)/python benchmarks/boards.py --write
	@$(BIN)/python benchmarks/bench.py --write

certify: export TORCH = 1
certify: bootstrap
	@$(BIN)/python benchmarks/certify.py --write

experiments: TORCH := 1
experiments: bootstrap
	@$(BIN)/python benchmarks/experiments.py --write $(EXPERIMENTS)

personalize: TORCH := 1
personalize: bootstrap
	@for name in ecg bearing wrist words; do \
		$(BIN)/python examples/personalize/$$name.py --write || exit 1; \
	done

clean:
	rm -rf build .venv .pytest_cache .mypy_cache .ruff_cache
