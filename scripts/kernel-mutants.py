#!/usr/bin/env python3
"""Breaks the CUDA kernels on purpose, one small change at a time, and looks whether the tests notice.

  scripts/kernel-mutants.py                    every mutant of scripts/kernel_mutants_table.py
  scripts/kernel-mutants.py --family norm      those of one family of kernels
  scripts/kernel-mutants.py --only 7           mutant number 7
  scripts/kernel-mutants.py --jobs 4           so many at once (as many as there are cores, if not said)
  scripts/kernel-mutants.py --markdown FILE    writes the table there, too

A mutant is compiled to PTX, and the family's tests run with it on softcuda, with all checks on (DIT_PTX_DIR in
src/cuda/kernels.rs names the folder of PTX; the program is built once). It is caught by
  compiler   nvcc refuses it
  check      softcuda's checks complain: a race, a wrong address, memory that nobody wrote, ...
  test       a result is wrong
  hang       the tests do not end
The kernels as they are run first and must pass. Exit code 1 when a mutant survives that the table does not explain.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True
from kernel_mutants_table import MUTANTS, TESTS  # noqa: E402: the line above has to come first

HERE = pathlib.Path(__file__).resolve().parent.parent
KERNELS = HERE / "kernels"
PTX = KERNELS / "ptx"
FLAGS = ["-ptx", "-O3", "-lineinfo", "-std=c++17"]
SETS = {"f32": ["-arch=compute_80"], "bf16": ["-arch=compute_80", "-DDIT_BF16"]}
# What the tests of a mutant may take, which are a part of a family's, and all of a family's with the kernels as they are.
LIMIT_S = 120
CONTROL_LIMIT_S = 600
WORDS = 100  # of a complaint that a line of output shows, in characters
# How softcuda begins a line about a finding of its checks.
FINDING = "softcuda: "


def fail(problem):
    sys.exit(f"kernel-mutants: {problem}")


def find_nvcc():
    found = os.environ.get("DIT_NVCC") or HERE / ".cuda/nvidia/cu13/bin/nvcc"
    if not os.path.isfile(found):
        found = shutil.which("nvcc")
    return found or fail("there is no nvcc; run scripts/cuda-toolchain.sh")


def build_tests(families):
    """The test binaries of these families."""
    command = ["cargo", "test", "--release", "--no-run", "--message-format=json"]
    for family in families:
        command += ["--test", family]
    built = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        fail("the tests do not build")
    artifacts = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    binaries = {a["target"]["name"]: a["executable"] for a in artifacts if a.get("executable")}
    return {family: binaries[family] for family in families}


def mutate(text, mutant):
    """The file with the mutant's fragment, which has to be there, replaced."""
    parts = text.split(mutant.old)
    if mutant.nth == 0 and len(parts) != 2:
        fail(f"{mutant.file} has this {len(parts) - 1} times: {mutant.old}")
    nth = mutant.nth or 1
    if len(parts) <= nth:
        fail(f"{mutant.file} has this less than {nth} times: {mutant.old}")
    return mutant.old.join(parts[:nth]) + mutant.new + mutant.old.join(parts[nth:])


def committed_version(name):
    """The PTX version that build.rs chose for this file."""
    return re.search(r"^\.version .*$", (PTX / name).read_text(), re.M).group()


def compile_family(nvcc, sources, family, sets, to):
    """Compiles to `to`; gives the compiler's first complaint, or None."""
    for name in sets:
        file = f"{family}.{name}_80.ptx"
        if not (PTX / file).exists():
            continue  # the family has no such set
        command = [nvcc, *FLAGS, *SETS[name], f"-I{sources}", sources / f"{family}.cu", "-o", to / file]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            return next((line for line in done.stdout.splitlines() if "error" in line), "it failed")
        version = committed_version(file)
        (to / file).write_text(re.sub(r"^\.version .*$", version, (to / file).read_text(), count=1, flags=re.M))
    return None


def run_tests(binary, filters, ptx, limit):
    """How the tests end: (None, "") when they pass, otherwise what caught it and the first words of complaint."""
    command = [binary, "--nocapture", "--test-threads=1", *filters]
    environment = dict(os.environ, DIT_PTX_DIR=str(ptx))
    tests = subprocess.Popen(
        command, cwd=HERE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", start_new_session=True,
    )
    late = threading.Event()

    def kill():
        late.set()
        os.killpg(tests.pid, signal.SIGKILL)

    timer = threading.Timer(limit, kill)
    timer.start()
    said = []
    ran = 0
    try:
        for line in tests.stdout:
            ran += line.startswith("running ") and line.split()[1] != "0"
            if "panicked at" in line or FINDING in line or "FAILED" in line:
                # The complaint is here or in the next line; the other tests need not run.
                said = [line.strip(), next(tests.stdout, "").strip()]
                os.killpg(tests.pid, signal.SIGKILL)
                break
    finally:
        timer.cancel()
        tests.stdout.close()
        status = tests.wait()
    if late.is_set():
        return "hang", f"no end in {limit} s"
    if said:
        finding = said[0].partition(FINDING)[2]
        return ("check", finding) if finding else ("test", said[1] or said[0])
    if not ran:
        fail(f"no test of {pathlib.Path(binary).name} matches: {' '.join(filters)}")
    return (None, "") if status == 0 else ("test", f"exit status {status}")


class Trial:
    def __init__(self, nvcc, binaries):
        self.nvcc, self.binaries = nvcc, binaries

    def run(self, family, sets, tests, mutant=None):
        with tempfile.TemporaryDirectory(prefix="kernel-mutants-") as folder:
            sources, ptx = pathlib.Path(folder, "kernels"), pathlib.Path(folder, "ptx")
            shutil.copytree(KERNELS, sources, ignore=shutil.ignore_patterns("ptx"))
            shutil.copytree(PTX, ptx)
            if mutant:
                file = sources / mutant.file
                file.write_text(mutate(file.read_text(), mutant))
            problem = compile_family(self.nvcc, sources, family, sets, ptx)
            if problem:
                return "compiler", problem
            limit = LIMIT_S if mutant else CONTROL_LIMIT_S
            return run_tests(self.binaries[family], tests, ptx, limit)


def cell(text):
    return text.replace("|", "\\|")


def markdown(results):
    lines = ["| # | family | kind | change | caught by |", "|--:|---|---|---|---|"]
    for number, mutant, (caught, words) in results:
        old, new = (" ".join(cell(text).split()) for text in (mutant.old, mutant.new))
        change = f"{mutant.file}: `{old}` becomes " + (f"`{new}`" if new else "nothing")
        survives = f"**survives**: {mutant.survives or 'not explained'}"
        verdict = f"{caught}: {cell(words[:WORDS])}" if caught else survives
        lines.append(f"| {number} | {mutant.family} | {mutant.kind} | {change} | {verdict} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=sorted(TESTS))
    parser.add_argument("--only", type=int, metavar="N")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N")
    parser.add_argument("--markdown", metavar="FILE")
    options = parser.parse_args()
    chosen = [
        (number, mutant)
        for number, mutant in enumerate(MUTANTS, 1)
        if options.family in (None, mutant.family) and options.only in (None, number)
    ]
    if not chosen:
        fail(f"there is no such mutant; they are numbered 1 to {len(MUTANTS)}")
    for _, mutant in chosen:
        mutate((KERNELS / mutant.file).read_text(), mutant)  # a table that is out of date ends here

    families = sorted({mutant.family for _, mutant in chosen})
    trial = Trial(find_nvcc(), build_tests(families))
    with concurrent.futures.ThreadPoolExecutor(max(1, options.jobs)) as pool:
        controls = {family: pool.submit(trial.run, family, SETS, TESTS[family]) for family in families}
        for family, control in controls.items():
            caught, words = control.result()
            if caught:
                fail(f"the kernels of {family} as they are fail: {caught}: {words}")
            print(f"{family}: the kernels as they are pass", flush=True)
        runs = {
            pool.submit(trial.run, m.family, m.sets.split(), m.tests.split() or TESTS[m.family], m): (number, m)
            for number, m in chosen
        }
        results = []
        for run in concurrent.futures.as_completed(runs):
            number, mutant = runs[run]
            results.append((number, mutant, run.result()))
            caught, words = run.result()
            print(f"{number:3} {mutant.family:11} {mutant.kind:28} {caught or 'SURVIVES':9} {words[:WORDS]}", flush=True)

    results.sort(key=lambda result: result[0])
    if options.markdown:
        pathlib.Path(options.markdown).write_text(markdown(results))
    survivors = [(mutant, number) for number, mutant, (caught, _) in results if not caught]
    open_cases = [number for mutant, number in survivors if not mutant.survives]
    print(
        f"{len(results)} mutants: {len(results) - len(survivors)} caught, {len(survivors)} survive, "
        f"{len(open_cases)} of them without an explanation{''.join(f' {n}' for n in open_cases)}"
    )
    return 1 if open_cases else 0


if __name__ == "__main__":
    sys.exit(main())
