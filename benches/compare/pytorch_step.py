#!/usr/bin/env python3
"""PyTorch's time for one training step (noise mix, forward, backward, Adam), as JSON lines.

    python pytorch_step.py [--configs a,b,c] [--variants eager,linear,compile] [--threads 2] [--steps 7] [--warmup 2]
    python pytorch_step.py --device cuda --precision bf16 --configs a,b,c,d --variants linear,compile --steps 50 --warmup 20

eager    the model as one writes it: strided and transposed convolution, torch.optim.Adam as it comes
linear   patching and un-patching as one matrix product, fused Adam: the best PyTorch that we found
compile  torch.compile on top of eager (on a GPU on top of linear)

On a GPU batches come from pinned memory, and steps are waited for eight steps late, as a training loop does; bf16 is
torch.autocast.

Every line is measured in a process of its own, so that its peak memory is its own. The data are random; the
convergence of a real run changes nothing in the time.
"""

import argparse
import collections
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time

# Block, image (H, W), channels, patch, dim, blocks, heads, batch.
CONFIGS = {
    "a": ("seed", (128, 128), 2, (4, 4), 256, 4, 4, 4),
    "b": ("adaln_zero", (512, 512), 2, (32, 32), 256, 4, 4, 8),
    "c": ("adaln_zero", (512, 256), 2, (16, 8), 384, 8, 6, 2),
    "d": ("adaln_zero", (512, 512), 2, (16, 16), 384, 12, 6, 32),
}
IN_FLIGHT = 8


def build(config, linear_patches):
    import torch
    import torch.nn as nn
    import torch.nn.functional as F

    block, image, channels, (ph, pw), dim, depth, heads, _ = config
    gh, gw = image[0] // ph, image[1] // pw
    seed = block == "seed"

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

        def forward(self, x):
            b, n, _ = x.shape
            q, k, v = self.qkv(x).view(b, n, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
            return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, dim))

    class SeedBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2, self.attn = nn.LayerNorm(dim), nn.LayerNorm(dim), Attention()
            self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.LeakyReLU(0.01), nn.Linear(4 * dim, dim))

        def forward(self, x, step):
            x = x + self.attn(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    class AdalnZeroBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.modulation, self.attn = nn.Linear(dim, 6 * dim), Attention()
            self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU("tanh"), nn.Linear(4 * dim, dim))
            self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)

        def forward(self, x, step):
            shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(step)[:, None, :].chunk(6, dim=-1)
            x = x + gate1 * self.attn(self.norm(x) * (1 + scale1) + shift1)
            return x + gate2 * self.mlp(self.norm(x) * (1 + scale2) + shift2)

    class Patches(nn.Module):
        def forward(self, x):
            x = x.view(-1, channels, gh, ph, gw, pw).permute(0, 2, 4, 1, 3, 5)
            return x.reshape(-1, gh * gw, channels * ph * pw)

    class Unpatches(nn.Module):
        def forward(self, x):
            x = x.view(-1, gh, gw, channels, ph, pw).permute(0, 3, 1, 4, 2, 5)
            return x.reshape(-1, channels, *image)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            if linear_patches:
                self.embed = nn.Sequential(Patches(), nn.Linear(channels * ph * pw, dim))
                self.deembed = nn.Sequential(nn.Linear(dim, channels * ph * pw), Unpatches())
            else:
                self.embed = nn.Conv2d(channels, dim, (ph, pw), (ph, pw))
                self.deembed = nn.ConvTranspose2d(dim, channels, (ph, pw), (ph, pw))
            # The fixed table is read as the learned one is; it only has no gradient.
            self.position = nn.Parameter(torch.randn(gh * gw, dim) * 0.02, requires_grad=seed)
            width, hidden = (dim, 4 * dim) if seed else (256, dim)
            activation = nn.Tanh() if seed else nn.SiLU()
            self.step_embed = nn.Sequential(nn.Linear(width, hidden), activation, nn.Linear(hidden, dim))
            half, longest = width // 2, 1000 if seed else 10000
            frequencies = torch.exp(-math.log(longest) * torch.arange(half) / half)
            self.register_buffer("frequencies", frequencies)
            self.blocks = nn.ModuleList((SeedBlock if seed else AdalnZeroBlock)() for _ in range(depth))
            if not seed:
                self.final = nn.Linear(dim, 2 * dim)
                self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)

        def forward(self, x, t):
            angles = t[:, None] * self.frequencies
            step = self.step_embed(torch.cat([angles.sin(), angles.cos()], dim=1))
            x = self.embed(x)
            x = x if linear_patches else x.flatten(2).transpose(1, 2)
            x = x + self.position
            if seed:
                x = x + step[:, None, :]
            else:
                step = F.silu(step)
            for block in self.blocks:
                x = block(x, step)
            if not seed:
                shift, scale = self.final(step)[:, None, :].chunk(2, dim=-1)
                x = self.norm(x) * (1 + scale) + shift
            return self.deembed(x if linear_patches else x.transpose(1, 2).reshape(-1, dim, gh, gw))

    return Model()


def measure(name, variant, device, precision, threads, steps, warmup):
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    gpu = device == "cuda"
    config = CONFIGS[name]
    _, image, channels, patch, _, _, _, batch = config
    model = build(config, linear_patches=variant == "linear" or (gpu and variant == "compile")).to(device)
    trained = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.Adam(trained, lr=1e-4, fused=True if gpu or variant == "linear" else None)
    forward = torch.compile(model) if variant == "compile" else model
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), dim=0).to(device)
    batch_of_data = torch.randn(batch, channels, *image)
    batch_of_data = batch_of_data.pin_memory() if gpu else batch_of_data

    def step():
        x0 = batch_of_data.to(device, non_blocking=True)
        t = torch.randint(0, 1000, (batch,), device=device)
        noise = torch.randn_like(x0)
        signal = abar[t][:, None, None, None]
        x_t = signal.sqrt() * x0 + (1 - signal).sqrt() * noise
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            predicted = forward(x_t, t.float())
        loss = torch.nn.functional.mse_loss(predicted.float(), x0)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        return loss

    done = collections.deque()

    def wait(loss):
        if not gpu:
            loss.item()
            return
        event = torch.cuda.Event()
        event.record()
        done.append(event)
        if len(done) >= IN_FLIGHT:
            done.popleft().synchronize()

    for _ in range(warmup):
        wait(step())
    times_ms, cpu_start = [], time.process_time()
    for _ in range(steps):
        start = time.perf_counter()
        wait(step())
        times_ms.append(1000 * (time.perf_counter() - start))
    cpu_ms = 1000 * (time.process_time() - cpu_start) / steps
    return {
        "config": name,
        "variant": variant,
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "precision": precision,
        "block": config[0],
        "image": image,
        "patch": patch,
        "batch": batch,
        "parameters": sum(p.numel() for p in trained),
        "threads": threads,
        "steps": steps,
        "median_ms": round(statistics.median(times_ms), 2),
        "fastest_ms": round(min(times_ms), 2),
        "slowest_ms": round(max(times_ms), 2),
        "cpu_ms": round(cpu_ms, 1),
        "load": round(os.getloadavg()[0], 1),
        "peak_gpu_mib": torch.cuda.max_memory_reserved() >> 20 if gpu else None,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "torch": torch.__version__,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", default="a,b,c")
    parser.add_argument("--variants", default="eager,linear")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=2)
    args = parser.parse_args()
    configs, variants = args.configs.split(","), args.variants.split(",")
    if len(configs) == 1 and len(variants) == 1:
        line = measure(
            configs[0], variants[0], args.device, args.precision, args.threads, args.steps, args.warmup
        )
        print(json.dumps(line), flush=True)
        return
    for config in configs:
        for variant in variants:
            rest = ["--device", args.device, "--precision", args.precision, "--threads", str(args.threads)]
            rest += ["--steps", str(args.steps), "--warmup", str(args.warmup)]
            command = [sys.executable, __file__, "--configs", config, "--variants", variant, *rest]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
