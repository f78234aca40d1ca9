#!/usr/bin/env python3
"""Files that are truncated, wrong or made to do harm, given to the program: each is refused with its exit code and named.

    tests/app/hostile_files.py PROGRAM [FOLDER]

A process for each file, under a limit of memory little above what a good file takes: a crash, a message that names
nothing, or an allocation larger than the file justifies fails. FOLDER keeps the files. Needs Python alone.
"""

import json
import os
import pathlib
import resource
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib

DATA, WEIGHTS = 3, 4
SPARE = 512 << 20  # bytes above what a good file takes


# --- makers of files ------------------------------------------------------------------------------------------------


def tensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"\x8a\x08" + struct.pack("<q", value)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(kind="FloatStorage", key="0", count=2):
    return b"(" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key) + text("cpu") + number(count) + b"tQ"


def rebuilt(place=None, offset=0, shape=(2,), strides=(1,)):
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + (place or storage()) + number(offset) + numbers(shape) + numbers(strides)
            + b"\x89ccollections\nOrderedDict\n)RtR")


def named(value, name="a"):
    return b"}" + text(name) + value + b"s"


def torch_file(path, obj=None, method=zipfile.ZIP_STORED, pickle=None, more=(("data/0", b"\1" * 8),), prefix=b""):
    with open(path, "wb") as file:
        file.write(prefix)
        with zipfile.ZipFile(file, "a" if prefix else "w", method) as archive:
            archive.writestr("archive/data.pkl", pickle if pickle is not None else b"\x80\x02" + obj + b".")
            for name, data in more:
                archive.writestr("archive/" + name, data)


def chunk(kind, data, crc=None):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)


def png(width, height, *chunks, depth=8, color=2):
    rows = zlib.compress(b"\0" * (min(height, 2) * (1 + 3 * min(width, 2))))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
            + b"".join(chunks) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def gif(width, height):
    return (b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0" * 6 + b"," +
            struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\0;")


def jpeg(width, height):
    tables = b"\xff\xdb\0\x43\0" + b"\1" * 64
    return b"\xff\xd8" + tables + b"\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width) + b"\3\1\x11\0\2\x11\0\3\x11\0\xff\xd9"


def webp(width, height):
    body = b"VP8L" + struct.pack("<I", 6) + b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + b"\0"
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


MAMBA = {"model_type": "mamba", "vocab_size": 8, "hidden_size": 4, "state_size": 3, "num_hidden_layers": 1}
OFFICIAL = {"d_model": 4, "n_layer": 1, "vocab_size": 8, "ssm_cfg": {"d_state": 3}}
TOKENIZER = {"added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
             "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}}
PROCESSOR = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 8}, "crop_size": 8}


def changed(base, **values):
    return {**base, **values}


def added(*tokens):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return changed(TOKENIZER, added_tokens=[{"id": number, "content": content, **flags} for number, content in tokens])


def bpe(**values):
    return changed(TOKENIZER, model=changed(TOKENIZER["model"], **values))


# --- cases: a name, the file's content (bytes, JSON, or a function of its path), and what the message says ---------------

SAFETENSORS = {
    "empty": (b"", "expected a safetensors file, got 0 bytes"),
    "seven bytes": (b"\1\0\0\0\0\0\0", "got 7 bytes"),
    "header of nothing": (tensors(b""), "got 0"),
    "header of 2^63": (struct.pack("<Q", 1 << 63) + b"{}", "got 9223372036854775808"),
    "header behind the end": (struct.pack("<Q", 90_000_000) + b"{}", "got 90000000"),
    "no UTF-8": (tensors(b'{"\xc0\x80": 1}'), "expected JSON in UTF-8"),
    "behind the object": (tensors(b"{}{}"), "expected nothing behind"),
    "brackets without end": (tensors(b'{"a":' + b"[" * 2_000_000), "expected an object, got an array"),
    "objects without end": (tensors(b'{"a":' * 2_000_000), "expected"),
    "the same name twice": (tensors(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2), b"1234"), "expected each key once"),
    "overlap": (tensors({"a": entry(), "b": entry()}, b"1234"), "b] expected to begin at byte 4, got 0"),
    "gap": (tensors({"a": entry(offsets=(4, 8))}, b"12345678"), "a] expected to begin at byte 0, got 4"),
    "backwards": (tensors({"a": entry(offsets=(4, 0))}, b"1234"), "a] data_offsets: expected 4 bytes"),
    "offset of 2^62": (tensors({"a": entry(offsets=(0, 1 << 62))}, b"1234"), "a] data_offsets"),
    "four bits": (tensors({"a": entry("F4")}, b"1234"), 'a] dtype: expected a known one, got "F4"'),
    "product overflows": (tensors({"a": entry(shape=(4194305, 4194305, 211106198978564))}, b"1234"), "a] shape: expected at most"),
    "zero hides an overflow": (tensors({"a": entry(shape=(0, 1 << 48, 1 << 48), offsets=(0, 0))}), "a] shape: expected at most"),
    "a million tensors and one": (lambda path: path.write_bytes(tensors(b"{" + b",".join(
        b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(1_000_001)) + b"}")),
                                  "expected at most 1,000,000 tensors"),
    "negative": (tensors({"a": entry(shape=(-1,))}, b"1234"), "a] shape: expected a whole number"),
    "size of another type": (tensors({"a": entry("F64")}, b"1234"), "a] data_offsets: expected 8 bytes for F64"),
    "truncated": (tensors({"a": entry()}, b"12"), "an incomplete download?"),
    "with a tail": (tensors({"a": entry()}, b"1234MZ"), "expected 4 bytes of tensors, got 6"),
    "name for the terminal": (tensors({"a\x1b[2J\x07\x9b": entry("F64")}, b"1234"), "a\\x1b[2J\\x07\\x9b] data_offsets"),
    "a pipe": (os.mkfifo, "expected a regular file"),
    "a device": (lambda path: os.symlink("/dev/zero", path), "expected a regular file"),
}

TORCH = {
    "calls os.system": (lambda p: torch_file(p, b"cos\nsystem\n(" + text("true") + b"tR"), '"os system"'),
    "calls eval": (lambda p: torch_file(p, named(b"cbuiltins\neval\n(" + text("1") + b"tR")), '"builtins eval"'),
    "name of many parts": (lambda p: torch_file(p, b"ctorch\nnn.Module.__init__\n."), "which this program never loads"),
    "stack global": (lambda p: torch_file(p, text("os") + text("system") + b"\x93"), "STACK_GLOBAL"),
    "instance": (lambda p: torch_file(p, b"(ios\nsystem\n"), "INST"),
    "protocol 4": (lambda p: torch_file(p, pickle=b"\x80\x04}."), "expected protocol 2, got 4"),
    "text of 4 GB": (lambda p: torch_file(p, b"X\xff\xff\xff\xff"), "pickle byte 2] expected 4294967295 more bytes"),
    "memo that is not there": (lambda p: torch_file(p, b"h\x07"), "expected an object remembered as 7"),
    "dict within itself": (lambda p: torch_file(p, b"}q\1" + text("a") + b"h\1s"), "expected each dict in one place"),
    "no end": (lambda p: torch_file(p, pickle=b"\x80\x02}"), "got the end"),
    "marks alone": (lambda p: torch_file(p, b"(" * 2_000_000), "expected at most 1,000,000 marks"),
    "lists alone": (lambda p: torch_file(p, b"]" * 2_000_000), "expected at most 1,000,000 objects"),
    "tuples of all before": (lambda p: torch_file(p, b"N" + b"q\1h\1h\1\x86" * 300_000), "STOP"),
    "persistent id of text": (lambda p: torch_file(p, named(rebuilt(text("0") + b"Q"))), "a] expected a storage of 5 parts"),
    "storage elsewhere": (lambda p: torch_file(p, named(rebuilt(storage(key="../../x")))), "a] expected the storage data/../../x, got none"),
    "storage of another size": (lambda p: torch_file(p, named(rebuilt(storage(count=1 << 40)))), "a] expected a storage of"),
    "huge shape on a small storage": (lambda p: torch_file(p, named(rebuilt(shape=(1 << 40,), strides=(0,)))), "a] expected tensors of at most twice the file"),
    "stride behind the end": (lambda p: torch_file(p, named(rebuilt(strides=(9,)))), "a] expected elements inside its storage"),
    "offset behind the end": (lambda p: torch_file(p, named(rebuilt(offset=1))), "a] expected elements inside its storage"),
    "negative stride": (lambda p: torch_file(p, named(rebuilt(strides=(-1,)))), "a] stride: expected a whole number"),
    "sparse": (lambda p: torch_file(p, named(b"ctorch._utils\n_rebuild_sparse_tensor\n)R")), "_rebuild_sparse_tensor"),
    "quantised": (lambda p: torch_file(p, named(b"ctorch._utils\n_rebuild_qtensor\n)R")), "_rebuild_qtensor"),
    "deflated gigabyte": (lambda p: torch_file(p, named(rebuilt()), zipfile.ZIP_DEFLATED, more=[("data/0", b"\0" * (256 << 20))]), "expected a stored entry"),
    "TorchScript": (lambda p: torch_file(p, b"}", more=[("code/__torch__.py", b"")]), "got a program"),
    "big endian": (lambda p: torch_file(p, b"}", more=[("byteorder", b"big")]), "byteorder: expected little"),
    "bytes before": (lambda p: torch_file(p, b"}", prefix=b"#!/bin/sh\n"), "expected"),
    "before 1.6": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "convert it once in Python"),
    "half": (lambda p: (torch_file(p, named(rebuilt())), os.truncate(p, 200)), "expected"),
}

INDEX = {
    "up": ({"weight_map": {"a": "../a.safetensors"}}, "expected the name of a file beside the index, got a path"),
    "absolute": ({"weight_map": {"a": "/etc/passwd"}}, "expected the name of a file beside the index, got a path"),
    "not there": ({"weight_map": {"a": "b.safetensors"}}, "expected a file beside the index, got none"),
    "list": ({"weight_map": []}, "weight_map"),
    "nothing": ({"weight_map": {}}, "weight_map: expected tensors, got none"),
    "total of text": ({"metadata": {"total_size": "8"}, "weight_map": {"a": "b"}}, "total_size: expected a number"),
    "the same name twice": (b'{"weight_map": {"a": "b", "a": "c"}}', '"a"'),
    "brackets without end": (b"[" * 2_000_000, "index.json"),
    "17 MiB": (b" " * (17 << 20), "expected an index of at most 16 MiB"),
}

CONFIG = {
    "width of 10^18": (changed(MAMBA, hidden_size=10**18), "hidden_size: expected a whole number of 0 to 1048576"),
    "width beyond 64 bits": (changed(MAMBA, hidden_size=10**30), "hidden_size: expected a whole number"),
    "width of 1e300": (changed(MAMBA, hidden_size=1e300), "hidden_size: expected a whole number"),
    "half a channel": (changed(MAMBA, hidden_size=4.5), "hidden_size: expected a whole number"),
    "negative": (changed(MAMBA, state_size=-1), "state_size: expected a whole number"),
    "a billion layers": (changed(MAMBA, num_hidden_layers=10**9), "num_hidden_layers: expected a whole number of 0 to 4096"),
    "more than the file holds": (changed(MAMBA, hidden_size=1 << 20, vocab_size=1 << 24), "expected the tensors of the model"),
    "many layers": (changed(MAMBA, num_hidden_layers=4096), "missing      backbone.layers."),
    "states of text": (changed(MAMBA, state_size="3"), "state_size: expected a whole number"),
    "epsilon below 0": (changed(MAMBA, layer_norm_epsilon=-1), "layer_norm_epsilon: expected a number of at least 0"),
    "another activation": (changed(MAMBA, hidden_act="relu"), 'hidden_act: expected silu, got "relu"'),
    "heads that do not divide": ({"model_type": "gpt_neox", "vocab_size": 8, "hidden_size": 7, "num_attention_heads": 2}, "config.json"),
    "more than a rotation": ({"model_type": "gpt_neox", "vocab_size": 8, "hidden_size": 8, "num_attention_heads": 2, "rotary_pct": 3}, "rotary_pct: expected at most 1"),
    "a channel without its pair": ({"model_type": "gpt_neox", "vocab_size": 8, "hidden_size": 6, "num_attention_heads": 2, "rotary_pct": 1}, "rotary_fraction] expected an even number of a head's 3 channels, got 3"),
    "picture of 10^9": ({"model_type": "clip_vision_model", "image_size": 10**9}, "image_size: expected a whole number of 0 to 65536"),
    "patch above the picture": ({"model_type": "clip_vision_model", "image_size": 8, "patch_size": 9}, "patch_size"),
    "eight heads of D": ({"d_model": 4, "n_layer": 1, "ssm_cfg": {"layer": "Mamba2", "D_has_hdim": True}}, "D_has_hdim: expected false"),
    "another model": ({"model_type": "llama"}, 'model_type: expected clip, clip_vision_model'),
    "official layers below 0": (changed(OFFICIAL, n_layer=-1), "n_layer: expected a whole number of 0 to 4096, got -1"),
    "official layers of another file": (changed(OFFICIAL, n_layer=7), "expected the tensors of the model"),
    "official width of text": (changed(OFFICIAL, d_model="4"), "d_model: expected a whole number"),
    "official options of 5": (changed(OFFICIAL, ssm_cfg=5), "ssm_cfg: expected an object, got 5"),
    "official half an expansion": (changed(OFFICIAL, ssm_cfg={"expand": 2.5}), "expand: expected a whole number"),
    "official expansion of 0": (changed(OFFICIAL, ssm_cfg={"expand": 0}), "expand: expected at least 1"),
    "official states of 0": (changed(OFFICIAL, ssm_cfg={"d_state": 0}), "d_state: expected at least 1"),
    "official rank of text": (changed(OFFICIAL, ssm_cfg={"dt_rank": "half"}), 'dt_rank: expected "auto" or a number'),
    "official attention": (changed(OFFICIAL, attn_layer_idx="all"), "attn_layer_idx: expected no attention layers"),
    "inner width of another model": (changed(MAMBA, intermediate_size=9), "intermediate_size: expected expand * hidden_size (8), got 9"),
    "end of text": (changed(MAMBA, eos_token_id="</s>"), "eos_token_id: expected an id, or an array of ids"),
    "ends of text": (changed(MAMBA, eos_token_id=[1, "2"]), "eos_token_id: expected an id, or an array of ids"),
    "residual of 1": (changed(MAMBA, residual_in_fp32=1), "residual_in_fp32: expected true or false, got 1"),
    "control characters": (changed(MAMBA, hidden_act="\x1b[2J"), "hidden_act: expected silu"),
    "NaN": (b'{"model_type": "mamba", "vocab_size": NaN}', "config.json"),
    "the same key twice": (b'{"model_type": "mamba", "model_type": "gpt_neox"}', "model_type"),
    "2 MiB": (b" " * (2 << 20), "expected a config of at most 1 MiB"),
    "brackets without end": (b"[" * 900_000, "config.json"),
}

TOKENIZERS = {
    "merge of nothing": (bpe(merges=["a c"]), "merges"),
    "merge without result": (bpe(merges=["b a"]), "merges"),
    "merge of three": (bpe(merges=["a b b"]), "merges"),
    "merges of numbers": (bpe(merges=[1]), "merges"),
    "id of 2^40": (bpe(vocab={"a": 1 << 40}), "vocab"),
    "negative id": (bpe(vocab={"a": -1}), "vocab"),
    "the same id twice": (bpe(vocab={"a": 0, "b": 0}, merges=[]), "vocab"),
    "added token far behind": (added((2_000_000_000, "x")), "added_tokens"),
    "added token over another": (added((1, "x")), "added_tokens"),
    "added token again": (added((3, "x"), (4, "x")), 'added_tokens: "x": expected the id 3'),
    "added token of nothing": (added((3, "")), "added_tokens"),
    "regular expression": (changed(TOKENIZER, pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+b"}}), "pre_tokenizer"),
    "another model": (changed(TOKENIZER, model={"type": "Unigram"}), "model"),
    "brackets without end": (b"[" * 2_000_000, "bad.json"),
    "no object": (b"7", "bad.json"),
}

PROCESSORS = {
    "NaN": (b'{"image_processor_type": "CLIPImageProcessor", "image_mean": NaN}', "bad.json"),
    "side of 0": (changed(PROCESSOR, size={"shortest_edge": 0}), "size: expected pixels of 1 to 65536"),
    "negative side": (changed(PROCESSOR, crop_size=-8), "crop_size: expected pixels of 1 to 65536"),
    "side of 10^12": (changed(PROCESSOR, size={"height": 10**12, "width": 8}), "size: expected pixels of 1 to 65536"),
    "filter of 6e111": (changed(PROCESSOR, resample=6e111), "resample: expected Pillow's code of a filter"),
    "deviation of 0": (changed(PROCESSOR, image_std=[1, 0, 1]), "image_std: expected numbers above 0"),
    "another processor": (changed(PROCESSOR, image_processor_type="ViTImageProcessor"), "image_processor_type"),
}

PICTURES = {
    "png of 2^32 pixels": (png(65536, 65536), "pixels"),
    "png of 2^62 pixels": (png((1 << 31) - 1, (1 << 31) - 1), "bad.png"),
    "png of no width": (png(0, 5), "bad.png"),
    "png with a text bomb": (png(2, 2, chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * (256 << 20)))), ""),
    "png with a profile bomb": (png(2, 2, chunk(b"iCCP", b"a\0\0" + zlib.compress(b"\0" * (256 << 20)))), ""),
    "png with a wrong sum": (png(2, 2)[:-30] + b"\0" * 30, "bad.png"),
    "png cut off": (png(2, 2)[:45], "expected a whole PNG"),
    "jpeg of 4 gigapixels": (jpeg(65500, 65500), "bad.png"),
    "jpeg without a scan": (jpeg(8, 8), "bad.png"),
    "gif of 4 gigapixels": (gif(65535, 65535), "pixels"),
    "webp of 268 megapixels": (webp(16383, 16383), "bad.png"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "expected JPEG, PNG, WebP or GIF"),
    "empty": (b"", "bad.png"),
}


# --- running --------------------------------------------------------------------------------------------------------


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        content(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def call(program, arguments, limit=None):
    keep = (lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))) if limit else None
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, errors="replace", timeout=60,
                          preexec_fn=keep, env={**os.environ, "OMP_NUM_THREADS": "1"})


def memory_of_a_good_file(program, path):
    write(path, tensors({"a": entry()}, b"1234"))
    for limit in range(256 << 20, 16 << 30, 128 << 20):
        if call(program, ["inspect", path], limit).returncode == 0:
            return limit
    raise RuntimeError("the program cannot read a good file")


def cases(root):
    """(name, arguments, exit code, what the message names)"""
    write(root / "processor.json", PROCESSOR)
    for kind, group in (("safetensors", SAFETENSORS), ("torch", TORCH)):
        for number, (name, (content, says)) in enumerate(group.items()):
            path = root / kind / str(number) / "bad.bin"
            write(path, content)
            yield f"{kind}: {name}", ["inspect", path], WEIGHTS, says
    for number, (name, (content, says)) in enumerate(INDEX.items()):
        path = root / "index" / str(number) / "model.safetensors.index.json"
        write(path, content)
        yield f"index: {name}", ["inspect", path], WEIGHTS, says
    for number, (name, (content, says)) in enumerate(CONFIG.items()):
        folder = root / "config" / str(number)
        write(folder / "config.json", content)
        write(folder / "model.safetensors", tensors({"backbone.embeddings.weight": entry(shape=(8, 4), offsets=(0, 128))}, b"\0" * 128))
        yield f"config: {name}", ["generate", "--checkpoint", folder, "--prompt-ids", "1", "--print-ids"], WEIGHTS, says
        yield f"converted: {name}", ["convert", "--input", folder, "--output", root / "converted", "--to", "safetensors"], WEIGHTS, says
    for number, (name, (content, says)) in enumerate(TOKENIZERS.items()):
        path = root / "tokenizer" / str(number) / "bad.json"
        write(path, content)
        yield f"tokenizer: {name}", ["tokenize", "--tokenizer", path], WEIGHTS, says
    write(root / "good.png", png(2, 2))
    for number, (name, (content, says)) in enumerate(PROCESSORS.items()):
        path = root / "preprocessor" / str(number) / "bad.json"
        write(path, content)
        yield f"processor: {name}", ["preprocess", "--processor", path, "--output", root / "out", root / "good.png"], WEIGHTS, says
    for number, (name, (content, says)) in enumerate(PICTURES.items()):
        path = root / "picture" / str(number) / "bad.png"
        write(path, content)
        yield f"picture: {name}", ["preprocess", "--processor", root / "processor.json", "--output", root / "out", path], DATA, says


def main(program, folder=None):
    with tempfile.TemporaryDirectory(prefix="vlmamba_hostile_") as work:
        root = pathlib.Path(folder or work)
        limit = memory_of_a_good_file(program, root / "good.safetensors") + SPARE
        failed = count = 0
        for name, arguments, code, says in cases(root):
            done = call(program, arguments, limit)
            harmless = not says and done.returncode == 0  # a bomb in what nobody unpacks
            left = list(root.glob("converted*"))
            escaped = all(c.isprintable() or c == "\n" for c in done.stdout + done.stderr)
            count += 1
            if harmless or (done.returncode == code and says in done.stderr and "internal" not in done.stderr
                            and len(done.stderr) < 4000 and escaped and not left):
                continue
            failed += 1
            says += f"; nothing left behind, got {left}" if left else "" if escaped else "; no control characters"
            print(f"FAILED {name}: expected exit code {code} and \"{says}\", got {done.returncode}: {done.stderr.strip()[:400]}")
    print(f"{count} files under {limit >> 20} MiB, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
