#!/usr/bin/env python3
"""Loads a checkpoint of 2.8 billion parameters in mamba_ssm's form and generates from it; checks the peak of memory.

    tests/parity/large_checkpoint.py PROGRAM [FOLDER]

Writes FOLDER/pytorch_model.bin (5.5 GB of fp16, as torch.save lays it out, by Python's own zip and pickle: no torch is
needed), runs `PROGRAM generate`, and fails unless the peak stays below 1.2 times the model in fp32. The tensors are one
random block over and over.
"""

import collections
import io
import json
import pickle
import pathlib
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import types
import zipfile

WIDTH, LAYERS, INNER, STATES, RANK, ROWS = 2560, 64, 5120, 16, 160, 50280
BLOCK = 1 << 20


def shapes():
    yield "backbone.embedding.weight", (ROWS, WIDTH)
    for i in range(LAYERS):
        layer = f"backbone.layers.{i}."
        yield layer + "norm.weight", (WIDTH,)
        for name, shape in {"A_log": (INNER, STATES), "D": (INNER,), "in_proj.weight": (2 * INNER, WIDTH),
                            "conv1d.weight": (INNER, 1, 4), "conv1d.bias": (INNER,),
                            "x_proj.weight": (RANK + 2 * STATES, INNER), "dt_proj.weight": (INNER, RANK),
                            "dt_proj.bias": (INNER,), "out_proj.weight": (WIDTH, INNER)}.items():
            yield layer + "mixer." + name, shape
    yield "backbone.norm_f.weight", (WIDTH,)


def count(shape):
    product = 1
    for extent in shape:
        product *= extent
    return product


def fake_torch():
    """Names that pickle writes; nothing of torch itself."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.HalfStorage = type("HalfStorage", (), {"__module__": "torch"})

    def _rebuild_tensor_v2(*arguments):
        return arguments

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = utils
    sys.modules["torch"], sys.modules["torch._utils"] = torch, utils
    return torch


class Storage:
    def __init__(self, key, size):
        self.key, self.size = key, size


class Tensor:
    def __init__(self, storage, shape):
        self.storage, self.shape = storage, shape

    def __reduce__(self):
        strides, stride = [], 1
        for extent in reversed(self.shape):
            strides.insert(0, stride)
            stride *= extent
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (self.storage, 0, self.shape, tuple(strides), False,
                                                                collections.OrderedDict())


def pickled(state, torch):
    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            return ("storage", torch.HalfStorage, thing.key, "cpu", thing.size) if isinstance(thing, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(state)
    return buffer.getvalue()


def write(folder):
    state = collections.OrderedDict()
    for key, (name, shape) in enumerate(shapes()):
        state[name] = Tensor(Storage(str(key), count(shape)), shape)
    state["lm_head.weight"] = Tensor(state["backbone.embedding.weight"].storage, (ROWS, WIDTH))
    rng = random.Random(1)
    block = struct.pack(f"<{BLOCK // 2}e", *(rng.gauss(0, 0.02) for _ in range(BLOCK // 2)))
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model/data.pkl", pickled(state, fake_torch()))
        archive.writestr("model/byteorder", "little")
        for key, (_, shape) in enumerate(shapes()):
            left = 2 * count(shape)
            with archive.open(f"model/data/{key}", "w", force_zip64=True) as record:
                while left > 0:
                    record.write(block[:left])
                    left -= min(left, BLOCK)
    (folder / "config.json").write_text(json.dumps({
        "d_model": WIDTH, "n_layer": LAYERS, "vocab_size": 50277, "ssm_cfg": {}, "rms_norm": True,
        "residual_in_fp32": True, "fused_add_norm": True, "pad_vocab_size_multiple": 8}))


def main():
    program = sys.argv[1]
    folder = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="vlmamba_2_8b_"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write(folder)
        begin = time.monotonic()
        done = subprocess.run([program, "generate", "--checkpoint", str(folder), "--prompt-ids", "5,9,12",
                               "--max-new-tokens", "3", "--temperature", "0", "--print-ids"],
                              check=True, capture_output=True, text=True)
        seconds = time.monotonic() - begin
    finally:
        shutil.rmtree(folder)
    model = 4 * sum(count(shape) for _, shape in shapes())
    peak = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"ids {done.stdout.strip()}, model {model / 2**30:.2f} GiB, peak {peak / 2**30:.2f} GiB, ratio {peak / model:.3f}, "
          f"{seconds:.0f} s to load and generate")
    ids = [int(part) for part in done.stdout.strip().split(",")]
    assert 1 <= len(ids) <= 3 and all(0 <= i < 50277 for i in ids), ids
    assert peak <= 1.2 * model, "more than 1.2 times the model"


if __name__ == "__main__":
    main()
