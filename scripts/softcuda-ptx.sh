#!/usr/bin/env bash
# Compiles softcuda/tests/cuda/*.cu to softcuda/tests/ptx/*.ptx, and writes beside them
#   resources.tsv   what ptxas reports of every kernel: registers, shared memory, stack, spills, per architecture
#   opcodes.txt     every distinct opcode with its suffixes, and how often it stands in the files
#
#   scripts/softcuda-ptx.sh           regenerates the folder
#   scripts/softcuda-ptx.sh --check   regenerates elsewhere and compares; exit 1 with the names of files that differ
#
# A first line "// arch: compute_NN" in a .cu chooses another architecture than compute_80.
# The result depends on the sources and on the pinned compiler only, never on the machine or the working directory.
set -euo pipefail
export LC_ALL=C

fail() {
    echo "softcuda-ptx: $1" >&2
    exit 1
}

case "${1-}" in
'') check=false ;;
--check) check=true ;;
*) fail "usage: scripts/softcuda-ptx.sh [--check]" ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly SOURCES=softcuda/tests/cuda COMMITTED=softcuda/tests/ptx
readonly FLAGS=(-ptx -O3 -lineinfo)
# The architectures that a PTX is assembled for, where it can be: its own and later ones.
readonly MACHINES=(75 80 90 120)
# The oldest PTX version that the code allows reaches the oldest drivers (7.8: CUDA 11.8); ptxas decides.
readonly VERSIONS=(7.8 8.0 8.1 8.3 8.6 9.0)

nvcc=$(scripts/cuda-toolchain.sh)
ptxas=$(dirname "$nvcc")/ptxas
toolkit=$(dirname "$(dirname "$nvcc")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
made=$work/made
mkdir "$made"

# Paths that nvcc wrote become relative: to the repository, or to the toolkit's headers as <cuda>/x.h. The date and size
# that may follow a path go.
relative_paths() {
    sed -E -e "/^[[:space:]]*\.file/{
        s#\"$PWD/#\"#
        s#\"($toolkit|\.cuda/nvidia/cu13)/(bin/\.\./+)?include/#\"<cuda>/#
        s#(\"),.*#\1#
    }"
}

# Names with internal linkage (the toolkit's inline functions, in the strings of -lineinfo) hold a hash of the source's
# absolute path, _INTERNAL_<8 hex digits>_, which --frandom-seed does not replace. The strings are rows of up to 40 bytes;
# they are joined first, because the hash may lie across two rows.
neutral_names() {
    awk '
        function flush(    bytes, i, n) {
            if (joined == "") return
            gsub(/95,73,78,84,69,82,78,65,76,95,[0-9]+,[0-9]+,[0-9]+,[0-9]+,[0-9]+,[0-9]+,[0-9]+,[0-9]+,95/,
                "95,73,78,84,69,82,78,65,76,95,48,48,48,48,48,48,48,48,95", joined)
            n = split(joined, bytes, ",")
            for (i = 1; i <= n; i++) printf "%s%s%s", i % 40 == 1 ? ".b8 " : "", bytes[i], i % 40 == 0 || i == n ? "\n" : ","
            joined = ""
        }
        /^\.b8 / { joined = joined (joined == "" ? "" : ",") substr($0, 5); next }
        { flush(); print }
        END { flush() }'
}

digest() { # of the source, its flags and the headers that it may include
    local headers
    headers=$(find "$SOURCES" -name '*.cuh' | sort)
    { echo "${FLAGS[@]}" "$2"; cat "$1" $headers; } | sha256sum | cut -d' ' -f1
}

# Kernel, file, architecture, registers, shared, stack and spilled bytes from the words of ptxas -v.
resources() {
    awk -v file="$1" -v arch="sm_$2" '
        /Compiling entry function/ { split($0, part, "\047"); kernel = part[2] }
        /Function properties for/ { current = $NF }
        /bytes stack frame/ && current == kernel {
            stack = spill = 0
            for (i = 1; i < NF; i++) {
                if ($(i + 1) == "bytes" && $(i + 2) == "stack") stack = $i
                if ($(i + 1) == "bytes" && $(i + 2) == "spill" && $(i + 3) ~ /stores/) spill = $i
            }
        }
        /Used [0-9]+ registers/ {
            shared = 0
            for (i = 1; i <= NF; i++) {
                if ($i == "Used") registers = $(i + 1)
                if ($(i + 1) == "bytes" && $(i + 2) ~ /^smem/) shared = $i
            }
            print kernel "\t" file "\t" arch "\t" registers "\t" shared "\t" stack "\t" spill
        }' "$3"
}

compile() {
    local source=$1 name arch version machine digits
    name=$(basename "$source" .cu)
    arch=$(sed -nE '1s#^// arch: (compute_[0-9a-z]+)$#\1#p' "$source")
    arch=${arch:-compute_80}
    digits=${arch//[^0-9]/}
    "$nvcc" "${FLAGS[@]}" -arch="$arch" "$source" -o "$work/$name.raw" || fail "nvcc refused $source"
    for version in "${VERSIONS[@]}"; do
        {
            echo "// made by scripts/softcuda-ptx.sh from $name.cu, sha256 $(digest "$source" "$arch")"
            relative_paths <"$work/$name.raw" | neutral_names | sed -E "s/^\.version .*/.version $version/"
        } >"$made/$name.ptx"
        "$ptxas" -arch="sm_${arch#compute_}" "$made/$name.ptx" -o "$work/cubin" 2>"$work/log" && break
        [[ $version != 9.0 ]] || fail "ptxas refused $name.ptx: $(head -n 1 "$work/log")"
    done
    if grep -qF -e "$PWD" -e "$toolkit" "$made/$name.ptx"; then fail "$name.ptx holds a path of this machine"; fi
    for machine in "${MACHINES[@]}"; do
        ((machine >= digits)) || continue
        "$ptxas" -v -arch="sm_$machine" "$made/$name.ptx" -o "$work/cubin" 2>"$work/log" ||
            fail "ptxas refused $name.ptx for sm_$machine: $(head -n 1 "$work/log")"
        resources "$name" "$machine" "$work/log" >>"$work/resources"
    done
}

# An opcode is what a statement begins with, after labels and the guard. Vector operands in braces and initialisers go
# first, so that the braces left over are scopes.
opcodes() {
    sed -E -e 's#//.*##' -e '/^[[:space:]]*\.(loc|file)[[:space:]]/d' -e 's/^[[:space:]]*[$A-Za-z_%][A-Za-z0-9_$]*:([[:space:]]|$)/ /' "$@" |
        tr '\n\t' '  ' | sed -E 's/\{[^{};]*\}//g' | tr ';{}' '\n\n\n' |
        sed -nE 's/^ *(@!?[%A-Za-z0-9_]+ +)?([a-z][a-z0-9]*([.][A-Za-z0-9_:]+)*)( .*)?$/\2/p' |
        sort | uniq -c | awk '{ print $2 "\t" $1 }'
}

for source in "$SOURCES"/*.cu; do compile "$source"; done
{
    printf 'kernel\tfile\tarch\tregisters\tshared_bytes\tstack_bytes\tspill_bytes\n'
    sort -t "$(printf '\t')" -k1,1 -k2,2 -k3,3V "$work/resources"
} >"$made/resources.tsv"
opcodes "$made"/*.ptx >"$made/opcodes.txt"

if $check; then
    differing=$(diff -rq "$COMMITTED" "$made" | sed -E \
        -e "s#^Files $COMMITTED/([^ ]+) and .*#\1#" \
        -e "s#^Only in $COMMITTED: (.*)#\1 (has no source)#" \
        -e "s#^Only in $made: (.*)#\1 (missing)#" || true)
    [[ -z $differing ]] || fail "not up to date: $(echo "$differing" | paste -sd' ')"
else
    mkdir -p "$COMMITTED"
    rm -f "$COMMITTED"/*.ptx
    cp "$made"/* "$COMMITTED"/
fi
