"""VL-Mamba in PyTorch, for checkpoints that `vlmamba convert --to hf` wrote.

    model = AutoModel.from_pretrained(FOLDER, trust_remote_code=True)
    logits = model(input_ids=ids, pixel_values=pixels).logits     # -200 in ids: a picture, once or once a patch

Parameter names and arithmetic are those of the C++ program; encoder and language model are transformers' own, but for
Mamba's layers. After torch.ops.load_library("libvlmamba_ops.so") the scans and convolutions are its kernels; without it
they are loops over positions, right and slow.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

try:
    from transformers import PreTrainedConfig
except ImportError:  # transformers 4
    from transformers import PretrainedConfig as PreTrainedConfig

IMAGE_TOKEN, IGNORE_INDEX = -200, -100


class VlMambaConfig(PreTrainedConfig):
    """Encoder and language model in transformers' words; `vl_mamba` holds the program's own config (`config`) and where
    training stood (`state`)."""

    model_type = "vl_mamba"
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}

    def __init__(self, vision_config=None, text_config=None, vl_mamba=None, **kwargs):
        self.vision_config, self.text_config = (
            AutoConfig.for_model(**part) if isinstance(part, dict) else part for part in (vision_config, text_config))
        self.vl_mamba = vl_mamba or {}
        super().__init__(**kwargs)


def have(name):
    return hasattr(torch.ops.vlmamba, name)


# --- scans: positions are pixels, a direction is an order of them ---------------------------------------------------


def scan_orders(scan, height, width, device):
    """The pixels in the order of each direction: row-major, column-major, and both reversed."""
    pixels = torch.arange(height * width, device=device)
    rows, columns = pixels, pixels.view(height, width).t().reshape(-1)
    orders = [rows, columns, rows.flip(0), columns.flip(0)]
    return [orders[k] for k in {"forward": [0], "bidirectional": [0, 2], "cross": [0, 1, 2, 3]}[scan]]


def selective_scan(u, delta, A, B, C, D, dt_bias, z=None):
    """u, delta, z [B,L,D]; A [D,N]; B, C [B,L,N]; D, dt_bias [D] -> [B,L,D], in fp32."""
    if have("selective_scan"):
        return torch.ops.vlmamba.selective_scan(
            u, delta, A, B.unsqueeze(2), C.unsqueeze(2), D, z, dt_bias, True)[0]
    x, delta = u.float(), F.softplus(delta.float() + dt_bias.float())
    state, ys = x.new_zeros(x.size(0), x.size(2), A.size(1)), []
    for t in range(x.size(1)):
        state = torch.exp(delta[:, t, :, None] * A.float()) * state
        state = state + (delta[:, t] * x[:, t]).unsqueeze(-1) * B[:, t, None].float()
        ys.append((state * C[:, t, None].float()).sum(-1))
    y = torch.stack(ys, 1) if ys else torch.zeros_like(x)
    y = y + x * D.float()
    if z is not None:
        y = y * F.silu(z.float())
    return y.to(u.dtype)


def causal_conv(x, weight, bias):
    """A depthwise convolution over what came before, and SiLU. x [B,L,D], weight [D,1,W] -> [B,L,D]."""
    if have("causal_conv1d"):
        return torch.ops.vlmamba.causal_conv1d(x, weight.squeeze(1), bias, activation="silu")[0]
    taps = weight.size(-1)
    y = F.conv1d(F.pad(x.transpose(1, 2), (taps - 1, 0)), weight, bias, groups=x.size(-1))
    return F.silu(y).transpose(1, 2)


def scan_map(u, delta, A, B, C, D, dt_bias, scan, height, width):
    """All directions of a map. u, delta [B,L,K,D]; A [K,D,N]; B, C [B,L,K,N] -> [B,L,K,D]."""
    if have("selective_scan_2d"):
        return torch.ops.vlmamba.selective_scan_2d(
            u, delta, A, B.unsqueeze(3), C.unsqueeze(3), D, dt_bias, True, scan=scan, height=height, width=width,
            merge=False)
    ys = []
    for k, order in enumerate(scan_orders(scan, height, width, u.device)):
        y = selective_scan(
            u[:, order, k], delta[:, order, k], A[k], B[:, order, k], C[:, order, k], D[k], dt_bias[k])
        ys.append(y[:, torch.argsort(order)])
    return torch.stack(ys, 2)


class Conv1d(nn.Module):
    def __init__(self, channels, taps, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, taps))
        self.bias = nn.Parameter(torch.empty(channels)) if bias else None


class MambaMixer(nn.Module):
    """Mamba-1's layer; `scan_only` has the parameters of one more direction of a map."""

    def __init__(self, dim, d_state=16, d_conv=4, expand=2, dt_rank=0, bias=False, conv_bias=True, scan_only=False):
        super().__init__()
        inner, self.rank, self.d_state = expand * dim, dt_rank or math.ceil(dim / 16), d_state
        if not scan_only:
            self.in_proj = nn.Linear(dim, 2 * inner, bias=bias)
            self.out_proj = nn.Linear(inner, dim, bias=bias)
        self.conv1d = Conv1d(inner, d_conv, conv_bias)
        self.x_proj = nn.Linear(inner, self.rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.A_log = nn.Parameter(torch.empty(inner, d_state))
        self.D = nn.Parameter(torch.empty(inner))

    def project(self, u):
        dt, B, C = self.x_proj(u).split([self.rank, self.d_state, self.d_state], -1)
        return F.linear(dt, self.dt_proj.weight), B, C

    def forward(self, x, **unused):
        x, z = self.in_proj(x).chunk(2, -1)
        u = causal_conv(x, self.conv1d.weight, self.conv1d.bias)
        delta, B, C = self.project(u)
        return self.out_proj(
            selective_scan(u, delta, -torch.exp(self.A_log), B, C, self.D, self.dt_proj.bias, z))

    def forward_map(self, x, own, scan, height, width):
        """[I,P,D] -> [I,P,K,D]; `own` is who has the scan's parameters of each direction."""
        x, z = self.in_proj(x).chunk(2, -1)
        u = torch.stack([
            causal_conv(x[:, order], mixer.conv1d.weight, mixer.conv1d.bias)[:, torch.argsort(order)]
            for mixer, order in zip(own, scan_orders(scan, height, width, x.device))], 2)
        delta, B, C = (torch.stack(parts, 2) for parts in zip(*[m.project(u[:, :, k]) for k, m in enumerate(own)]))
        y = scan_map(
            u, delta, torch.stack([-torch.exp(m.A_log) for m in own]), B, C, torch.stack([m.D for m in own]),
            torch.stack([m.dt_proj.bias for m in own]), scan, height, width)
        return self.out_proj(y * F.silu(z).unsqueeze(2))


class Ss2d(nn.Module):
    """VMamba's first block."""

    def __init__(self, dim, d_state, expand, sets):
        super().__init__()
        inner, self.rank, self.d_state = expand * dim, math.ceil(dim / 16), d_state
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.x_proj_weight = nn.Parameter(torch.empty(sets, self.rank + 2 * d_state, inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(sets, inner, self.rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(sets, inner))
        self.A_logs = nn.Parameter(torch.empty(sets * inner, d_state))
        self.Ds = nn.Parameter(torch.empty(sets * inner))
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, x, scan, height, width, merge):
        x, z = self.in_proj(x).chunk(2, -1)
        images, length, inner = x.shape
        u = F.silu(self.conv2d(x.transpose(1, 2).reshape(images, inner, height, width))).flatten(2).transpose(1, 2)
        directions, sets = len(scan_orders(scan, height, width, x.device)), self.x_proj_weight.size(0)
        each = lambda tensor: tensor.expand(directions, *tensor.shape[1:])
        parts = torch.einsum("bld,kcd->blkc", u, each(self.x_proj_weight))
        dt, B, C = parts.split([self.rank, self.d_state, self.d_state], -1)
        delta = torch.einsum("blkr,kdr->blkd", dt, each(self.dt_projs_weight))
        y = scan_map(
            u.unsqueeze(2).expand(-1, -1, directions, -1), delta, each(-torch.exp(self.A_logs).view(sets, inner, -1)),
            B, C, each(self.Ds.view(sets, inner)), each(self.dt_projs_bias), scan, height, width)
        if merge == "concat":
            return self.out_proj(self.out_norm(y) * F.silu(z).unsqueeze(2))
        y = y.sum(2) if merge == "sum" else y.mean(2)
        return self.out_proj(self.out_norm(y) * F.silu(z))


class RmsNorm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x):
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps) * self.weight.float()).to(x.dtype)


# --- connectors -----------------------------------------------------------------------------------------------------


class Vss(nn.Module):
    """The vision selective scan over a map of patches."""

    def __init__(self, config, dim, height, width):
        super().__init__()
        self.scan, self.merge, self.height, self.width = config["scan"], config["merge"], height, width
        if self.scan == "none":
            return
        directions, shared = len(scan_orders(self.scan, 1, 1, "cpu")), config["weights"] == "shared"
        if config["block"] == "ss2d":
            self.ss2d = Ss2d(dim, config["d_state"], config["expand"], 1 if shared else directions)
        else:
            shape = dict(d_state=config["d_state"], d_conv=config["d_conv"], expand=config["expand"])
            self.mamba = MambaMixer(dim, **shape)
            for k in range(1, 1 if shared else directions):
                self.add_module(f"direction_{k}", MambaMixer(dim, scan_only=True, **shape))
        if self.merge == "concat":
            self.concat = nn.Linear(directions * dim, dim)

    def forward(self, x):
        if self.scan == "none":
            return x
        if hasattr(self, "ss2d"):
            y = self.ss2d(x, self.scan, self.height, self.width, self.merge)
            return self.concat(y.flatten(2)) if self.merge == "concat" else y
        own = [getattr(self, f"direction_{k}", self.mamba)
               for k in range(len(scan_orders(self.scan, 1, 1, "cpu")))]
        y = self.mamba.forward_map(x, own, self.scan, self.height, self.width)
        if self.merge == "concat":
            return self.concat(y.flatten(2))
        return y.sum(2) if self.merge == "sum" else y.mean(2)


def make_norm(kind, dim):
    return RmsNorm(dim, 1e-5) if kind == "rmsnorm" else nn.LayerNorm(dim, eps=1e-5)


class Mlp(nn.Module):
    def __init__(self, dim, out):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, out), nn.Linear(out, out)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class VssMlp(nn.Module):
    def __init__(self, config, dim, out, height, width):
        super().__init__()
        self.vss, self.norm = Vss(config, dim, height, width), make_norm(config["norm"], dim)
        self.mlp = Mlp(dim, out)

    def forward(self, x):
        return self.mlp(self.norm(self.vss(x) + x))


class VssL2(nn.Module):
    def __init__(self, config, dim, out, height, width):
        super().__init__()
        inner = config["width"] or out
        self.linear_in = nn.Linear(dim, inner)
        self.vss, self.norm = Vss(config, inner, height, width), make_norm(config["norm"], inner)
        self.linear_out = nn.Linear(inner, out)

    def forward(self, x):
        v = self.linear_in(x)
        return self.linear_out(self.norm(self.vss(F.gelu(v)) + v))


def make_connector(config, dim, out, side):
    kind = config["kind"]
    if kind == "mlp":
        return Mlp(dim, out)
    if kind not in ("vss_mlp", "vss_l2"):
        raise ValueError(f"connector: expected mlp, vss_mlp or vss_l2, got {kind}")
    return (VssMlp if kind == "vss_mlp" else VssL2)(config["vss"], dim, out, side, side)


# --- encoder and language model -------------------------------------------------------------------------------------


class VisionEncoder(nn.Module):
    """CLIP or SigLIP up to the layer whose patches are the features."""

    def __init__(self, config):
        super().__init__()
        model = AutoModel.from_config(config)
        model = getattr(model, "vision_model", model)  # transformers 4
        self.embeddings, self.encoder = model.embeddings, model.encoder
        if hasattr(model, "pre_layrnorm"):
            self.pre_layrnorm = model.pre_layrnorm

    def forward(self, pixels):
        x, clip = self.embeddings(pixels), hasattr(self, "pre_layrnorm")
        x = self.encoder(inputs_embeds=self.pre_layrnorm(x) if clip else x).last_hidden_state
        return x[:, 1:] if clip else x  # CLIP's first is its class token


class GroupedNorm(nn.Module):
    """Mamba-2's gated norm as mamba_ssm has it: each group of channels apart."""

    def __init__(self, dim, eps, groups):
        super().__init__()
        self.weight, self.eps, self.groups = nn.Parameter(torch.ones(dim)), eps, groups

    def forward(self, x, gate):
        y = (x.float() * F.silu(gate.float())).unflatten(-1, (self.groups, -1))
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.eps)
        return (y.flatten(-2) * self.weight.float()).to(x.dtype)


class LanguageModel(nn.Module):
    """Mamba, Mamba-2 or GPT-NeoX; a tied head is not there twice."""

    def __init__(self, config, ours):
        super().__init__()
        neox = config.model_type == "gpt_neox"
        self.body, self.top = ("gpt_neox", "embed_out") if neox else ("backbone", "lm_head")
        body = AutoModel.from_config(config)
        self.add_module(self.body, body)
        if not config.tie_word_embeddings:
            self.add_module(self.top, nn.Linear(config.hidden_size, config.vocab_size, bias=False))
        for layer in body.layers:
            if config.model_type == "mamba":  # our kernels; transformers' layer has the same parameters
                layer.mixer = MambaMixer(
                    config.hidden_size, config.state_size, config.conv_kernel, config.expand, config.time_step_rank,
                    config.use_bias, config.use_conv_bias)
            elif config.model_type == "mamba2" and ours["mamba2"]["norm_groups"] > 1:
                layer.mixer.norm = GroupedNorm(
                    config.expand * config.hidden_size, config.layer_norm_epsilon, ours["mamba2"]["norm_groups"])

    def embedding(self):
        return getattr(self, self.body).get_input_embeddings()

    def forward(self, embeds):
        x = getattr(self, self.body)(inputs_embeds=embeds, use_cache=False).last_hidden_state
        head = getattr(self, self.top, self.embedding())
        return F.linear(x.to(head.weight.dtype), head.weight)


# --- the whole ------------------------------------------------------------------------------------------------------


class VlMambaModel(PreTrainedModel):
    config_class = VlMambaConfig
    base_model_prefix = "vl_mamba"
    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config)
        model = config.vl_mamba["config"]["model"]
        side = config.vision_config.image_size // config.vision_config.patch_size
        self.patches = side**2
        self.vision_encoder = VisionEncoder(config.vision_config)
        self.connector = make_connector(
            model["connector"], config.vision_config.hidden_size, config.text_config.hidden_size, side)
        self.language_model = LanguageModel(config.text_config, model["language_model"])
        self.vocab_size = model["language_model"]["vocab_size"]
        self.post_init()

    def _init_weights(self, module):  # the weights come from a checkpoint, where a buffer of the encoder is not
        if hasattr(module, "position_ids"):
            module.position_ids.copy_(torch.arange(module.position_ids.size(-1)))

    def get_input_embeddings(self):
        return self.language_model.embedding()

    def check_inputs(self, ids, pixels, mask, labels):
        """What the C++ program refuses, with its words."""
        rows, side = self.language_model.embedding().num_embeddings, self.config.vision_config.image_size
        if ids.dim() != 2 or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise ValueError(f"[input_ids] expected integers [B, L], got {ids.dtype} {list(ids.shape)}")
        wrong = ids[((ids < 0) | (ids >= rows)) & (ids != IMAGE_TOKEN)]
        if wrong.numel() > 0:
            raise ValueError(f"[input_ids] expected ids of 0 to {rows - 1}, or -200 for a picture, got {int(wrong[0])}")
        if pixels is not None and (pixels.dim() != 4 or list(pixels.shape[1:]) != [3, side, side]
                                   or not pixels.is_floating_point()):
            raise ValueError(f"[pixel_values] expected [I, 3, {side}, {side}] of a floating type, got {pixels.dtype} "
                             f"{list(pixels.shape)}")
        for name, tensor in (("attention_mask", mask), ("labels", labels)):
            if tensor is not None and tensor.shape != ids.shape:
                raise ValueError(f"[{name}] expected the shape of input_ids, got {list(tensor.shape)}")
        if mask is not None and bool(((mask != 0) & (mask != 1)).any()):
            raise ValueError("[attention_mask] expected values of 0 and 1, got others")
        if mask is not None and bool((mask[:, 1:].int() > mask[:, :-1].int()).any()):
            raise ValueError("[attention_mask] expected padding on the right alone, got it elsewhere")

    def expand_pictures(self, ids, pictures, labels=None):
        """A picture's -200 becomes as many as it has patches, in every row, and the rows are padded on the right. Labels
        follow: nothing is learned at a picture."""
        places = int((ids == IMAGE_TOKEN).sum())
        if places == pictures * self.patches:
            return ids, labels
        if places != pictures:
            raise ValueError(f"[input_ids] expected -200 once a picture ({pictures}) or once a patch "
                             f"({pictures * self.patches}), got {places}")
        times = torch.where(ids == IMAGE_TOKEN, self.patches, 1)
        stretched = lambda rows, padding: nn.utils.rnn.pad_sequence(
            [row.repeat_interleave(count) for row, count in zip(rows, times)], True, padding)
        if labels is not None:
            labels = stretched(labels.masked_fill(ids == IMAGE_TOKEN, IGNORE_INDEX), IGNORE_INDEX)
        return stretched(ids, 0), labels

    def forward(self, input_ids, pixel_values=None, attention_mask=None, labels=None, **unused):
        """Logits [B,L,ids] and, with labels, the loss; L counts a picture's patches. Padding on the right changes nothing
        in front of it; that on the left is refused."""
        self.check_inputs(input_ids, pixel_values, attention_mask, labels)
        ids, labels = self.expand_pictures(input_ids, 0 if pixel_values is None else pixel_values.size(0), labels)
        embeds = self.language_model.embedding()(ids.clamp_min(0))
        if pixel_values is not None:
            features = self.connector(self.vision_encoder(pixel_values.to(embeds.dtype)))
            embeds = embeds.masked_scatter((ids == IMAGE_TOKEN).unsqueeze(-1), features.to(embeds.dtype))
        logits = self.language_model(embeds).float()
        logits[..., self.vocab_size:] = -torch.inf  # padding of the vocabulary
        loss = None
        if labels is not None:
            targets = labels[:, 1:].masked_fill(ids[:, 1:] == IMAGE_TOKEN, IGNORE_INDEX)
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX)
        return CausalLMOutput(loss=loss, logits=logits)

    @torch.no_grad()
    def generate_greedily(self, input_ids, pixel_values=None, max_new_tokens=64, end_token=0):
        """The ids of the answer to one prompt."""
        self.check_inputs(input_ids, pixel_values, None, None)
        ids, _ = self.expand_pictures(input_ids, 0 if pixel_values is None else pixel_values.size(0))
        answer = []
        while len(answer) < max_new_tokens and (not answer or answer[-1] != end_token):
            answer.append(int(self(ids, pixel_values).logits[0, -1].argmax()))
            ids = torch.cat([ids, ids.new_tensor([[answer[-1]]])], 1)
        return answer
