#!/usr/bin/env python3
"""Published folders in this program and in the original libraries, side by side; scripts/check_real_weights.sh runs it.

    tests/parity/real_weights.py PROGRAM FOLDER…
    tests/parity/real_weights.py PROGRAM --self-test

A folder of CLIP, SigLIP, Mamba (of transformers or mamba_ssm), Mamba-2 or GPT-NeoX: its features or logits and a greedy
continuation, its preprocessor_config.json on pictures of many shapes, its tokenizer.json on many texts, whichever are
there. Prints one table; exit code 1 if anything differs, 77 where this Python lacks a library. --self-test makes tiny
random folders with transformers and checks those.
"""

import gc
import json
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
    from PIL import Image
    from tokenizers import Tokenizer
    from transformers import (AutoModel, AutoModelForCausalLM, CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel,
                              GPTNeoXConfig, GPTNeoXForCausalLM, Mamba2Config, Mamba2ForCausalLM, MambaConfig,
                              MambaForCausalLM, SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel)
except ImportError as missing:
    print(f"skipped: {missing} (scripts/setup.sh --python makes a Python that has all)")
    sys.exit(77)

ROOT = pathlib.Path(__file__).parent.parent.parent
LANGUAGE_TYPES, VISION_TYPES = ("mamba", "mamba2", "gpt_neox"), ("clip", "clip_vision_model", "siglip", "siglip_vision_model")
TEXTS = ["What is in the picture?", "  two  spaces\n\n\tand a tab ", "don't we'll I'm", "naïve é e\u0301 東京 🦙",
         "Answer with the option's letter from the given choices directly.", "x" * 300, "12345 6,789.0 <|endoftext|> end"]


class Program:
    def __init__(self, path, folder):
        self.path, self.folder = path, folder

    def call(self, *arguments, text=None):
        done = subprocess.run([self.path, *map(str, arguments)], input=text, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def forward(self, checkpoint, name, tensor):
        source, result = self.folder / "in.safetensors", self.folder / "out.safetensors"
        safetensors.torch.save_file({name: tensor.contiguous()}, source)
        self.call("forward", "--checkpoint", checkpoint, "--input", source, "--output", result)
        return next(iter(safetensors.torch.load_file(result).values()))


def share(got, expected):
    return ((got - expected).abs().max() / expected.abs().max()).item()


def official_model(folder, config):
    """mamba_ssm's file in transformers' class."""
    ssm = config.get("ssm_cfg") or {}
    if ssm.get("layer", "Mamba1") != "Mamba1":
        raise RuntimeError("transformers' Mamba-2 has another norm than mamba_ssm's")
    state = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
    state = {name.replace("backbone.embedding.", "backbone.embeddings."): value for name, value in state.items()}
    rows, width = state["backbone.embeddings.weight"].shape
    model = MambaForCausalLM(MambaConfig(
        vocab_size=rows, hidden_size=width, num_hidden_layers=config["n_layer"], state_size=ssm.get("d_state", 16),
        conv_kernel=ssm.get("d_conv", 4), expand=ssm.get("expand", 2), use_bias=ssm.get("bias", False),
        use_conv_bias=ssm.get("conv_bias", True), time_step_rank=ssm.get("dt_rank", "auto"),
        tie_word_embeddings=config.get("tie_embeddings", True), eos_token_id=0))
    model.load_state_dict(state)
    return model.float()


def check_language(program, folder, config):
    if "d_model" in config and "model_type" not in config:
        model = official_model(folder, config)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rows = model.get_input_embeddings().weight.shape[0]
    known = min(rows, config["vocab_size"])
    if (folder / "tokenizer.json").exists():
        known = min(known, Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size())
    ids = torch.randint(0, known, (1, 16))
    eos = model.generation_config.eos_token_id
    ends = set(eos if isinstance(eos, list) else [eos])
    with torch.no_grad():
        logits, answer, longer = model.eval()(ids).logits.float(), [], ids
        while len(answer) < 8 and not (answer and answer[-1] in ends):
            answer.append(int(model(longer).logits[0, -1, :known].argmax()))
            longer = torch.cat([longer, torch.tensor([[answer[-1]]])], 1)
    del model
    gc.collect()
    yield "logits, 16 ids", share(program.forward(folder, "input_ids", ids), logits), 2e-4
    produced = program.call("generate", "--checkpoint", folder, "--prompt-ids", ",".join(map(str, ids[0].tolist())),
                            "--max-new-tokens", 8, "--temperature", 0, "--print-ids")
    yield "greedy, ids that differ", sum(a != b for a, b in zip(
        [int(part) for part in produced.split(",")] + [-1] * 8, answer + [-1] * 8)), 0


def check_vision(program, folder, config):
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tower = model if hasattr(model, "embeddings") else model.vision_model
    size = tower.config.image_size
    pixels = torch.randn(2, 3, size, size)
    with torch.no_grad():
        features = tower(pixels, output_hidden_states=True).hidden_states[-2]
    features = features[:, 1:] if "clip" in config["model_type"] and "siglip" not in config["model_type"] else features
    del model, tower
    gc.collect()
    yield "features of layer -2", share(program.forward(folder, "pixel_values", pixels), features), 2e-4


def check_processor(program, folder):
    name = json.loads((folder / "preprocessor_config.json").read_text()).get("image_processor_type", "CLIPImageProcessor")
    name = name.removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor")
    processor = getattr(transformers, name + "Pil", getattr(transformers, name)).from_pretrained(folder)
    rng, worst = random.Random(5), 0.0
    for number, (width, height) in enumerate([(640, 480), (333, 517), (37, 200), (1000, 61), (500, 500), (1, 7)]):
        path, result = program.folder / f"{number}.png", program.folder / "pixels.safetensors"
        Image.frombytes("RGB", (width, height), rng.randbytes(3 * width * height)).save(path)
        program.call("preprocess", "--processor", folder, "--output", result, path)
        got = safetensors.torch.load_file(result)["pixel_values"]
        expected = processor(Image.open(path), return_tensors="pt")["pixel_values"]
        worst = max(worst, (got - expected).abs().max().item())
    yield "pixels of 6 pictures", worst, 1e-5


def check_tokenizer(program, folder):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    lines = program.call("tokenize", "--tokenizer", folder / "tokenizer.json",
                         text="".join(json.dumps(text) + "\n" for text in TEXTS)).splitlines()
    different = sum(json.loads(line) != tokenizer.encode(text, add_special_tokens=False).ids
                    for line, text in zip(lines, TEXTS, strict=True))
    yield f"ids, of {len(TEXTS)} texts", different, 0


def checks(program, folder):
    config = json.loads((folder / "config.json").read_text()) if (folder / "config.json").exists() else {}
    kind = config.get("model_type", "mamba_ssm" if "d_model" in config else "")
    if kind in VISION_TYPES:
        yield kind, lambda: check_vision(program, folder, config)
    elif kind in LANGUAGE_TYPES or kind == "mamba_ssm":
        yield kind, lambda: check_language(program, folder, config)
    if (folder / "preprocessor_config.json").exists():
        yield "processor", lambda: check_processor(program, folder)
    if (folder / "tokenizer.json").exists():
        yield "tokenizer", lambda: check_tokenizer(program, folder)


def table(program, folders):
    """Prints a row for each comparison; gives how many went wrong."""
    print(f"{'folder':32} {'part':20} {'compared':24} {'difference':>10} {'allowed':>8}")
    wrong = 0
    for folder in folders:
        found = False
        for part, run in checks(program, folder):
            found = True
            try:
                rows = [(what, value, allowed) for what, value, allowed in run()]
            except Exception as error:  # every folder gets its row
                rows = [((str(error).strip() or type(error).__name__).splitlines()[0][:60], float("nan"), 0)]
            for what, value, allowed in rows:
                good = value <= allowed
                wrong += not good
                print(f"{folder.name[-32:]:32} {part:20} {what:24} {value:10.1e} {allowed:8.0e}{'' if good else '  DIFFERS'}",
                      flush=True)
        if not found:
            wrong += 1
            print(f"{folder.name[-32:]:32} expected config.json, preprocessor_config.json or tokenizer.json, got none")
    print(f"{wrong} differences" if wrong else "all the same")
    return wrong


def tiny_folders(root):
    """A folder of each kind with random weights, as the hub has them."""
    torch.manual_seed(4)
    vision = dict(hidden_size=12, intermediate_size=20, num_hidden_layers=3, num_attention_heads=3, image_size=31, patch_size=7)
    models = {
        "clip": CLIPVisionModel(CLIPVisionConfig(**vision)), "siglip": SiglipVisionModel(SiglipVisionConfig(**vision)),
        "mamba-hf": MambaForCausalLM(MambaConfig(vocab_size=472, hidden_size=16, state_size=4, num_hidden_layers=2)),
        "mamba2": Mamba2ForCausalLM(Mamba2Config(vocab_size=472, hidden_size=16, state_size=4, num_hidden_layers=2, num_heads=4,
                                                 head_dim=8, n_groups=2)),
        "pythia": GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=472, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                                                   intermediate_size=24, eos_token_id=0))}
    for name, model in models.items():
        for parameter in model.parameters():
            if parameter.dim() >= 2 and parameter.shape[0] > 4:
                torch.nn.init.normal_(parameter, 0, 0.4)
        model.save_pretrained(root / name)
    CLIPImageProcessor(size={"shortest_edge": 31}, crop_size=31).save_pretrained(root / "clip")
    SiglipImageProcessor(size={"height": 31, "width": 31}).save_pretrained(root / "siglip")
    for name in ("mamba-hf", "pythia"):
        (root / name / "tokenizer.json").write_bytes((ROOT / "configs/quickstart/tokenizer.json").read_bytes())
    write_official(root / "mamba-official", models["mamba-hf"], {"ssm_cfg": {"d_state": 4}})
    options = MambaForCausalLM(MambaConfig(
        vocab_size=472, hidden_size=16, state_size=4, num_hidden_layers=2, time_step_rank=3, use_bias=True,
        use_conv_bias=False, tie_word_embeddings=False))
    for parameter in options.parameters():
        torch.nn.init.normal_(parameter, 0, 0.4)
    write_official(root / "mamba-official-options", options, {
        "ssm_cfg": {"d_state": 4, "dt_rank": 3, "bias": True, "conv_bias": False}, "tie_embeddings": False})
    return sorted(root.iterdir())


def write_official(folder, model, config):
    folder.mkdir()
    torch.save({name.replace("backbone.embeddings.", "backbone.embedding."): value
                for name, value in model.state_dict().items()}, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({
        "d_model": 16, "n_layer": 2, "vocab_size": 465, "rms_norm": True, "residual_in_fp32": True,
        "fused_add_norm": True, "pad_vocab_size_multiple": 8, **config}))


def main(path, arguments):
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="vlmamba_real_") as work, tempfile.TemporaryDirectory() as made:
        program = Program(path, pathlib.Path(work))
        if arguments != ["--self-test"]:
            return 1 if table(program, [pathlib.Path(folder).resolve() for folder in arguments]) else 0
        folders = tiny_folders(pathlib.Path(made))
        wrong = table(program, folders)
        # A table that cannot tell a difference is worth nothing: one changed value must show.
        weights = folders[0] / "model.safetensors"
        tensors = safetensors.torch.load_file(weights)
        tensors["embeddings.patch_embedding.weight"][0, 0, 0, 0] += 1
        original = AutoModel.from_pretrained(folders[0], dtype=torch.float32)
        AutoModel.from_pretrained = lambda *a, **k: original
        safetensors.torch.save_file(tensors, weights, {"format": "pt"})
        noticed = table(program, folders[:1])
        return 0 if not wrong and noticed else 1


if __name__ == "__main__":
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
