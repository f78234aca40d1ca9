"""Runs configs/ablations/digits.json in small, kills it in the middle, runs it again, and looks at what came out.

    digits_sweep.py BIN DIGITS WORK [--long]

All nine cells, from making the scenes to the report. With --long two seeds and some hundred steps, about two minutes.
"""
import argparse
import csv
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
CELLS = {"base", "connector_mlp", "connector_vss-mlp", "scan_none", "scan_forward", "scan_cross", "merge_mean",
         "merge_concat", "block_ss2d"}


def settings(options, work):
    scenes, steps = (2000, "30") if options.long else (60, "2")
    prepare = [
        {"name": "scenes", "creates": f"{work}/data/evaluation/questions.jsonl",
         "command": ["make_digit_scenes", "--digits", str(options.digits), "--output", f"{work}/data", "--scenes",
                     str(scenes), "--described", str(scenes), "--held-out", "12"]},
        {"name": "encoder", "creates": f"{work}/encoder.safetensors",
         "command": ["teach_encoder", "--digits", str(options.digits), "--config", "configs/quickstart.json",
                     "--output", f"{work}/encoder.safetensors", "--steps", steps]}]
    pairs = {"output_dir": work, "seeds": "[1, 2]" if options.long else "[1]", "prepare": json.dumps(prepare)}
    for stage in ("language", "align", "instruct"):
        pairs[f"stages.{stage}.steps"] = steps
        if not options.long:
            pairs[f"stages.{stage}.batch.global_batch"] = pairs[f"stages.{stage}.batch.micro_batch"] = 8
    return [word for key, value in pairs.items() for word in ("--set", f"{key}={value}")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin", type=pathlib.Path)
    parser.add_argument("digits", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--long", action="store_true")
    options = parser.parse_args()
    if not options.digits.exists():
        print(f"skipped: {options.digits} is not there; scripts/setup.sh brings it")
        return 77
    work = options.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    command = [options.bin / "vlmamba", "sweep", "--config", "configs/ablations/digits.json", *settings(options, work)]

    start = time.monotonic()
    first = subprocess.Popen(command, cwd=SOURCE)
    while first.poll() is None and not (work / "cells/connector_mlp/seed_1/align").exists():
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    subprocess.run(command, check=True, cwd=SOURCE)
    print(f"sweep: {time.monotonic() - start:.0f} s")

    with (work / "report.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "score" and row["task"] == "digit_scenes"]
    seeds = {"1", "2"} if options.long else {"1"}
    there = {(row["cell"], row["seed"]) for row in rows}
    missing = {(cell, seed) for cell in CELLS for seed in seeds} ^ there
    shared = [path for path in (work / "shared").glob("language_*/seed_*/config.json")]
    page = (work / "report.html").read_text()
    problems = [text for wrong, text in (
        (missing, f"expected every cell with every seed, got another set: {missing}"),
        (len(shared) != len(seeds), f"expected one language stage a seed, got {shared}"),
        ("Partial" in page, "expected a complete report"),
        ("data:image/png;base64," not in page, "expected pictures in the report")) if wrong]
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
