#!/usr/bin/env python3
"""PyTorch's matrix products (MKL on x86-64) on the shapes of `cargo bench --bench kernels -- matmul`: GFLOP/s, as JSON lines.

    python pytorch_products.py [--threads 2] [--seconds 0.8]

For x [rows, inner], w [columns, inner], y [rows, columns]: forward is linear(x, w, bias), input is y @ w, weight is y.T @ x added
to what is there. A line holds the median and the best of as many calls as the time allows, after 0.2 s to warm up.
"""

import argparse
import json
import statistics
import time

LAYERS = [(256, 768), (256, 256), (256, 1024), (1024, 256), (384, 1152), (384, 384), (384, 1536), (1536, 384)]
TOKENS = [2048, 4096]


def seconds_a_call(work, seconds):
    """The times of the calls that fit into `seconds`."""
    start = time.perf_counter()
    while time.perf_counter() - start < 0.2:
        work()
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds:
        before = time.perf_counter()
        work()
        times.append(time.perf_counter() - before)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.8)
    args = parser.parse_args()

    import torch

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    for rows in TOKENS:
        for inner, columns in LAYERS:
            x, w, y = torch.randn(rows, inner), torch.randn(columns, inner), torch.randn(rows, columns)
            bias, dx, dw = torch.randn(columns), torch.empty(rows, inner), torch.zeros(columns, inner)
            products = {
                "forward": lambda: torch.nn.functional.linear(x, w, bias),
                "input": lambda: torch.mm(y, w, out=dx),
                "weight": lambda: dw.addmm_(y.T, x),
            }
            for name, work in products.items():
                times = seconds_a_call(work, args.seconds)
                speed = lambda s: round(2e-9 * rows * inner * columns / s, 1)
                print(json.dumps({
                    "product": name,
                    "shape": f"{rows}x{inner}x{columns}",
                    "median": speed(statistics.median(times)),
                    "best": speed(min(times)),
                    "threads": args.threads,
                    "torch": torch.__version__,
                }), flush=True)


if __name__ == "__main__":
    main()
