#!/usr/bin/env python3
"""One training step of each kind of block in plain PyTorch, written down for the engine's tests to repeat.

    python make_fixtures.py [FOLDER]        # FOLDER defaults to ../fixtures

For every case it writes two safetensors files, whose metadata hold the configuration under our own keys:

    NAME.state.safetensors      param.* (every parameter), x0 and noise [B, C, H, W] f32, t [B] i64
    NAME.expected.safetensors   x_t, prediction, loss, grad.* and, after one step of Adam, new.*

The inputs are f32. The step is computed in f64 and rounded at the end, so that what is expected is what the
mathematics says rather than one library's rounding; the script also runs it in f32 and prints how far that is off.
The model is a function of a dictionary of parameters, so every name on disk can be read where it is used.
"""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F


@dataclass
class Config:
    block: str  # "seed" or "adaln_zero"
    image: tuple  # (H, W): frequency bins, frames
    patch: tuple  # (ph, pw)
    channels: int
    dim: int
    depth: int
    heads: int
    batch: int
    objective: str  # "x0" or "v"
    lr: float
    timesteps: tuple
    seed: int

    def grid(self):
        return self.image[0] // self.patch[0], self.image[1] // self.patch[1]

    def metadata(self):
        return {
            "model.image": str(list(self.image)),
            "model.patch": str(list(self.patch)),
            "model.channels": str(self.channels),
            "model.dim": str(self.dim),
            "model.depth": str(self.depth),
            "model.heads": str(self.heads),
            "model.block": self.block,
            "model.position": "learned" if self.block == "seed" else "sincos",
            "diffusion.schedule": "linear",
            "diffusion.steps": str(STEPS),
            "diffusion.objective": self.objective,
            "train.lr": repr(self.lr),
        }


STEPS = 1000

CASES = {
    "seed": Config("seed", (12, 8), (4, 4), 2, 32, 2, 2, 3, "x0", 1e-3, (7, 421, 998), 1),
    "adaln_zero": Config("adaln_zero", (16, 24), (4, 8), 1, 48, 2, 3, 2, "x0", 1e-3, (33, 760), 2),
    # The objective alone differs, so a smaller model will do.
    "adaln_zero_v": Config("adaln_zero", (8, 12), (4, 2), 2, 24, 1, 3, 3, "v", 3e-4, (0, 250, 999), 3),
}


# ---------------------------------------------------------------------------------------- parameters


def shapes(c):
    """Name and shape of every parameter; linear weights are [out, in]."""
    d, (gh, gw), (ph, pw) = c.dim, c.grid(), c.patch
    s = {"patch_embed.weight": (d, c.channels, ph, pw), "patch_embed.bias": (d,)}
    if c.block == "seed":
        s["position"] = (gh * gw, d)
        s |= {"step_embed.0.weight": (4 * d, d), "step_embed.0.bias": (4 * d,)}
        s |= {"step_embed.2.weight": (d, 4 * d), "step_embed.2.bias": (d,)}
    else:
        s |= {"step_embed.0.weight": (d, 256), "step_embed.0.bias": (d,)}
        s |= {"step_embed.2.weight": (d, d), "step_embed.2.bias": (d,)}
    for n in range(c.depth):
        b = f"blocks.{n}."
        if c.block == "seed":
            s |= {b + "norm1.weight": (d,), b + "norm1.bias": (d,)}
            s |= {b + "norm2.weight": (d,), b + "norm2.bias": (d,)}
        else:
            s |= {b + "modulation.weight": (6 * d, d), b + "modulation.bias": (6 * d,)}
        s |= {b + "attn.qkv.weight": (3 * d, d), b + "attn.qkv.bias": (3 * d,)}
        s |= {b + "attn.out.weight": (d, d), b + "attn.out.bias": (d,)}
        s |= {b + "mlp.0.weight": (4 * d, d), b + "mlp.0.bias": (4 * d,)}
        s |= {b + "mlp.2.weight": (d, 4 * d), b + "mlp.2.bias": (d,)}
    if c.block == "adaln_zero":
        s |= {"final.modulation.weight": (2 * d, d), "final.modulation.bias": (2 * d,)}
    return s | {"patch_deembed.weight": (d, c.channels, ph, pw), "patch_deembed.bias": (c.channels,)}


def random_parameters(c, generator):
    """Random everywhere, also where training would start from zero: a gate of zero hides its branch's gradient."""
    params = {}
    for name, shape in shapes(c).items():
        value = torch.randn(shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            value = 1 + 0.2 * value
        elif name.endswith("bias"):
            value = 0.3 * value if "modulation" in name else 0.1 * value
        elif name == "position":
            value = 0.5 * value
        else:
            # Keep the variance: one over the number of inputs of an output.
            inputs = shape[0] if name == "patch_deembed.weight" else math.prod(shape[1:])
            value = value / math.sqrt(inputs)
        params[name] = value
    return params


# --------------------------------------------------------------------------------------------- model


def sinusoid(t, half, longest):
    """[B] -> [B, 2 half]: sin, then cos, of t at frequencies from 1 down to about 1 / longest."""
    frequencies = torch.exp(-math.log(longest) * torch.arange(half, dtype=t.dtype) / half)
    angles = t[:, None] * frequencies[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def position_sincos(c, dtype):
    """[tokens, dim]: the first half of dim tells the row (frequency), the second the column (time)."""
    quarter = c.dim // 4
    omega = 1 / 10000 ** (torch.arange(quarter, dtype=dtype) / quarter)

    def encode(position):
        angles = position[:, None] * omega[None, :]
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    gh, gw = c.grid()
    rows = torch.arange(gh, dtype=dtype).repeat_interleave(gw)
    columns = torch.arange(gw, dtype=dtype).repeat(gh)
    return torch.cat([encode(rows), encode(columns)], dim=1)


def linear(p, name, x):
    return F.linear(x, p[name + ".weight"], p[name + ".bias"])


def attention(p, name, x, heads):
    batch, tokens, dim = x.shape
    q, k, v = linear(p, name + ".qkv", x).chunk(3, dim=-1)
    # Head h uses columns h * dim / heads and the following ones of each of q, k and v.
    q, k, v = (y.view(batch, tokens, heads, dim // heads).transpose(1, 2) for y in (q, k, v))
    scores = q @ k.transpose(-1, -2) / math.sqrt(dim // heads)
    mixed = scores.softmax(dim=-1) @ v
    return linear(p, name + ".out", mixed.transpose(1, 2).reshape(batch, tokens, dim))


def tokens_of(p, c, image):
    """[B, C, H, W] -> [B, tokens, dim], rows of patches first: token n is patch (n // gw, n % gw)."""
    patches = F.conv2d(image, p["patch_embed.weight"], p["patch_embed.bias"], stride=c.patch)
    return patches.flatten(2).transpose(1, 2)


def image_of(p, c, tokens):
    patches = tokens.transpose(1, 2).reshape(tokens.shape[0], c.dim, *c.grid())
    return F.conv_transpose2d(patches, p["patch_deembed.weight"], p["patch_deembed.bias"], stride=c.patch)


def seed_model(p, c, image, t):
    step = linear(p, "step_embed.0", sinusoid(t, c.dim // 2, 1000))
    step = linear(p, "step_embed.2", step.tanh())
    x = tokens_of(p, c, image) + p["position"] + step[:, None, :]
    for n in range(c.depth):
        b = f"blocks.{n}."
        h = F.layer_norm(x, (c.dim,), p[b + "norm1.weight"], p[b + "norm1.bias"], eps=1e-5)
        x = x + attention(p, b + "attn", h, c.heads)
        h = F.layer_norm(x, (c.dim,), p[b + "norm2.weight"], p[b + "norm2.bias"], eps=1e-5)
        x = x + linear(p, b + "mlp.2", F.leaky_relu(linear(p, b + "mlp.0", h), 0.01))
    return image_of(p, c, x)


def modulated_norm(x, shift, scale):
    return F.layer_norm(x, (x.shape[-1],), eps=1e-6) * (1 + scale[:, None, :]) + shift[:, None, :]


def adaln_zero_model(p, c, image, t):
    step = linear(p, "step_embed.0", sinusoid(t, 128, 10000))
    step = F.silu(linear(p, "step_embed.2", F.silu(step)))
    x = tokens_of(p, c, image) + position_sincos(c, image.dtype)
    for n in range(c.depth):
        b = f"blocks.{n}."
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(p, b + "modulation", step).chunk(6, dim=-1)
        x = x + gate1[:, None, :] * attention(p, b + "attn", modulated_norm(x, shift1, scale1), c.heads)
        h = F.gelu(linear(p, b + "mlp.0", modulated_norm(x, shift2, scale2)), approximate="tanh")
        x = x + gate2[:, None, :] * linear(p, b + "mlp.2", h)
    shift, scale = linear(p, "final.modulation", step).chunk(2, dim=-1)
    return image_of(p, c, modulated_norm(x, shift, scale))


# ---------------------------------------------------------------------------------------------- step


def alpha_bar(t):
    """Ho et al. 2020: beta from 1e-4 to 0.02 in 1000 steps, the product up to and with t; always in f64."""
    beta = torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)
    return torch.cumprod(1 - beta, dim=0)[t]


def train_step(c, state, dtype):
    p = {name: state["param." + name].to(dtype, copy=True).requires_grad_() for name in shapes(c)}
    x0, noise, t = state["x0"].to(dtype), state["noise"].to(dtype), state["t"]
    abar = alpha_bar(t)[:, None, None, None]
    signal, spread = abar.sqrt().to(dtype), (1 - abar).sqrt().to(dtype)
    x_t = signal * x0 + spread * noise
    target = {"x0": x0, "v": signal * noise - spread * x0}[c.objective]

    model = {"seed": seed_model, "adaln_zero": adaln_zero_model}[c.block]
    prediction = model(p, c, x_t, t.to(dtype))
    loss = ((prediction - target) ** 2).mean()
    loss.backward()
    grads = {"grad." + name: value.grad.clone() for name, value in p.items()}
    torch.optim.Adam(p.values(), lr=c.lr, betas=(0.9, 0.999), eps=1e-8).step()

    news = {"new." + name: value.detach() for name, value in p.items()}
    return {"x_t": x_t, "prediction": prediction.detach(), "loss": loss.detach().reshape(1)} | grads | news


def save(tensors, path, metadata):
    """A safetensors file with sorted names: the same content is the same bytes, which the library's own writer
    does not promise."""
    kinds = {torch.float32: "F32", torch.int64: "I64"}
    header, blobs, at = {"__metadata__": metadata}, [], 0
    # Eight-byte elements first, so that everything stays aligned.
    for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name)):
        blob = tensors[name].contiguous().numpy().tobytes()
        shape = list(tensors[name].shape)
        header[name] = {"dtype": kinds[tensors[name].dtype], "shape": shape, "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def without_key_bias(name, tensor, dim):
    """Scores do not change when every key moves by the same vector, so a key bias has no gradient but rounding
    noise, and Adam turns noise into a step: nothing to compare there."""
    if not name.endswith("attn.qkv.bias"):
        return tensor
    return torch.cat([tensor[:dim], tensor[2 * dim :]])


def relative_error(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "fixtures"
    folder.mkdir(parents=True, exist_ok=True)
    for name, c in CASES.items():
        generator = torch.Generator().manual_seed(c.seed)
        image = (c.batch, c.channels, *c.image)
        state = {"param." + key: value for key, value in random_parameters(c, generator).items()}
        state |= {"x0": torch.randn(image, generator=generator), "noise": torch.randn(image, generator=generator)}
        state["t"] = torch.tensor(c.timesteps, dtype=torch.int64)

        exact = train_step(c, state, torch.float64)
        single = train_step(c, state, torch.float32)
        save(state, folder / f"{name}.state.safetensors", c.metadata())
        expected = {key: value.float() for key, value in exact.items()}
        save(expected, folder / f"{name}.expected.safetensors", c.metadata())

        parameters = sum(math.prod(shape) for shape in shapes(c).values())
        runs = [{key: without_key_bias(key, run[key], c.dim) for key in run} for run in (single, exact)]
        errors = {key: relative_error(runs[0][key], value) for key, value in runs[1].items()}
        kinds = ["prediction", "loss", "grad", "new"]
        worst = {kind: max(e for key, e in errors.items() if key.split(".")[0] == kind) for kind in kinds}
        smallest = min(value.norm().item() for key, value in exact.items() if key.startswith("grad."))
        print(f"{name}: {parameters} parameters, loss {exact['loss'].item():.6f}, smallest gradient norm {smallest:.1e}")
        print("  PyTorch's own f32 is off by at most " + ", ".join(f"{k} {e:.1e}" for k, e in worst.items()))


if __name__ == "__main__":
    main()
