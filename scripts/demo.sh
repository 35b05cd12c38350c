#!/usr/bin/env bash
# The main job, on a fresh machine too: one layer explained, then a whole network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh core
PATH=$PWD/.venv/bin:$PATH
convcalc conv --input 150x100x3 --filters 200 --kernel 5 --stride 1 --padding same --explain
convcalc analyze resnet50
