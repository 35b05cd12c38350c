#!/usr/bin/env bash
# What the page's tests need and pip does not bring: a Chromium of Debian's, and TypeScript to check types with, kept in
# .cache. Where either cannot be had, its tests are skipped, and this says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ -z ${CONVCALC_CHROMIUM:-} ]] && ! command -v chromium chromium-browser google-chrome >/dev/null; then
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "no Chromium, and only root on Debian can install it here: the page's tests are skipped" >&2
  elif ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium; } >/dev/null; then
    echo "Chromium could not be installed: the page's tests are skipped" >&2
  fi
fi

typescript=5.9.3
if [[ ! -x .cache/typescript-$typescript/node_modules/.bin/tsc ]]; then
  if ! command -v npm >/dev/null; then
    echo "no npm: the page's types are not checked" >&2
  elif ! npm install --silent --no-audit --no-fund --prefix ".cache/typescript-$typescript" "typescript@$typescript" >/dev/null; then
    echo "TypeScript could not be installed: the page's types are not checked" >&2
  fi
fi
