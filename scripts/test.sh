#!/usr/bin/env bash
# Every check, on a fresh machine too. Arguments go to pytest. Tests of torch and jax run where .venv has them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Both fetch for minutes the first time.
scripts/page_tools.sh & page_tools=$!
scripts/setup.sh dev
wait $page_tools
PATH=$PWD/.venv/bin:$PATH
ruff check .
ruff format --check .
mypy
# A file's tests stay together and in order: they share servers, builds and imports. A process takes up to 3 GB.
pytest --cov --numprocesses logical --maxprocesses 4 --dist loadfile "$@"
