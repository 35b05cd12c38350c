.PHONY: setup demo test lint bench lock

setup: ; scripts/setup.sh dev
demo: ; scripts/demo.sh
test: ; scripts/test.sh
lint: setup ; .venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy
bench: setup ; .venv/bin/python -m benchmarks

# Needs uv. No registry address gets into the files.
LOCK = uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 --fork-strategy fewest \
	--no-emit-index-url --generate-hashes --custom-compile-command 'make lock'
lock:
	$(LOCK) --extra dev --output-file requirements/dev.txt
	$(LOCK) --constraint requirements/dev.txt --output-file requirements/core.txt
