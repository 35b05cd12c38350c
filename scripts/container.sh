#!/usr/bin/env bash
# Builds the Dockerfile and holds the image to its promises: scripts/container.sh [slim|verify]
#
# Neither a container engine nor an image registry is needed: buildah builds on a stand-in for the base, a Debian of
# debootstrap with its own Python, and container_checks.py runs what was built. Needs root, buildah, debootstrap and
# Debian's mirror; without these it says so and is content. WORK keeps the base for the next run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${1:-slim}
work=${WORK:-/var/tmp/convcalc-container}
for tool in buildah debootstrap unshare; do
  command -v $tool >/dev/null || { echo "skipped: $tool is not installed"; exit; }
done
[[ $(id -u) == 0 ]] || { echo "skipped: debootstrap needs root"; exit; }
base=$(sed -n 's/^ARG PYTHON=//p' Dockerfile)

if ! buildah inspect --type image localhost/convcalc-standin &>/dev/null; then
  echo "making a base in $work"
  mkdir -p "$work"
  [[ -e $work/base/usr/bin/python3 && ! -d $work/base/debootstrap ]] || {
    rm -rf "$work/base"
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
      "${base##*-}" "$work/base" >"$work/debootstrap.log"
  }
  rm -rf "$work"/base/var/cache/apt/archives/*.deb "$work"/base/var/lib/apt/lists/*
  ln -sf ../../bin/python3 "$work/base/usr/local/bin/python"
  # Behind a proxy that signs for others, pip must trust what this machine trusts.
  cp /etc/ssl/certs/ca-certificates.crt "$work/base/etc/ssl/certs/"
  standin=$(buildah from scratch)
  buildah add --quiet "$standin" "$work/base" / >/dev/null
  buildah commit --quiet "$standin" localhost/convcalc-standin >/dev/null
  buildah rm "$standin" >/dev/null
fi

# This buildah would make every stage above the target, TensorFlow's as well: the other target's are left out.
other=$([[ $target == slim ]] && echo verify || echo slim)
awk -v other="$other" '/^FROM / { out = $NF ~ other "$" } !out' Dockerfile >"$work/Dockerfile"
buildah bud --quiet --format docker --isolation chroot --network host --layers --target "$target" \
  --build-arg PYTHON=localhost/convcalc-standin --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
  --tag "localhost/convcalc:$target" --file "$work/Dockerfile" . >/dev/null
echo "built: $target"
exec python3 scripts/container_checks.py "$target"
