#!/usr/bin/env python3
"""Our kernels beside the official ones: same shapes, same run, in turn, timed by CUDA events.

    bench/peers.py LIBVLMAMBA_OPS.SO [--mamba FOLDER] [--causal-conv1d FOLDER] [--vmamba FOLDER] [--seconds S]
                   [--dtype bf16|fp16|fp32] [--device cuda|cpu] [--scale N]

FOLDER is a checkout with its extension built; without it, what this Python has installed is taken. A peer that cannot be
imported is named with the reason, and our own figures are printed alone. --scale divides rows and channels, to try the
program where there is no GPU. Layouts are each side's own: theirs (B, D, L), ours (B, L, D); no side pays for the other's.
"""

import argparse
import importlib
import statistics
import sys
import time

import torch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def imported(name, folder, *parts):
    """A module of a peer, or why there is none."""
    try:
        if folder:
            sys.path.insert(0, "/".join((folder,) + parts))
        return importlib.import_module(name), None
    except Exception as error:  # a peer may fail in any way: built for another torch, no compiler, no GPU
        return None, f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def imported_vmamba(folder):
    """VMamba's cross-scan and scan; it falls back to loops in Python where its extension or Triton is missing."""
    crossing, why_crossing = imported("csm_triton", folder, "classification", "models")
    scanning, why_scanning = imported("csms6s", folder, "classification", "models")
    if why_crossing or why_scanning:
        return None, why_crossing or why_scanning
    if not getattr(scanning, "WITH_SELECTIVESCAN_OFLEX", False):
        return None, "csms6s: its extension selective_scan_cuda_oflex is not built"
    if not getattr(crossing, "WITH_TRITON", False):
        return None, "csm_triton: there is no triton"
    return (crossing, scanning), None


class Timer:
    def __init__(self, device, seconds):
        self.cuda, self.seconds = device == "cuda", seconds

    def once(self, run):
        if not self.cuda:
            start = time.perf_counter()
            run()
            return (time.perf_counter() - start) * 1e3
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop)

    def in_turn(self, runs):
        """Medians in ms of passes that are run A B A B ..."""
        for run in runs:
            self.once(run)
        round_ms = sum(self.once(run) for run in runs)
        count = max(5, min(500, int(self.seconds * 1e3 * len(runs) / max(round_ms, 1e-3))))
        samples = [[self.once(run) for run in runs] for _ in range(count)]
        return [statistics.median(column) for column in zip(*samples)]


def passes(function, inputs):
    """Forward and backward of a function of leaves, each to be repeated."""
    output = function(*inputs)
    cotangent = torch.randn_like(output)
    leaves = [x for x in inputs if isinstance(x, torch.Tensor) and x.requires_grad]
    return (lambda: function(*inputs),
            lambda: torch.autograd.grad(output, leaves, cotangent, retain_graph=True, allow_unused=True))


def peer_passes(op, function, inputs):
    """The same for the peer of an op, which may refuse a shape, or this machine."""
    try:
        forward, backward = passes(function, inputs)
        backward()
        return forward, backward
    except Exception as error:
        print(f"not beside the peer of {op}: {type(error).__name__}: {str(error)[:200]}")
        return None


class Draw:
    def __init__(self, device, dtype):
        self.device, self.dtype = device, dtype

    def __call__(self, *shape, dtype=None, shift=0.0):
        return (torch.randn(shape, device=self.device) + shift).to(dtype or self.dtype).requires_grad_()

    def decay(self, *shape):
        states = torch.arange(1, shape[-1] + 1, dtype=torch.float32, device=self.device)
        return (-states).expand(shape).contiguous().requires_grad_()


def swapped(x):
    """(B, L, D) -> (B, D, L), or (B, L, G, N) -> (B, G, N, L), dense in L."""
    return x.detach().movedim(1, -1).contiguous().requires_grad_()


def scan_pair(draw, options, module, B, L, D, N):
    u, delta, z = draw(B, L, D), draw(B, L, D, shift=-4), draw(B, L, D)
    A, Bm, C = draw.decay(D, N), draw(B, L, 1, N), draw(B, L, 1, N)
    skip, bias = draw(D, dtype=torch.float32), draw(D, dtype=torch.float32)

    def ours(u, delta, A, Bm, C, skip, z, bias):
        return torch.ops.vlmamba.selective_scan(u, delta, A, Bm, C, skip, z, bias, True)[0]

    def theirs(u, delta, A, Bm, C, skip, z, bias):
        return module.selective_scan_fn(u, delta, A, Bm, C, skip, z, bias, True)

    own = (u, delta, A, Bm, C, skip, z, bias)
    other = (swapped(u), swapped(delta), A, swapped(Bm), swapped(C), skip, swapped(z), bias)
    return passes(ours, own), module and peer_passes("selective_scan", theirs, other)


def conv_pair(draw, options, module, B, L, D, W):
    x, weight, bias = draw(B, L, D), draw(D, W, dtype=torch.float32), draw(D, dtype=torch.float32)

    def ours(x, weight, bias):
        return torch.ops.vlmamba.causal_conv1d(x, weight, bias, activation="silu")[0]

    def theirs(x, weight, bias):
        return module.causal_conv1d_fn(x, weight, bias, activation="silu")

    return passes(ours, (x, weight, bias)), module and peer_passes("causal_conv1d", theirs, (swapped(x), weight, bias))


def map_pair(draw, options, module, B, side, D, N, scan):
    """VMamba's chain cross-scan, scan, cross-merge (always four directions) beside the scan in place. Projections are
    left out on both sides: delta, B and C are given per direction."""
    K, L = {"forward": 1, "bidirectional": 2, "cross": 4}[scan], side * side
    u, delta, A = draw(B, L, D), draw(B, L, K, D, shift=-4), draw.decay(K, D, N)
    Bm, C = draw(B, L, K, 1, N), draw(B, L, K, 1, N)
    skip, bias = draw(K, D, dtype=torch.float32), draw(K, D, dtype=torch.float32)

    def ours(u, delta, A, Bm, C, skip, bias):
        return torch.ops.vlmamba.selective_scan_2d(u, delta, A, Bm, C, skip, bias, True, scan=scan, height=side, width=side)

    mine = passes(ours, (u, delta, A, Bm, C, skip, bias))
    if module is None:
        return mine, None
    crossing, scanning = module
    maps = u.detach().reshape(B, side, side, D).permute(0, 3, 1, 2).contiguous().requires_grad_()
    delta4, B4, C4 = draw(B, 4 * D, L, shift=-4), draw(B, 4, N, L), draw(B, 4, N, L)
    A4, skip4, bias4 = draw.decay(4 * D, N), draw(4 * D, dtype=torch.float32), draw(4 * D, dtype=torch.float32)
    order = {"forward": 1, "bidirectional": 2, "cross": 0}[scan]

    def theirs(maps, delta4, A4, B4, C4, skip4, bias4):
        sequences = crossing.cross_scan_fn(maps, in_channel_first=True, out_channel_first=True, scans=order)
        y = scanning.selective_scan_fn(sequences.reshape(B, 4 * D, L), delta4, A4, B4, C4, skip4, bias4, True, True, None)
        return crossing.cross_merge_fn(y.view(B, 4, D, side, side), in_channel_first=True, out_channel_first=True,
                                       scans=order)

    return mine, peer_passes("selective_scan_2d", theirs, (maps, delta4, A4, B4, C4, skip4, bias4))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("--mamba")
    parser.add_argument("--causal-conv1d")
    parser.add_argument("--vmamba")
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--scale", type=int, default=1)
    options = parser.parse_args()
    torch.ops.load_library(options.library)

    scan, why_scan = imported("mamba_ssm.ops.selective_scan_interface", options.mamba)
    conv, why_conv = imported("causal_conv1d", options.causal_conv1d)
    vmamba, why_vmamba = imported_vmamba(options.vmamba)
    for why in (why_scan, why_conv, why_vmamba):
        if why:
            print(f"not beside {why}")

    s, draw = options.scale, Draw(options.device, DTYPES[options.dtype])
    cases = [("selective_scan", f"B{8 // min(8, s)} L2048 D{5120 // s} N16", scan_pair, scan,
              (8 // min(8, s), 2048, 5120 // s, 16)),
             ("selective_scan", f"B1 L2048 D{5120 // s} N16", scan_pair, scan, (1, 2048, 5120 // s, 16)),
             ("causal_conv1d", f"B{8 // min(8, s)} L2048 D{5120 // s} W4", conv_pair, conv,
              (8 // min(8, s), 2048, 5120 // s, 4))]
    for D in (2304, 5120):
        for order in ("cross", "bidirectional"):
            cases.append(("selective_scan_2d", f"B{64 // min(64, s)} 27x27 D{D // s} N16 {order}", map_pair, vmamba,
                          (64 // min(64, s), 27, D // s, 16, order)))
    cases.append(("selective_scan_2d", f"B{128 // min(128, s)} 56x56 D{max(96 // s, 1)} N1 cross", map_pair, vmamba,
                  (128 // min(128, s), 56, max(96 // s, 1), 1, "cross")))

    timer = Timer(options.device, options.seconds)
    print(f"torch {torch.__version__}, {options.device}, {options.dtype}; ms, medians\n")
    print("| op | shape | pass | ours | official | official / ours |\n|---|---|---|---|---|---|")
    for op, shape, make, module, sizes in cases:
        torch.manual_seed(1)
        ours, theirs = make(draw, options, module, *sizes)
        for index, name in enumerate(("forward", "backward")):
            times = timer.in_turn([ours[index]] + ([theirs[index]] if theirs else []))
            other = f"{times[1]:.3f} | {times[1] / times[0]:.2f}" if theirs else "- | -"
            print(f"| {op} | {shape} | {name} | {times[0]:.3f} | {other} |", flush=True)
        del ours, theirs
        if options.device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
