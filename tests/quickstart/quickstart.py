"""Runs the quickstart's programs one after another, and holds its results against what the README promises.

    quickstart.py BIN DIGITS WORK [--full] [--seed N]

Without --full every program takes a few steps on a few scenes, which shows that they fit together.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SMALL = {"make_digit_scenes": ["--scenes", "200", "--described", "200", "--held-out", "12"],
         "teach_encoder": ["--steps", "3"],
         "train": [word for stage in ("language", "align", "instruct")
                   for word in ("--set", f"stages.{stage}.steps=3")]}
LEAST_SCORE, LEAST_LEAD = 88.0, 50.0  # percent of exact matches, and points above blank pictures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin", type=pathlib.Path)
    parser.add_argument("digits", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--seed", default="1")
    options = parser.parse_args()
    if not options.digits.exists():
        print(f"skipped: {options.digits} is not there; scripts/setup.sh brings it")
        return 77

    work = options.work
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    run, data, encoder = work / "run", work / "data", work / "encoder.safetensors"
    config = SOURCE / "configs/quickstart.json"

    def call(program, *arguments, kind=None):
        small = [] if options.full else SMALL.get(kind or program, [])
        subprocess.run([options.bin / program, *arguments, *small], check=True, cwd=SOURCE)

    start = time.monotonic()
    call("make_digit_scenes", "--digits", options.digits, "--output", data, "--seed", options.seed)
    call("teach_encoder", "--digits", options.digits, "--config", config, "--output", encoder, "--seed", options.seed)
    call("vlmamba", "train", "--config", config, "--set", f"seed={options.seed}", "--set", f"output_dir={run}",
         "--set", f"data_root={data}", "--set", f"model.vision_encoder.pretrained={encoder}", kind="train")
    call("vlmamba", "evaluate", "--checkpoint", run)
    call("vlmamba", "generate", "--checkpoint", run, "--image", data / "evaluation/images/00000.png", "--prompt",
         "what is in the center?")
    seconds = time.monotonic() - start

    results = [json.loads(path.read_text()) for path in run.glob("eval/*/*/results.json")]
    scores = {result["task"]: result["score"] for result in results}
    real, blank = scores["digit_scenes"], scores["digit_scenes_blank"]
    print(f"quickstart: {real:.1f} % right, {blank:.1f} % on blank pictures, {seconds:.0f} s")
    if options.full and (real < LEAST_SCORE or real - blank < LEAST_LEAD):
        print(f"expected at least {LEAST_SCORE} %, and {LEAST_LEAD} points above blank pictures")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
