#!/usr/bin/env bash
# Compares convcalc with other tools, in an environment of its own: build/peers, or what PEERS names. Several GB.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=${PEERS:-build/peers}
[[ -x $venv/bin/python ]] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet -r benchmarks/peers.txt -e '.[tensorflow]'
exec "$venv/bin/python" -m benchmarks.peers "$@"
