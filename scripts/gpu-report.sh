#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: runs the tests on it, the benches, two steps of training under compute-sanitizer where that is
# installed, and writes everything into one file to send back.
#
#   scripts/gpu-report.sh [FILE]       FILE is gpu-report.txt unless given
#
# Needs the driver and Rust, no CUDA toolkit. Takes about a quarter of an hour. Exit code 1 when any part failed; the file says which.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly REPORT=${1-gpu-report.txt}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=()

# A heading, what the command said, its exit code and its time.
section() {
    local title=$1 start=$SECONDS code
    shift
    echo "gpu-report: $title" >&2
    {
        printf '\n==== %s\n$ %s\n' "$title" "$*"
        "$@" 2>&1
        code=$?
        printf -- '---- exit %d after %d s\n' "$code" $((SECONDS - start))
    } >>"$REPORT"
    ((code == 0)) || failed+=("$title")
}

: >"$REPORT" || exit 1
section "commit" git log -1 --format='%H %cs %s'
section "machine" uname -srm
command -v nvidia-smi >/dev/null && section "nvidia-smi" nvidia-smi
section "build" cargo build --release
readonly PROGRAM=target/release/dit-engine
section "devices" "$PROGRAM" devices
section "tests on the GPU" env DIT_TEST_DEVICE=cuda cargo test --release
for precision in f32 bf16; do
    section "twenty steps, $precision" "$PROGRAM" train --device cuda --precision "$precision" --steps 20 --out "$work/$precision"
done
section "bench: steps on the GPU" cargo bench --bench step -- --device cuda \
    --configs small,base,seed,c,d --steps 50 --warmup 20
# compute-sanitizer is slow, racecheck above all: a small model for it.
readonly TINY=(model.dim=64 model.depth=1 model.heads=1 train.batch=2 train.validate_every=1000 train.validation_samples=1
    train.sample_every=100000)
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
if [[ -x $sanitizer ]]; then
    for tool in memcheck racecheck initcheck synccheck; do
        section "compute-sanitizer $tool" "$sanitizer" --tool "$tool" --error-exitcode 1 "$PROGRAM" train --device cuda \
            --steps 2 --out "$work/$tool" "${TINY[@]/#/--set=}"
    done
else
    printf '\n==== compute-sanitizer\nis not installed\n' >>"$REPORT"
fi

if ((${#failed[@]})); then
    printf 'gpu-report: failed: %s\n' "$(IFS=,; echo "${failed[*]}")" | tee -a "$REPORT" >&2
    echo "gpu-report: $REPORT says how" >&2
    exit 1
fi
echo "gpu-report: all is well; it is in $REPORT" >&2
