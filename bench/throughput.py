#!/usr/bin/env python3
"""Training throughput: `vlmamba train` beside the same model in transformers' pure-PyTorch Mamba path, on the CPU.

    bench/throughput.py PROGRAM [--config configs/quickstart.json] [--threads 2] [--steps 20] [--peer-steps 3]

Both train connector and language model of the config on batches of the same size, of synthetic pictures and
conversations of one length: transformers' SigLIP, frozen, its MambaForCausalLM, and a VSS-L2 connector with the
bidirectional scan of its MambaMixer; AdamW, fp32, clipped. Without mamba_ssm's kernels transformers runs the scan as a
loop over positions. Ours is timed by its own timing.jsonl (data loading included), the peer by the wall clock (data made
beforehand); each figure is a median after warm-up.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

from synthetic import ROOT, command, lines, make_records, read_config, train


def train_ours(arguments, stage, folder):
    run = folder / "run"
    train(command(arguments.program, arguments.config, stage, folder, run, {"steps": arguments.steps}),
          arguments.threads)
    timing = lines(run, stage, "timing.jsonl")
    timed = timing[len(timing) // 4:]
    tokens = statistics.median(line["tokens_per_s"] * line["step_ms"] / 1e3 for line in timed)
    return statistics.median(line["step_ms"] for line in timed) / 1e3, round(tokens)


def build_peer(model):
    import torch
    from transformers import MambaConfig, MambaForCausalLM, SiglipVisionConfig, SiglipVisionModel
    from transformers.models.mamba.modeling_mamba import MambaMixer

    vision, language = model["vision_encoder"], model["language_model"]
    dim, width = vision["hidden_size"], language["hidden_size"]

    class Peer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = SiglipVisionModel(SiglipVisionConfig(
                hidden_size=dim, intermediate_size=vision["intermediate_size"],
                num_hidden_layers=vision["num_layers"], num_attention_heads=vision["num_heads"],
                image_size=vision["image_size"], patch_size=vision["patch_size"], vision_use_head=False))
            self.encoder.requires_grad_(False)
            self.linear_in, self.linear_out = torch.nn.Linear(dim, width), torch.nn.Linear(width, width)
            self.norm = torch.nn.LayerNorm(width)
            self.scan = MambaMixer(MambaConfig(hidden_size=width), layer_idx=0)
            self.language = MambaForCausalLM(MambaConfig(
                vocab_size=-(-language["vocab_size"] // 8) * 8, hidden_size=width,
                num_hidden_layers=language["num_layers"], use_cache=False))

        def forward(self, pixels, ids, labels):
            with torch.no_grad():
                features = self.encoder(pixels).last_hidden_state
            v = self.linear_in(features)
            x = torch.nn.functional.gelu(v)
            scanned = self.scan(x) + self.scan(x.flip(1)).flip(1)
            pictures = self.linear_out(self.norm(scanned + v))
            embeds = torch.cat([pictures, self.language.get_input_embeddings()(ids)], 1)
            logits = self.language(inputs_embeds=embeds).logits
            text = logits[:, pictures.size(1) - 1:-1].flatten(0, 1).float()
            return torch.nn.functional.cross_entropy(text, labels.flatten(), ignore_index=-100)

    return Peer()


def train_peer(arguments, config, batch, tokens):
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    model, vision = build_peer(config["model"]), config["model"]["vision_encoder"]
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    patches, side = (vision["image_size"] // vision["patch_size"]) ** 2, vision["image_size"]
    pixels = torch.randn(batch, 3, side, side)
    ids = torch.randint(0, config["model"]["language_model"]["vocab_size"], (batch, tokens // batch - patches))
    seconds = []
    for _ in range(arguments.peer_steps + 1):
        start = time.perf_counter()
        optimizer.zero_grad()
        model(pixels, ids, ids).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:]), sum(p.numel() for p in model.parameters())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--config", default=str(ROOT / "configs/quickstart.json"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--peer-steps", type=int, default=3)
    arguments = parser.parse_args()
    config = read_config(arguments.config)
    stage = config["stages"][-1]
    batch = stage["batch"]["global_batch"]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_records(folder, config["model"]["vision_encoder"]["image_size"], [3] * batch)
        ours, tokens = train_ours(arguments, stage["name"], folder)
    theirs, parameters = train_peer(arguments, config, batch, tokens)
    print(f"{batch} rows of {tokens // batch} positions, {arguments.threads} threads, peer of {parameters:,} parameters")
    print(f"vlmamba       {ours * 1e3:9.1f} ms a step  {tokens / ours:9.0f} tokens/s")
    print(f"transformers  {theirs * 1e3:9.1f} ms a step  {tokens / theirs:9.0f} tokens/s")
    print(f"ratio         {theirs / ours:9.1f}")


if __name__ == "__main__":
    main()
