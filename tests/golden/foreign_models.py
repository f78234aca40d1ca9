#!/usr/bin/env python3
"""Makes tests/parity/data: tiny random checkpoints of other libraries with odd sizes, and what those compute from them.

    tests/golden/foreign_models.py [FOLDER]

Needs torch 2.11 and transformers 5.17. Each folder holds a checkpoint as its library writes it, and golden.safetensors:
inputs and outputs in fp32, outputs of the same model in bf16, and greedy continuations. mamba_ssm's files are the same
tensors under its names: transformers reads those files too, and computes the same.
"""

import json
import math
import pathlib
import shutil
import sys

import safetensors.torch
import torch
import transformers
from transformers import (CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, CLIPVisionModel, GPTNeoXConfig,
                          GPTNeoXForCausalLM, Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM,
                          SiglipConfig, SiglipModel, SiglipTextConfig, SiglipVisionConfig, SiglipVisionModel)

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent / "parity/data")
VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__}
PROMPT, NEW_TOKENS = [5, 9, 12, 3], 14


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


def save_golden(folder, tensors):
    safetensors.torch.save_file({k: v.contiguous().clone() for k, v in tensors.items()}, folder / "golden.safetensors", VERSIONS)


def make_folder(name):
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def with_prefix(folder, prefix):
    """The names that transformers 4 gives a vision model alone."""
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file({prefix + k: v for k, v in tensors.items()}, path, {"format": "pt"})


def vision_case(name, model, size, prefix=""):
    folder = make_folder(name)
    fill(model)
    model.save_pretrained(folder)
    if prefix:
        with_prefix(folder, prefix)
    vision = model.vision_model if hasattr(model, "vision_model") else model
    clip = "clip" in name
    pixels = torch.randn(2, 3, size, size)
    golden = {"pixel_values": pixels}
    for dtype in (torch.float32, torch.bfloat16):
        with torch.no_grad():
            states = vision.to(dtype)(pixels.to(dtype), output_hidden_states=True).hidden_states
        suffix = "" if dtype == torch.float32 else "_bf16"
        for layer in (-2, -1, 0):
            golden[f"features_{layer % len(states)}{suffix}"] = states[layer][:, 1 if clip else 0:].float()
    save_golden(folder, golden)


def language_golden(folder, model, vocab):
    ids = torch.randint(0, vocab, (2, 11))
    right, left = torch.ones_like(ids), torch.ones_like(ids)
    right[1, 7:] = 0
    left[1, :4] = 0
    golden = {"input_ids": ids, "mask_right": right, "mask_left": left}
    for dtype in (torch.float32, torch.bfloat16):
        suffix = "" if dtype == torch.float32 else "_bf16"
        model.to(dtype)
        with torch.no_grad():
            golden["logits" + suffix] = model(ids).logits.float()
            if dtype == torch.float32:
                golden["logits_right"] = model(ids, attention_mask=right).logits.float()
                golden["logits_left"] = model(ids, attention_mask=left).logits.float()
                if getattr(model.config, "use_bias", False):  # transformers lets the bias of padding into the convolution
                    golden["logits_left"][1, 4:] = model(ids[1:, 4:]).logits[0]
                prompt = torch.tensor([PROMPT])
                whole = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW_TOKENS, do_sample=False,
                                       use_cache=not hasattr(model.config, "time_step_limit"))  # its steps know no limit
                golden["prompt"], golden["continuation"] = prompt[0], whole[0, len(PROMPT):]
    model.to(torch.float32)
    save_golden(folder, golden)


def language_case(name, model):
    folder = make_folder(name)
    fill(model)
    model.save_pretrained(folder)
    language_golden(folder, model, model.config.vocab_size)
    return folder


def official_case(name, hf_folder, config, save_bin):
    """mamba_ssm's folder of the tensors of a folder of transformers."""
    folder = make_folder(name)
    state = {k.replace("backbone.embeddings.", "backbone.embedding."): v
             for k, v in safetensors.torch.load_file(hf_folder / "model.safetensors").items()}
    state["lm_head.weight"] = state["backbone.embedding.weight"]
    if save_bin:
        torch.save(state, folder / "pytorch_model.bin")  # a tied head shares the embedding's storage
    else:
        safetensors.torch.save_file({k: v.clone() for k, v in state.items()}, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    shutil.copy(hf_folder / "golden.safetensors", folder / "golden.safetensors")


def main():
    torch.manual_seed(5)
    sizes = dict(hidden_size=12, intermediate_size=20, num_hidden_layers=3, num_attention_heads=3)
    text = dict(hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=9)
    clip = CLIPVisionConfig(image_size=31, patch_size=7, **sizes)  # 31 = 4 * 7 + 3
    vision_case("clip_vision", CLIPVisionModel(clip), 31)
    vision_case("clip_vision_4", CLIPVisionModel(CLIPVisionConfig(image_size=21, patch_size=7, hidden_act="gelu", layer_norm_eps=1e-3, **sizes)), 21, "vision_model.")
    vision_case("clip", CLIPModel(CLIPConfig(text_config=CLIPTextConfig(vocab_size=11, **text).to_dict(), vision_config=clip.to_dict(), projection_dim=5)), 31)
    siglip = SiglipVisionConfig(image_size=31, patch_size=7, **sizes)
    vision_case("siglip_vision", SiglipVisionModel(siglip), 31)
    vision_case("siglip", SiglipModel(SiglipConfig(text_config=SiglipTextConfig(vocab_size=11, **text).to_dict(), vision_config=siglip.to_dict())), 31)

    folder = language_case("mamba", MambaForCausalLM(MambaConfig(
        vocab_size=40, hidden_size=14, state_size=5, num_hidden_layers=3, conv_kernel=3, time_step_rank=3)))
    official_case("mamba_official", folder, {
        "d_model": 14, "n_layer": 3, "vocab_size": 37, "ssm_cfg": {"d_state": 5, "d_conv": 3, "dt_rank": 3},
        "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True, "pad_vocab_size_multiple": 8}, save_bin=True)
    language_case("mamba_biases", MambaForCausalLM(MambaConfig(
        vocab_size=29, hidden_size=18, state_size=4, num_hidden_layers=2, expand=3, use_bias=True, use_conv_bias=False,
        layer_norm_epsilon=1e-3, tie_word_embeddings=False)))
    language_case("mamba2", Mamba2ForCausalLM(Mamba2Config(
        vocab_size=33, hidden_size=12, state_size=7, num_hidden_layers=2, num_heads=6, head_dim=4, n_groups=2, conv_kernel=3,
        chunk_size=4, time_step_limit=(0.02, 0.6))))
    folder = language_case("mamba2_tied", Mamba2ForCausalLM(Mamba2Config(
        vocab_size=48, hidden_size=20, state_size=6, num_hidden_layers=2, num_heads=5, head_dim=8, n_groups=1, chunk_size=8,
        tie_word_embeddings=True, eos_token_id=0)))
    official_case("mamba2_official", folder, {
        "d_model": 20, "d_intermediate": 0, "n_layer": 2, "vocab_size": 44,
        "ssm_cfg": {"layer": "Mamba2", "d_state": 6, "headdim": 8}, "attn_layer_idx": [], "attn_cfg": {}, "rms_norm": True,
        "residual_in_fp32": True, "fused_add_norm": True, "pad_vocab_size_multiple": 16, "tie_embeddings": True}, save_bin=False)
    language_case("gpt_neox", GPTNeoXForCausalLM(GPTNeoXConfig(
        vocab_size=35, hidden_size=15, num_hidden_layers=2, num_attention_heads=3, intermediate_size=25)))
    language_case("gpt_neox_serial", GPTNeoXForCausalLM(GPTNeoXConfig(
        vocab_size=35, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=36, hidden_act="gelu_new",
        use_parallel_residual=False, attention_bias=False, layer_norm_eps=1e-3, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5})))


if __name__ == "__main__":
    main()
