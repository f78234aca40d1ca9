#!/usr/bin/env python3
"""Random checkpoints of transformers against this program: other configurations than the committed ones.

    tests/parity/random_checkpoints.py PROGRAM [COUNT [SEED]]

COUNT (35) models of random sizes, options, file formats and stored types, in turn of CLIP, SigLIP, Mamba, mamba_ssm's
Mamba, Mamba-2, mamba_ssm's Mamba-2 and GPT-NeoX: features or logits within 2e-4 of their scale, with padding on either
side too, bf16 within twice the rounding of transformers in bf16, greedy continuations identical; Mambas converted to the
other format give the same logits there, and come back with the same bytes. Prints a line for each model and the worst
errors. Exit code 77 (skipped) where this Python has no torch or transformers.
"""

import json
import math
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
try:
    import safetensors.torch
    import torch
    import transformers
    from transformers import (CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, CLIPVisionModel, GPTNeoXConfig,
                              GPTNeoXForCausalLM, Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM,
                              SiglipConfig, SiglipModel, SiglipTextConfig, SiglipVisionConfig, SiglipVisionModel)
except ImportError as missing:
    print(f"skipped: {missing} (scripts/setup.sh --python makes a Python that has all)")
    sys.exit(77)

TOLERANCE = 2e-4
ACTIVATIONS = ["quick_gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu"]


def fill(model):
    """Values of a size that tells a wrong formula from rounding."""
    for name, p in model.named_parameters():
        with torch.no_grad():
            if name.endswith("A_log"):
                p.add_(0.3 * torch.randn_like(p))
            elif name.endswith(("dt_proj.bias", "dt_bias")):
                p.copy_(torch.randn_like(p) - 2)
            elif p.dim() >= 2:
                p.normal_(0, 1.2 / math.sqrt(max(p[0].numel(), 4)) if "embed" not in name else 0.8)
            elif name.endswith("weight") or name.endswith("D"):
                p.copy_(1 + 0.3 * torch.randn_like(p))
            else:
                p.normal_(0, 0.2)
    return model.eval()


def cast(model, dtype):
    """As from_pretrained: the parameters alone, since rotary frequencies stay in fp32."""
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.to(dtype)
    for name, buffer in kept.items():
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, buffer)
    return model


def vision(rng, clip):
    heads, patch = rng.randint(1, 4), rng.randint(2, 9)
    image = patch * rng.randint(1, 4) + rng.randrange(patch)
    config = dict(hidden_size=heads * rng.randint(2, 9), num_attention_heads=heads, intermediate_size=rng.randint(3, 40),
                  num_hidden_layers=rng.randint(1, 4), image_size=image, patch_size=patch,
                  hidden_act=rng.choice(ACTIVATIONS), layer_norm_eps=rng.choice([1e-6, 1e-5, 1e-3]))
    text = dict(hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2, vocab_size=11,
                max_position_embeddings=9)
    whole = rng.random() < 0.5
    if clip:
        part = CLIPVisionConfig(**config)
        model = CLIPModel(CLIPConfig(text_config=CLIPTextConfig(**text).to_dict(), vision_config=part.to_dict(),
                                     projection_dim=5)) if whole else CLIPVisionModel(part)
    else:
        part = SiglipVisionConfig(**config)
        model = SiglipModel(SiglipConfig(text_config=SiglipTextConfig(**text).to_dict(),
                                         vision_config=part.to_dict())) if whole else SiglipVisionModel(part)
    return model, {**config, "whole": whole}


def ends(rng):
    """An id, several, or none."""
    return rng.choice([rng.randrange(9), rng.randrange(9), rng.sample(range(9), 3), None])


def mamba(rng, official=False):
    hidden = rng.randint(3, 40)
    config = dict(vocab_size=rng.randint(9, 60), hidden_size=hidden, state_size=rng.randint(1, 17),
                  num_hidden_layers=rng.randint(1, 3), conv_kernel=rng.randint(2, 5), expand=rng.randint(1, 3),
                  use_bias=rng.random() < 0.3, use_conv_bias=rng.random() < 0.7,
                  time_step_rank=rng.choice(["auto", rng.randint(1, 7)]), residual_in_fp32=rng.random() < 0.7,
                  layer_norm_epsilon=1e-5 if official else rng.choice([1e-6, 1e-5, 1e-5, 1e-3]),
                  tie_word_embeddings=rng.random() < 0.5, eos_token_id=ends(rng))
    if official:
        config.update(vocab_size=8 * rng.randint(2, 7))
    return MambaForCausalLM(MambaConfig(**config)), config


def mamba2(rng, official=False):
    head_dim, groups = rng.randint(1, 8), 1 if official else rng.randint(1, 3)
    heads, expand = groups * rng.randint(1, 4), rng.randint(1, 3)
    while heads * head_dim % expand:
        heads += groups
    config = dict(vocab_size=rng.randint(9, 60), hidden_size=heads * head_dim // expand, state_size=rng.randint(1, 17),
                  num_hidden_layers=rng.randint(1, 3), conv_kernel=rng.randint(2, 5), expand=expand, num_heads=heads,
                  head_dim=head_dim, n_groups=groups, chunk_size=rng.choice([2, 4, 16, 256]), use_bias=rng.random() < 0.3,
                  use_conv_bias=rng.random() < 0.7, residual_in_fp32=rng.random() < 0.7,
                  layer_norm_epsilon=1e-5 if official else rng.choice([1e-6, 1e-5, 1e-5, 1e-3]),
                  tie_word_embeddings=rng.random() < 0.5, eos_token_id=ends(rng))
    if official:
        config.update(vocab_size=8 * rng.randint(2, 7))
    if rng.random() < 0.5:
        config["time_step_limit"] = (rng.choice([0.0, 0.01, 0.1]), rng.choice([0.2, 1.0, float("inf")]))
    return Mamba2ForCausalLM(Mamba2Config(**config)), config


def gpt_neox(rng):
    heads = rng.randint(1, 5)
    config = dict(vocab_size=rng.randint(9, 60), hidden_size=heads * rng.randint(2, 12), num_hidden_layers=rng.randint(1, 3),
                  num_attention_heads=heads, intermediate_size=rng.randint(3, 50), hidden_act=rng.choice(ACTIVATIONS),
                  use_parallel_residual=rng.random() < 0.5, attention_bias=rng.random() < 0.7,
                  layer_norm_eps=rng.choice([1e-6, 1e-5, 1e-3]), tie_word_embeddings=rng.random() < 0.5,
                  rope_parameters={"rope_type": "default", "rope_theta": rng.choice([100.0, 10000.0, 500000.0]),
                                   "partial_rotary_factor": rng.choice([0.25, 0.3, 0.5, 0.8, 1.0])},
                  eos_token_id=ends(rng))
    while (rotated := int(config["hidden_size"] // heads * config["rope_parameters"]["partial_rotary_factor"])) % 2 and rotated > 1:
        config["hidden_size"] += heads  # transformers rotates pairs of channels, or one alone
    return GPTNeoXForCausalLM(GPTNeoXConfig(**config)), config


KINDS = [("CLIP", lambda rng: vision(rng, True)), ("SigLIP", lambda rng: vision(rng, False)), ("Mamba", mamba),
         ("Mamba official", lambda rng: mamba(rng, official=True)), ("Mamba-2", mamba2),
         ("Mamba-2 official", lambda rng: mamba2(rng, official=True)), ("GPT-NeoX", gpt_neox)]


def save_bin(state, folder, shards):
    state = {name: tensor.clone() for name, tensor in state.items()}
    if not shards:
        return torch.save(state, folder / "pytorch_model.bin")
    names, half = list(state), len(state) // 2
    index = {}
    for number, part in enumerate((names[:half], names[half:])):
        file = f"pytorch_model-{number + 1:05}-of-00002.bin"
        torch.save({name: state[name] for name in part}, folder / file)
        index.update({name: file for name in part})
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))


def save(model, folder, form):
    model.save_pretrained(folder, max_shard_size="2KB" if form == "safetensors shards" else "1GB")
    if "bin" not in form:
        return
    tied = getattr(model, "_tied_weights_keys", None) and model.config.get_text_config().tie_word_embeddings
    for file in folder.glob("*.safetensors"):
        file.unlink()
    heads = ("lm_head.weight", "embed_out.weight")
    save_bin({name: value for name, value in model.state_dict().items() if not (tied and name in heads)}, folder,
             form == "bin shards")


def save_official(model, folder, rng):
    c = model.config
    state = {k.replace("backbone.embeddings.", "backbone.embedding."): v for k, v in model.state_dict().items()}
    torch.save(state, folder / "pytorch_model.bin")
    ssm = {"d_state": c.state_size, "d_conv": c.conv_kernel, "expand": c.expand, "bias": c.use_bias, "conv_bias": c.use_conv_bias}
    if c.model_type == "mamba":
        ssm["dt_rank"] = c.time_step_rank
    else:
        ssm.update(layer="Mamba2", headdim=c.head_dim, dt_limit=list(c.time_step_limit))
    (folder / "config.json").write_text(json.dumps({
        "d_model": c.hidden_size, "n_layer": c.num_hidden_layers, "vocab_size": c.vocab_size - rng.randrange(8),
        "ssm_cfg": ssm, "rms_norm": True, "residual_in_fp32": c.residual_in_fp32, "fused_add_norm": True,
        "pad_vocab_size_multiple": 8, "tie_embeddings": c.tie_word_embeddings}))
    return {"vocab_size": json.loads((folder / "config.json").read_text())["vocab_size"], "eos": 0}


class Program:
    def __init__(self, path, folder):
        self.path, self.folder = path, folder

    def call(self, *arguments):
        done = subprocess.run([self.path, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, arguments))}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def forward(self, checkpoint, tensors, *more):
        source, result = self.folder / "in.safetensors", self.folder / "out.safetensors"
        safetensors.torch.save_file({k: v.contiguous() for k, v in tensors.items()}, source)
        self.call("forward", "--checkpoint", checkpoint, "--input", source, "--output", result, *more)
        return next(iter(safetensors.torch.load_file(result).values()))

    def generate(self, checkpoint, prompt, count):
        out = self.call("generate", "--checkpoint", checkpoint, "--prompt-ids", ",".join(map(str, prompt)),
                        "--max-new-tokens", count, "--temperature", 0, "--print-ids")
        return [int(part) for part in out.strip().split(",")]


def error(got, expected):
    return ((got - expected).abs().max() / expected.abs().max()).item()


def rounding(got, reference, exact):
    """Our error in bf16 as a share of transformers': by its mean square, since the largest of a few values is chance."""
    return ((got - exact).square().mean() / (reference - exact).square().mean().clamp_min(1e-18)).sqrt().item()


def compare_vision(program, checkpoint, model, config, rng):
    tower = model if hasattr(model, "embeddings") else model.vision_model
    layers, clip = config["num_hidden_layers"], isinstance(tower, CLIPVisionModel)
    layer = rng.randint(-layers - 1, layers)
    pixels = torch.randn(2, 3, config["image_size"], config["image_size"])

    def features(dtype):
        with torch.no_grad():
            states = cast(tower, dtype)(pixels.to(dtype), output_hidden_states=True).hidden_states
        return states[layer][:, 1 if clip else 0:].float()

    exact, low = features(torch.float32), features(torch.bfloat16)
    run = lambda *more: program.forward(checkpoint, {"pixel_values": pixels}, "--layer", layer, *more)
    return {"fp32": error(run(), exact), "bf16": rounding(run("--dtype", "bfloat16"), low, exact)}


def greedy(model, prompt, count, vocab_size, eos):
    """transformers' most probable ids, and the smallest lead that one of them had."""
    stops = eos if isinstance(eos, list) else [eos]
    ids, lead = list(prompt), math.inf
    for _ in range(count):
        with torch.no_grad():
            scores = model(torch.tensor([ids])).logits[0, -1, :vocab_size].float()
        best = scores.topk(2)
        lead = min(lead, (best.values[0] - best.values[1]).item())
        ids.append(int(best.indices[0]))
        if ids[-1] in stops:
            break
    return ids[len(prompt):], lead


def compare_language(program, checkpoint, model, vocab_size, eos, rng):
    ids = torch.randint(0, vocab_size, (2, rng.randint(2, 13)))
    right, left = torch.ones_like(ids), torch.ones_like(ids)
    cut = rng.randrange(1, ids.size(1))
    right[1, cut:] = 0
    left[1, :-cut] = 0
    with torch.no_grad():
        exact, shorter = model(ids).logits.float(), model(ids[1:, -cut:]).logits.float()
    errors = {"fp32": error(program.forward(checkpoint, {"input_ids": ids}), exact)}
    got = program.forward(checkpoint, {"input_ids": ids, "attention_mask": right})
    errors["right"] = max(error(got[0], exact[0]), error(got[1, :cut], exact[1, :cut]))
    got = program.forward(checkpoint, {"input_ids": ids, "attention_mask": left})
    errors["left"] = max(error(got[0], exact[0]), error(got[1:, -cut:], shorter))
    prompt = [rng.randrange(vocab_size) for _ in range(rng.randint(1, 6))]
    expected, lead = greedy(model, prompt, 12, vocab_size, eos)
    produced = program.generate(checkpoint, prompt, 12)
    errors["greedy"] = 0.0 if produced == expected or lead < 1e-4 else math.inf
    with torch.no_grad():
        low = cast(model, torch.bfloat16)(ids).logits.float()
    errors["bf16"] = rounding(program.forward(checkpoint, {"input_ids": ids}, "--dtype", "bfloat16"), low, exact)
    return errors


def stored_tensors(folder):
    if (folder / "pytorch_model.bin").exists():
        return torch.load(folder / "pytorch_model.bin", weights_only=True)
    files = sorted(folder.glob("model*.safetensors"))
    if files:
        return {name: tensor for file in files for name, tensor in safetensors.torch.load_file(file).items()}
    return {name: tensor for file in sorted(folder.glob("*.bin")) for name, tensor in torch.load(file, weights_only=True).items()}


def round_trip(program, folder, model):
    """The other format gives the same logits, and the way back the same bytes; or it is refused for what it cannot say."""
    official, config = not hasattr(model, "saved"), model.config
    there, back = folder.with_name(folder.name + "_there"), folder.with_name(folder.name + "_back")
    arguments = ["convert", "--input", folder, "--output", there, "--to", "hf" if official else "official"]
    if config.layer_norm_epsilon != 1e-5 or getattr(config, "n_groups", 1) > 1:
        done = subprocess.run([program.path, *map(str, arguments)], capture_output=True, text=True)
        return 0.0 if done.returncode == 4 and not there.exists() and "expected 1" in done.stderr else math.inf
    program.call(*arguments)
    program.call("convert", "--input", there, "--output", back, "--to", "official" if official else "hf")
    before, after = stored_tensors(folder), stored_tensors(back)
    same = before.keys() == after.keys() and all(
        before[name].dtype == after[name].dtype and torch.equal(before[name], after[name]) for name in before)
    same = same and (folder / "config.json").read_bytes() == (back / "config.json").read_bytes()
    ids = torch.randint(0, 9, (1, 7))
    with torch.no_grad():
        exact = model(ids).logits.float()
        if official:
            again = type(model).from_pretrained(there, dtype=torch.float32)
            same = same and error(again(ids).logits, exact) <= TOLERANCE and again.config.residual_in_fp32 == config.residual_in_fp32
    return error(program.forward(there, {"input_ids": ids}), exact) if same else math.inf


def one(program, root, number, seed):
    rng = random.Random(1000 * seed + number)
    torch.manual_seed(1000 * seed + number)
    kind, make = KINDS[number % len(KINDS)]
    model, config = make(rng)
    stored = rng.choice([torch.float32, torch.float32, torch.bfloat16, torch.float16])
    form = rng.choice(["safetensors", "safetensors shards", "bin", "bin shards"])
    cast(fill(model), stored)
    folder = root / str(number)
    folder.mkdir()
    eos, vocab_size = config.get("eos_token_id"), config.get("vocab_size")
    if kind.endswith("official"):
        form = "bin"
        said = save_official(model, folder, rng)
        eos, vocab_size = said["eos"], said["vocab_size"]
    else:
        save(model, folder, form)
        model.saved = True
    cast(model, torch.float32)
    if "image_size" in config:
        errors = compare_vision(program, folder, model, config, rng)
    else:
        trip = round_trip(program, folder, model) if "Mamba" in kind else 0.0
        errors = {**compare_language(program, folder, model, vocab_size, eos, rng), "converted": trip}
    return kind, errors, f"{form}, {str(stored).removeprefix('torch.')}, {config}"


def main(path, count=35, seed=1):
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    worst, failed = {}, 0
    with tempfile.TemporaryDirectory(prefix="vlmamba_random_") as work:
        program = Program(path, pathlib.Path(work))
        for number in range(count):
            kind, errors, words = one(program, pathlib.Path(work), number, seed)
            bad = [what for what, value in errors.items() if not value <= (2 if what == "bf16" else TOLERANCE)]
            failed += bool(bad)
            text = " ".join(f"{what} {value:.1e}" for what, value in errors.items())
            print(f"{'FAILED' if bad else 'ok':6} {kind:16} {text}" + (f"\n       {words}" if bad else ""), flush=True)
            for what, value in errors.items():
                worst[kind, what] = max(value, worst.get((kind, what), 0))
    for kind, _ in KINDS:
        print(f"worst  {kind:16} " + " ".join(f"{what} {value:.1e}" for (k, what), value in worst.items() if k == kind))
    print(f"{count} models, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:4])))
