#!/usr/bin/env bash
# Makes .venv from a lock, `scripts/setup.sh core` or `dev`. Installs nothing where that lock is already in.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lock=requirements/${1:-dev}.txt
stamp=.venv/.installed-${1:-dev}
wanted=$(cat "$lock" pyproject.toml | cksum)
[[ -f $stamp && $(<"$stamp") == "$wanted" ]] && exit

python=${PYTHON:-python3}
if ! .venv/bin/python -m pip --version &>/dev/null; then
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "convcalc needs Python 3.11 or newer; name one with PYTHON=...")'
  "$python" -m venv --clear .venv
fi
# Byte code is written here, by pip, and not by whichever test imports first: some of these are killed.
.venv/bin/python -m pip install --quiet --require-hashes -r "$lock"
.venv/bin/python -m pip install --quiet --no-deps -e .
echo "$wanted" >"$stamp"
