"""Synthetic records in LLaVA's layout, and `vlmamba train` on them, for the benchmarks of training."""

import json
import os
import pathlib
import random
import re
import struct
import subprocess
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOKENIZER = ROOT / "configs/quickstart/tokenizer.json"  # knows fewer ids than any of the models


def read_config(path):
    return json.loads(re.sub(r"(?m)(^|\s)//.*$", "", pathlib.Path(path).read_text()))


def write_png(path, side, draws):
    """A picture of noise."""
    rows = b"".join(b"\0" + draws.randbytes(side * 3) for _ in range(side))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) +
                     chunk(b"IEND", b""))


def make_records(folder, side, questions):
    """A record with a picture for each entry of `questions`: how often it is asked about."""
    draws, records = random.Random(1), []
    for i, count in enumerate(questions):
        write_png(folder / f"{i}.png", side, draws)
        turns = []
        for turn in range(count):
            turns += [{"from": "human", "value": ("<image>\n" if turn == 0 else "") + "what is in the center?"},
                      {"from": "gpt", "value": str(draws.randrange(10))}]
        records.append({"id": str(i), "image": f"{i}.png", "conversations": turns})
    (folder / "records.json").write_text(json.dumps(records))


def command(program, config, stage, folder, run, settings):
    """Trains one stage of a config from fresh weights on the folder's records."""
    everything = {"output_dir": run, "data_root": folder, "weights_root": folder, "tokenizer": TOKENIZER,
                  f"stages.{stage}.data.sets.0.records": "records.json",
                  f"stages.{stage}.data.sets.0.image_root": ".", f"stages.{stage}.data.sets.0.expected_records": 0}
    for part in ("vision_encoder", "language_model"):
        everything[f"model.{part}.pretrained"] = ""
    for key, value in settings.items():
        everything[key if key == "device" else f"stages.{stage}.{key}"] = value
    words = [program, "train", "--config", config, "--stage", stage]
    for key, value in everything.items():
        words += ["--set", f"{key}={value}"]
    return [str(word) for word in words]


def lines(run, stage, name):
    path = pathlib.Path(run) / stage / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def train(words, threads):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    done = subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
