#!/usr/bin/env bash
# Every check, on a fresh machine too. Arguments go to pytest. Tests of torch and jax run where .venv has them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh dev
scripts/page_tools.sh
PATH=$PWD/.venv/bin:$PATH
ruff check .
ruff format --check .
mypy
pytest --cov "$@"
