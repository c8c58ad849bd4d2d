#!/usr/bin/env bash
# Makes kernels/ptx/ anew from kernels/*.cu, whatever hashes it carries (build.rs does the work), with the pinned compiler.
#
#   scripts/kernels-ptx.sh           regenerates the folder
#   scripts/kernels-ptx.sh --check   does so and compares with what was there; exit 1 with the names of files that differ
set -euo pipefail
export LC_ALL=C

case "${1-}" in
'' | --check) ;;
*)
    echo "kernels-ptx: usage: scripts/kernels-ptx.sh [--check]" >&2
    exit 1
    ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
cp kernels/ptx/*.ptx "$before"/
DIT_NVCC=$(scripts/cuda-toolchain.sh) DIT_PTX=rebuild cargo check --release --quiet -p dit-engine --lib
if [[ ${1-} == --check ]]; then
    differing=$(diff -rq "$before" kernels/ptx | sed -E -e 's#^Files [^ ]+/([^ /]+) and .*#\1#' -e 's#^Only in [^:]+: ##' || true)
    if [[ -n $differing ]]; then
        echo "kernels-ptx: not up to date: $(echo "$differing" | paste -sd' ')" >&2
        exit 1
    fi
fi
