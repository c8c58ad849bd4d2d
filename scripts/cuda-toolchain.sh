#!/usr/bin/env bash
# Installs the pinned CUDA compiler (nvcc, nvvm, ptxas and their headers) from PyPI into .cuda/ and prints the path of
# nvcc. No GPU, no driver and no system toolkit is needed. Running it again is cheap: it installs only what is missing.
#
# The versions are pinned together because the wheels' own dependencies are not: an unpinned nvvm writes a PTX version
# that this ptxas refuses. That is also why pip must not resolve dependencies (--no-deps).
set -euo pipefail

readonly WHEELS=(
    nvidia-cuda-nvcc==13.0.88
    nvidia-nvvm==13.0.88
    nvidia-cuda-crt==13.0.88
    nvidia-cuda-runtime==13.0.96
    nvidia-cuda-cccl==13.0.85
)

fail() {
    echo "cuda-toolchain: $1" >&2
    exit 1
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=$root/.cuda
nvcc=$home/nvidia/cu13/bin/nvcc
stamp=$home/wheels.txt
wanted=$(printf '%s\n' "${WHEELS[@]}")

command -v g++ >/dev/null || fail "g++ is missing; nvcc preprocesses with it (Debian: apt install g++)"

# The stamp is written last, so an installation that was cut short is done again from the start.
if [[ ! -x $nvcc || ! -f $stamp || $(<"$stamp") != "$wanted" ]]; then
    command -v python3 >/dev/null || fail "python3 is missing; the compiler comes as Python wheels"
    python3 -m pip --version >/dev/null 2>&1 || fail "pip is missing (Debian: apt install python3-pip)"
    rm -rf "$home"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    if ! python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --no-deps --target "$home" "${WHEELS[@]}" >"$log" 2>&1; then
        fail "pip could not install the wheels: $(grep -i error "$log" | tail -n 1)"
    fi
    "$nvcc" --version >/dev/null 2>&1 || fail "the installed nvcc does not run: $nvcc"
    echo "$wanted" >"$stamp"
fi

echo "$nvcc"
