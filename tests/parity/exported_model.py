#!/usr/bin/env python3
"""What `vlmamba convert --to hf` writes, in Python: the same logits as `vlmamba forward`, and back the same bytes.

    tests/parity/exported_model.py PROGRAM [LIBVLMAMBA_OPS.SO]

Runs of every connector (kind, scan, merge, block) with random weights, sets of weights, norms, encoders and language
models taking turns. Each is exported, loaded with AutoModel, compared, and imported again; then once more with the
library's ops. Exit code 77 (skipped) where this Python has no torch, transformers or pillow.
"""

import hashlib
import itertools
import json
import math
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
work = tempfile.TemporaryDirectory(prefix="vlmamba_exported_")
os.environ["HF_HOME"] = work.name + "/hf"  # where transformers copies the code of models to

try:
    import safetensors.torch
    import torch
    import transformers
    from PIL import Image
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer
except ImportError as missing:
    print(f"skipped: {missing} (scripts/setup.sh --python makes a Python that has all)")
    sys.exit(77)

ROOT = pathlib.Path(__file__).parent.parent.parent
TOLERANCE = 2e-4
SIDE, PATCHES = 13, 9  # three patches of four pixels, and one pixel over

ENCODERS = [
    {"kind": "siglip", "feature_layer": -2},
    {"kind": "clip", "feature_layer": -1},
    {"kind": "clip", "feature_layer": 1, "activation": "gelu", "norm_eps": 1e-3},
    {"kind": "siglip", "feature_layer": 0, "activation": "quick_gelu"},
]
LANGUAGE_MODELS = [
    {"kind": "mamba", "d_state": 4},
    {"kind": "gpt_neox", "tie_embeddings": False, "gpt_neox": {"num_heads": 2, "intermediate_size": 24}},
    {"kind": "mamba2", "d_state": 6, "mamba2": {"head_dim": 4, "num_groups": 2}},
    {"kind": "mamba", "d_state": 3, "d_conv": 3, "expand": 3, "dt_rank": 2, "projection_bias": True, "conv_bias": False,
     "norm_eps": 1e-3, "tie_embeddings": False},
    {"kind": "mamba2", "d_state": 5, "tie_embeddings": False, "norm_eps": 1e-3,
     "mamba2": {"head_dim": 8, "num_groups": 4, "norm_groups": 4, "dt_min": 0.02, "dt_max": 0.6}},
    {"kind": "gpt_neox", "norm_eps": 1e-3, "gpt_neox": {
        "num_heads": 4, "intermediate_size": 36, "parallel_residual": False, "attention_bias": False,
        "activation": "gelu_new", "rotary_fraction": 0.5, "rotary_base": 500}},
    {"kind": "mamba2", "projection_bias": True, "conv_bias": False, "mamba2": {"head_dim": 16, "dt_min": 0.01}},
]


def cases():
    """(name, model section) of every connector; what else there is takes turns."""
    grid = [{"kind": "mlp"}] * 3 + [
        {"kind": kind, "vss": {"scan": scan, "merge": merge, "block": block, "d_state": 3}}
        for kind, scan, merge, block in itertools.product(
            ("vss_mlp", "vss_l2"), ("none", "forward", "bidirectional", "cross"), ("sum", "mean", "concat"),
            ("mamba", "ss2d"))]
    rng = random.Random(1)
    for i, connector in enumerate(grid):
        if "vss" in connector:
            connector["vss"].update(weights=rng.choice(["shared", "per_direction"]),
                                    norm=rng.choice(["layernorm", "rmsnorm"]), width=rng.choice([0, 12]))
            if connector["kind"] == "vss_mlp":
                connector["vss"]["width"] = 0
        model = {"vision_encoder": {"image_size": SIDE, "patch_size": 4, "hidden_size": 12, "intermediate_size": 20,
                                    "num_layers": 2, "num_heads": 2, **ENCODERS[i % len(ENCODERS)]},
                 "connector": connector,
                 "language_model": {"vocab_size": 465, "hidden_size": 16, "num_layers": 2,
                                    **LANGUAGE_MODELS[i % len(LANGUAGE_MODELS)]}}
        words = [connector["kind"], *map(str, connector.get("vss", {}).values()), model["vision_encoder"]["kind"],
                 model["language_model"]["kind"]]
        yield f"{i:02}", " ".join(words), model


def make_data(folder):
    Image.new("RGB", (8, 8), (200, 30, 90)).save(folder / "a.png")
    (folder / "records.json").write_text(json.dumps([{"id": "1", "image": "a.png", "conversations": [
        {"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "3"}]}]))


def call(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stderr}")


def filled(name, tensor):
    """Values of a size that tells a wrong formula from rounding."""
    if name.endswith(("A_log", "A_logs")):
        return tensor + 0.3 * torch.randn_like(tensor)
    if name.endswith(("dt_proj.bias", "dt_bias", "dt_projs_bias")):
        return torch.randn_like(tensor) - 2
    if tensor.dim() >= 2:
        return torch.randn_like(tensor) * (0.8 if "embed" in name else 1.2 / math.sqrt(max(tensor[0].numel(), 4)))
    if name.endswith(("weight", "D", "Ds")):
        return 1 + 0.3 * torch.randn_like(tensor)
    return 0.2 * torch.randn_like(tensor)


def randomise(step):
    weights, manifest = step / "model.safetensors", step / "manifest.json"
    tensors = safetensors.torch.load_file(weights)
    safetensors.torch.save_file({name: filled(name, tensor) for name, tensor in tensors.items()}, weights)
    record = json.loads(manifest.read_text())
    data = weights.read_bytes()
    record["files"]["model.safetensors"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest.write_text(json.dumps(record))


def make_checkpoint(program, folder, model):
    config = {"tokenizer": str(ROOT / "configs/quickstart/tokenizer.json"), "model": model,
              "image_processor": {"size": SIDE}, "prompt": {"system": ""}, "output_dir": str(folder / "run"), "data_root": str(folder.parent),
              "stages": [{"name": "one", "steps": 1, "trainable": ["vision_encoder", "connector", "language_model"],
                          "data": {"sets": [{"name": "a", "records": "records.json"}]},
                          "batch": {"global_batch": 1, "micro_batch": 1, "max_length": 64, "loader_threads": 0}}]}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    call(program, "train", "--config", folder / "config.json")
    step, = (folder / "run/one/checkpoints").glob("step_*")
    randomise(step)
    return step


def inputs():
    """A batch of two with a picture each, once as one id, once as an id a patch; with two pictures in one row and none in
    the other; and text alone."""
    ids = torch.randint(2, 465, (2, 9))
    ids[0, 2] = ids[1, 5] = -200
    pixels = torch.randn(2, 3, SIDE, SIDE)
    rows = [row.repeat_interleave(torch.where(row == -200, PATCHES, 1)) for row in ids]
    uneven = ids.clone()
    uneven[0, 5], uneven[1, 5] = -200, 7
    return {"once": {"input_ids": ids, "pixel_values": pixels},
            "uneven": {"input_ids": uneven, "pixel_values": pixels},
            "each": {"input_ids": torch.stack(rows), "pixel_values": pixels},
            "text": {"input_ids": torch.randint(2, 465, (3, 7))}}


def logits_of(program, checkpoint, tensors, folder):
    safetensors.torch.save_file(tensors, folder / "in.safetensors")
    call(program, "forward", "--checkpoint", checkpoint, "--input", folder / "in.safetensors", "--output",
         folder / "out.safetensors")
    return safetensors.torch.load_file(folder / "out.safetensors")["logits"]


def difference(got, expected, ids=None):
    """Of the real logits: behind them are rows that pad the vocabulary, and behind a short row of ids positions."""
    if got.shape != expected.shape:
        raise RuntimeError(f"expected logits {list(expected.shape)}, got {list(got.shape)}")
    lengths = [got.size(1)] * got.size(0)
    if ids is not None and (ids == -200).sum() <= 2:  # a picture is one id
        lengths = [row.numel() + int((row == -200).sum()) * (PATCHES - 1) for row in ids]
    pairs = [(a[:length, :465], b[:length, :465]) for a, b, length in zip(got, expected, lengths)]
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


def refusals():
    """Inputs that the program refuses, and what it and the Python both say of them."""
    ids, pixels, each = torch.full((1, 5), 3), torch.zeros(1, 3, SIDE, SIDE), torch.tensor([[3, -200, 4, 5, 6]])
    return [({"input_ids": each}, "[input_ids] expected -200 once a picture (0) or once a patch (0), got 1"),
            ({"input_ids": ids, "pixel_values": pixels},
             f"[input_ids] expected -200 once a picture (1) or once a patch ({PATCHES}), got 0"),
            ({"input_ids": torch.tensor([[3, -7]])}, "[input_ids] expected ids of 0 to 471, or -200 for a picture, got -7"),
            ({"input_ids": ids + 469}, "[input_ids] expected ids of 0 to 471, or -200 for a picture, got 472"),
            ({"input_ids": each, "pixel_values": pixels[..., 1:].contiguous()}, f"[pixel_values] expected [I, 3, {SIDE}, {SIDE}]"),
            ({"input_ids": ids.float()}, "input_ids] expected integers"),
            ({"input_ids": ids, "attention_mask": ids.clone()}, "attention_mask] expected values of 0 and 1"),
            ({"input_ids": ids, "attention_mask": torch.ones(1, 4)}, "attention_mask] expected the shape of input_ids")]


class Case:
    def __init__(self, program, root, name, words, model):
        self.words, self.folder = words, root / name
        self.step = make_checkpoint(program, self.folder, model)
        self.exported = self.folder / "exported"
        call(program, "convert", "--input", self.folder / "run", "--output", self.exported, "--to", "hf")
        self.inputs = inputs()
        self.expected = {kind: logits_of(program, self.step, tensors, self.folder)
                         for kind, tensors in self.inputs.items()}

    def worst(self):
        model, loading = AutoModel.from_pretrained(self.exported, trust_remote_code=True, output_loading_info=True)
        wrong = {kind: names for kind, names in loading.items() if names}
        if wrong:
            raise RuntimeError(f"{self.words}: {wrong}")
        with torch.no_grad():
            return max(difference(model(**tensors).logits, self.expected[kind], tensors["input_ids"])
                       for kind, tensors in self.inputs.items())

    def refuses(self, program):
        """What one of the two refuses, so does the other."""
        model = AutoModel.from_pretrained(self.exported, trust_remote_code=True)
        for tensors, says in refusals():
            try:
                logits_of(program, self.step, tensors, self.folder)
                raise AssertionError(f"{self.words}: the program takes what it should refuse: {says}")
            except RuntimeError as error:
                if "exit code 3" not in str(error) or says.removeprefix("[") not in str(error):
                    raise AssertionError(f"{self.words}: expected {says}, got {error}") from error
            try:
                model(**tensors)
                raise AssertionError(f"{self.words}: the Python takes what it should refuse: {says}")
            except ValueError as error:
                if says not in str(error):
                    raise AssertionError(f"{self.words}: expected {says}, got {error}") from error

    def learns(self):
        """Labels of the ids as they are given are stretched as these are: the loss is that of an id a patch."""
        model = AutoModel.from_pretrained(self.exported, trust_remote_code=True)
        once, each = self.inputs["once"], self.inputs["each"]
        with torch.no_grad():
            short = model(**once, labels=once["input_ids"])
            long = model(**each, labels=torch.where(each["input_ids"] == -200, -100, each["input_ids"]))
        return abs(short.loss.item() / long.loss.item() - 1)

    def speaks(self):
        """The tokenizer loads as the model card says."""
        tokenizer = AutoTokenizer.from_pretrained(self.exported, trust_remote_code=True)
        ids = tokenizer("is there a 3?", add_special_tokens=False)["input_ids"]
        if tokenizer.decode(ids) != "is there a 3?" or tokenizer.eos_token_id != 0:
            raise RuntimeError(f"{self.words}: the tokenizer says {ids}")

    def alone(self, program):
        """The language model alone, in transformers' own class."""
        folder = self.exported / "language_model"
        if not folder.exists():
            return 0.0
        with torch.no_grad():
            logits = AutoModelForCausalLM.from_pretrained(folder)(**self.inputs["text"]).logits
        return max(difference(logits, self.expected["text"]),
                   difference(logits_of(program, folder, self.inputs["text"], self.folder), self.expected["text"]))

    def projector(self, program):
        """LLaVA reads torch files alone."""
        call(program, "convert", "--input", self.step, "--output", self.folder / "llava", "--to", "llava-projector")
        got = torch.load(self.folder / "llava/mm_projector.bin", weights_only=True)
        ours = safetensors.torch.load_file(self.step / "model.safetensors")
        for layer, name in (("0", "fc1"), ("2", "fc2")):
            for kind in ("weight", "bias"):
                if not torch.equal(got.pop(f"model.mm_projector.{layer}.{kind}"), ours[f"connector.{name}.{kind}"]):
                    raise RuntimeError(f"{self.words}: mm_projector.bin has another {name}.{kind}")
        if got:
            raise RuntimeError(f"{self.words}: mm_projector.bin also has {list(got)}")

    def returns(self, program):
        back = self.folder / "back"
        call(program, "convert", "--input", self.exported, "--output", back, "--to", "checkpoint")
        for file in ("model.safetensors", "config.json", "tokenizer.json", "state.json"):
            if (back / file).read_bytes() != (self.step / file).read_bytes():
                raise RuntimeError(f"{self.words}: {file} came back with other bytes")


def main(program, library=None):
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(3)
    torch.set_num_threads(1)
    root = pathlib.Path(work.name)
    make_data(root)
    made, failed = [], 0

    def report(kind, case, error):
        nonlocal failed
        bad = not error <= TOLERANCE  # NaN is bad too
        failed += bad
        print(f"{'FAILED' if bad else 'ok':6} {kind:9} {error:.1e}  {case.words}", flush=True)

    for name, words, model in cases():
        case = Case(program, root, name, words, model)
        report("plain", case, case.worst())
        report("alone", case, case.alone(program))
        case.returns(program)
        if not made:
            case.speaks()
        if len(made) % 8 == 0:
            case.refuses(program)
            report("labels", case, case.learns())
        if model["connector"]["kind"] == "mlp":
            case.projector(program)
        made.append(case)
    if library:
        torch.ops.load_library(library)
        for case in made:
            report("with ops", case, case.worst())
    print(f"{len(made)} models, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
