#!/usr/bin/env python3
"""How many of a kernel's machine instructions are products of tensor cores, in the loops that have them.

    scripts/sass-slots.py [--arch sm_80] [--ptx FILE ..] [--kernels NAME ..]

softcuda counts instructions of PTX; ptxas folds many of them (additions to addresses, above all) into others. This
compiles the committed PTX, takes it apart and counts HMMA in every loop around some; a loop's line is without what
lies in the loops inside it that are listed before. Instructions that are jumped over count as well, so a share is a
lower bound. Needs ptxas (scripts/cuda-toolchain.sh) and nvdisasm (`pip install nvidia-cuda-nvdisasm`; NVDISASM says
where it is).
"""

import argparse
import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*?);")
KINDS = {  # by how the names begin
    "mma": ["HMMA"],
    "ldmatrix": ["LDSM"],
    "cp.async": ["LDGSTS", "LDGDEPBAR"],
    "special": ["MUFU"],
    "f32": ["FADD", "FMUL", "FFMA", "FMNMX", "FSETP", "FSEL", "F2F", "HADD", "HMUL", "HFMA", "F2FP"],
    "control": ["BRA", "BAR", "DEPBAR", "WARPSYNC", "BSSY", "BSYNC", "VOTE", "NOP", "EXIT", "CALL", "RET"],
    "memory": ["LD", "ST", "SHFL"],
}


def tool(name, variable):
    places = [os.environ.get(variable), ROOT / ".cuda/nvidia/cu13/bin" / name, shutil.which(name)]
    for place in places:
        if place and pathlib.Path(place).is_file():
            return str(place)
    sys.exit(f"sass-slots: no {name}; {variable} may say where it is")


def disassemble(ptx, arch):
    with tempfile.TemporaryDirectory() as folder:
        cubin = pathlib.Path(folder) / "kernels.cubin"
        subprocess.run([tool("ptxas", "PTXAS"), f"-arch={arch}", str(ptx), "-o", str(cubin)], check=True)
        command = [tool("nvdisasm", "NVDISASM"), str(cubin)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def kernels(sass):
    """Names, with instructions as (address, name, address that it jumps to or None)."""
    for part in re.split(r"^\.text\.", sass, flags=re.M)[1:]:
        name, body = part.split(":", 1)
        labels, pending, found = {}, [], []
        for line in body.splitlines():
            if label := re.match(r"(\.L_\w+):", line):
                pending.append(label[1])
            elif instruction := INSTRUCTION.search(line):
                address = int(instruction[1], 16)
                labels.update({label: address for label in pending})
                pending = []
                found.append((address, instruction[2], re.search(r"`\((\.L_\w+)\)", instruction[3])))
        yield name, [(at, what, to and labels.get(to[1])) for at, what, to in found]


def loops(instructions):
    """(first, last) of the loops with products, those inside others first."""
    jumps = {(to, at) for at, what, to in instructions if what.startswith("BRA") and to is not None and to < at}
    products = [at for at, what, _ in instructions if what.startswith("HMMA")]
    return sorted((j for j in jumps if any(j[0] <= at <= j[1] for at in products)), key=lambda j: j[1] - j[0])


def kind(name):
    return next((kind for kind, names in KINDS.items() if name.startswith(tuple(names))), "integer")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arch", default="sm_80")
    files = [ROOT / f"kernels/ptx/{name}.bf16_80.ptx" for name in ("matmul", "attention")]
    parser.add_argument("--ptx", default=files, nargs="+")
    parser.add_argument("--kernels", nargs="+")
    arguments = parser.parse_args()
    columns = [*KINDS, "integer"]
    print(f"{'kernel, and the bytes of the loop':<52}{'all':>6}{'share':>8}" + "".join(f"{k:>9}" for k in columns))
    for ptx in arguments.ptx:
        for name, instructions in kernels(disassemble(ptx, arguments.arch)):
            if arguments.kernels and name not in arguments.kernels:
                continue
            counted = set()
            for first, last in loops(instructions):
                inside = [(at, what) for at, what, _ in instructions if first <= at <= last and at not in counted]
                counted.update(at for at, _ in inside)
                kinds = collections.Counter(kind(what) for _, what in inside)
                counts = "".join(f"{kinds[k]:>9}" for k in columns)
                print(f"{f'{name} {first:x}-{last:x}':<52}{len(inside):>6}{kinds['mma'] / len(inside):>8.3f}{counts}")


main()
