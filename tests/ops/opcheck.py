#!/usr/bin/env python3
"""What Python sees of the ops: torch.library.opcheck, gradcheck in fp64, the meta device, no double backward.

    tests/ops/opcheck.py LIBVLMAMBA_OPS.SO VERSION_OF_ITS_LIBTORCH [name of an op ...]

Exit code 77 (skipped) where this Python has no torch, or one of another release, beside which the library cannot load.
"""

import sys

try:
    import torch
except ImportError:
    print("skipped: this Python has no torch (scripts/setup.sh --python makes one that has)")
    sys.exit(77)

FP32, FP64, BF16, FP16 = torch.float32, torch.float64, torch.bfloat16, torch.float16


class Draw:
    """Random tensors of one type; with `grad`, leaves that require gradients."""

    def __init__(self, dtype, grad=True, seed=0):
        self.dtype, self.grad, self.random = dtype, grad, torch.Generator().manual_seed(seed)
        self.math = FP64 if dtype == FP64 else FP32

    def __call__(self, *shape, dtype=None, scale=1.0, shift=0.0, positive=False):
        values = torch.randn(shape, generator=self.random, dtype=FP64) * scale + shift
        values = (values.abs() + 0.1 if positive else values).to(dtype or self.dtype)
        return values.requires_grad_(self.grad)

    def decay(self, *shape):
        return (-torch.rand(shape, generator=self.random, dtype=FP64) - 0.1).to(self.math).requires_grad_(self.grad)


def selective_scan(d, B=2, L=5, D=4, N=3, G=2, optional=True):
    args = [d(B, L, D), d(B, L, D), d.decay(D, N), d(B, L, G, N), d(B, L, G, N)]
    if not optional:
        return args, {}
    ids = torch.tensor([[-1, 0, 0, 1, 1, -1, 3]], dtype=torch.int32)[:, :L].expand(B, L).contiguous()
    return args + [d(D, dtype=d.math), d(B, L, D), d(D, dtype=d.math), True, d(B, D, N, dtype=d.math), ids], {}


def selective_scan_2d(d, scan="cross", K=4, B=2, D=4, N=2, G=2, H=2, W=3, own_u=False, merge=True, optional=True):
    L = H * W
    args = [d(B, L, K, D) if own_u else d(B, L, D), d(B, L, K, D), d.decay(K, D, N), d(B, L, K, G, N), d(B, L, K, G, N)]
    if optional:
        args += [d(K, D, dtype=d.math), d(K, D, dtype=d.math), True]
    return args, dict(scan=scan, height=H, width=W, merge=merge)


def causal_conv1d(d, B=2, L=6, D=4, W=4, optional=True, activation="silu"):
    args = [d(B, L, D), d(D, W)]
    if optional:
        ids = torch.tensor([[0, 0, 1, 1, -1, 2]], dtype=torch.int32)[:, :L].expand(B, L).contiguous()
        args += [d(D), d(B, W - 1, D), ids]
    return args, dict(activation=activation)


def causal_conv1d_2d(d, scan="cross", K=4, B=2, D=3, W=3, H=2, width=3, own=True, activation="silu"):
    args = [d(B, H * width, D), d(K, D, W) if own else d(D, W), d(K, D) if own else d(D)]
    return args, dict(scan=scan, height=H, width=width, activation=activation)


def selective_state_update(d, B=2, D=4, N=3, G=2):
    return [d(B, D, N, dtype=d.math), d(B, D), d(B, D), d.decay(D, N), d(B, G, N), d(B, G, N), d(D, dtype=d.math),
            d(B, D), d(D, dtype=d.math), True], {}


# Each op with calls of it: a function of Draw that gives arguments and keyword arguments.
SAMPLES = {
    "selective_scan": [selective_scan, lambda d: selective_scan(d, optional=False), lambda d: selective_scan(d, B=0),
                       lambda d: selective_scan(d, L=0), lambda d: selective_scan(d, B=1, D=1, N=1, G=1)],
    "selective_scan_2d": [selective_scan_2d, lambda d: selective_scan_2d(d, "bidirectional", 2, own_u=True, merge=False),
                          lambda d: selective_scan_2d(d, "forward", 1, optional=False),
                          lambda d: selective_scan_2d(d, B=0)],
    "causal_conv1d": [causal_conv1d, lambda d: causal_conv1d(d, optional=False, activation="none"),
                      lambda d: causal_conv1d(d, W=1), lambda d: causal_conv1d(d, L=0), lambda d: causal_conv1d(d, B=0)],
    "causal_conv1d_2d": [causal_conv1d_2d, lambda d: causal_conv1d_2d(d, "bidirectional", 2, own=False, activation="none"),
                         lambda d: causal_conv1d_2d(d, B=0)],
    "rms_norm": [lambda d: ([d(2, 3, 5), d(5, dtype=d.math)], {}), lambda d: ([d(4, 5), d(5)], dict(eps=1e-3)),
                 lambda d: ([d(0, 5), d(5)], {})],
    "add_rms_norm": [lambda d: ([d(2, 3, 5), d(2, 3, 5, dtype=d.math), d(5, dtype=d.math)], {}),
                     lambda d: ([d(4, 5), d(4, 5), d(5)], {}), lambda d: ([d(0, 5), d(0, 5), d(5)], {})],
    "cross_scan": [lambda d: ([d(2, 6, 3)], dict(scan="cross", height=2, width=3)),
                   lambda d: ([d(0, 6, 3)], dict(scan="bidirectional", height=3, width=2))],
    "cross_merge": [lambda d: ([d(2, 4, 6, 3)], dict(scan="cross", height=2, width=3)),
                    lambda d: ([d(2, 1, 6, 3)], dict(scan="forward", height=6, width=1))],
    "selective_state_update": [selective_state_update, lambda d: selective_state_update(d, B=0)],
    "causal_conv1d_update": [lambda d: ([d(2, 3), d(2, 3, 3), d(3, 4), d(3)], dict(activation="silu")),
                             lambda d: ([d(2, 3), d(2, 0, 3), d(3, 1)], {})],
}
INFERENCE_ONLY = ("selective_state_update", "causal_conv1d_update")


def op_named(name):
    return getattr(torch.ops.vlmamba, name).default


def tensors_of(args):
    return [a for a in args if isinstance(a, torch.Tensor)]


def outputs_of(result):
    return list(result) if isinstance(result, (tuple, list)) else [result]


def check_opcheck(name):
    for dtype in (FP32, BF16, FP16, FP64):
        for sample in SAMPLES[name]:
            args, kwargs = sample(Draw(dtype, grad=name not in INFERENCE_ONLY))
            torch.library.opcheck(op_named(name), tuple(args), kwargs)


def check_gradients(name):
    if name in INFERENCE_ONLY:
        args, kwargs = SAMPLES[name][0](Draw(FP32))
        try:
            op_named(name)(*args, **kwargs)
        except RuntimeError as error:
            assert f"[{name}]" in str(error) and "expected no gradient" in str(error), error
            return
        raise AssertionError("an op for inference took inputs that require gradients")
    for sample in SAMPLES[name]:
        args, kwargs = sample(Draw(FP64))
        assert torch.autograd.gradcheck(lambda *a: op_named(name)(*a, **kwargs), args, eps=1e-6, atol=1e-6)


def check_no_double_backward(name):
    if name in INFERENCE_ONLY:
        return
    args, kwargs = SAMPLES[name][0](Draw(FP64))
    leaves = [a for a in tensors_of(args) if a.requires_grad]
    total = sum((y * y).sum() for y in outputs_of(op_named(name)(*args, **kwargs)))
    first = torch.autograd.grad(total, leaves, create_graph=True, allow_unused=True)
    if name in ("cross_scan", "cross_merge"):  # linear: each is the other's gradient, to any order
        torch.autograd.grad(first[0].square().sum(), leaves[0])
        return
    for gradient in first:
        if gradient is None or not gradient.requires_grad:
            continue
        try:
            torch.autograd.grad(gradient.sum(), leaves, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            assert f"[{name}]" in str(error) and "expected a first derivative" in str(error), error
        else:
            raise AssertionError("a second derivative came out, and it would be wrong")


def check_vmap(name):
    """One call after another, by PyTorch's fallback; not where an op writes into an argument."""
    if name in INFERENCE_ONLY:
        return
    args, kwargs = SAMPLES[name][0](Draw(FP64, grad=False))
    pair = torch.stack([args[0], args[0] + 1])
    both = torch.vmap(lambda first: op_named(name)(first, *args[1:], **kwargs))(pair)
    for i, first in enumerate(pair):
        for y, expected in zip(outputs_of(both), outputs_of(op_named(name)(first, *args[1:], **kwargs))):
            assert torch.equal(y[i], expected)


def check_meta(name):
    for dtype in (FP32, BF16, FP64):
        for sample in SAMPLES[name]:
            args, kwargs = sample(Draw(dtype, grad=False))
            meta = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in args]
            for real, shape in zip(outputs_of(op_named(name)(*args, **kwargs)), outputs_of(op_named(name)(*meta, **kwargs))):
                assert shape.is_meta and shape.shape == real.shape and shape.dtype == real.dtype, (real.shape, shape.shape)
                assert shape.stride() == real.stride(), (real.stride(), shape.stride())


def check_errors(name):
    """A wrong rank or size is named with its argument, on every device and in inference mode."""
    args, kwargs = SAMPLES[name][0](Draw(FP32, grad=False))
    wrong = [a.unsqueeze(0) if i == 1 else a for i, a in enumerate(args)]
    if len(tensors_of(args)) == 1:
        wrong, kwargs = args, dict(kwargs, height=kwargs["height"] + 1)
    for device in ("cpu", "meta"):
        moved = [a.to(device) if isinstance(a, torch.Tensor) else a for a in wrong]
        for mode in (torch.no_grad, torch.inference_mode):
            try:
                with mode():
                    op_named(name)(*moved, **kwargs)
            except RuntimeError as error:
                assert f"[{name}]" in str(error) and "expected" in str(error), error
            else:
                raise AssertionError(f"a wrong size went through on {device}")


CHECKS = (check_opcheck, check_gradients, check_no_double_backward, check_vmap, check_meta, check_errors)


def main(library, version, names):
    if torch.__version__.split("+")[0].rsplit(".", 1)[0] != version.rsplit(".", 1)[0]:
        print(f"skipped: this Python has torch {torch.__version__}, the library was built with {version}")
        return 77
    torch.ops.load_library(library)
    failed = 0
    for name in names or SAMPLES:
        for check in CHECKS:
            try:
                check(name)
            except Exception as error:  # every op and check is reported
                failed += 1
                print(f"FAILED {name}: {check.__name__}: {type(error).__name__}: {str(error).strip()[:600]}")
        print(f"{name}: checked", flush=True)
    print(f"opcheck: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
