#!/usr/bin/env python3
"""Training on the GPU: the quickstart's first steps beside the CPU's, and the real size in bfloat16.

    bench/gpu_training.py PROGRAM [--device cuda] [--config configs/vl_mamba.json] [--micro-batch 4] [--steps 20]

The quickstart's last stage runs ten steps in fp32 on both, from the same fresh weights on the same synthetic records;
exit 1 where a loss differs by more than a thousandth, which is what rounding in another order may make of ten steps.
Then the last stage of --config runs with random weights and full rows, twice micro-batch records a step, and ends
before it would save: tokens/s, MFU and memory are medians (memory: the most) over the steps behind the first quarter.
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from synthetic import ROOT, command, lines, make_records, read_config, train

STEPS = 10
TOLERANCE = 1e-3
QUESTION = 12  # tokens of a question and its answer, at least


def compare(arguments, folder):
    config = ROOT / "configs/quickstart.json"
    stage = read_config(config)["stages"][-1]["name"]
    make_records(folder, 48, [1 + i % 4 for i in range(128)])
    losses = []
    for i, device in enumerate(("cpu", arguments.device)):
        run = folder / f"first_{i}"
        train(command(arguments.program, config, stage, folder, run, {"steps": STEPS, "device": device}), 8)
        losses.append([line["loss"] for line in lines(run, stage, "metrics.jsonl")])
    print(f"{'step':>4} {'loss, cpu':>12} {'loss, ' + arguments.device:>12} {'difference':>12}")
    worst = 0
    for step, (here, there) in enumerate(zip(*losses, strict=True), 1):
        worst = max(worst, abs(here - there) / here)
        print(f"{step:4} {here:12.6f} {there:12.6f} {there - here:12.2e}")
    print(f"largest relative difference {worst:.1e}, allowed {TOLERANCE:.0e}\n")
    return worst <= TOLERANCE


def measure(arguments, folder):
    config = read_config(arguments.config)
    stage = config["stages"][-1]
    batch, run = arguments.micro_batch, folder / "real"
    make_records(folder, config["model"]["vision_encoder"]["image_size"],
                 [-(-stage["batch"]["max_length"] // QUESTION)] * 16)
    settings = {"device": arguments.device, "steps": 1000, "batch.global_batch": 2 * batch, "batch.micro_batch": batch}
    words = command(arguments.program, arguments.config, stage["name"], folder, run, settings)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and len(lines(run, stage["name"], "timing.jsonl")) < arguments.steps:
        time.sleep(0.5)
    process.kill()  # its checkpoint would be of random weights, and large
    log = process.communicate()[1]
    timing = lines(run, stage["name"], "timing.jsonl")
    if len(timing) < arguments.steps:
        print(log[-2000:])
        return False
    timed = timing[len(timing) // 4:]

    def median(key):
        return statistics.median(line[key] for line in timed) if key in timed[0] else float("nan")

    print(f"{arguments.config}, stage {stage['name']}, random weights, {stage.get('precision', 'float32')}, "
          f"2 x {batch} records of {stage['batch']['max_length']} positions a step, {len(timing)} steps:")
    print(f"{median('tokens_per_s'):9.0f} tokens/s   {median('step_ms'):9.0f} ms a step   "
          f"{median('tflops'):7.1f} TFLOP/s   MFU {100 * median('mfu'):5.1f} %   "
          f"peak {max(line['mem_gib'] for line in timing):6.1f} GiB")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--config", default=str(ROOT / "configs/vl_mamba.json"))
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        agrees = compare(arguments, pathlib.Path(first))
        sys.exit(0 if measure(arguments, pathlib.Path(second)) and agrees else 1)


if __name__ == "__main__":
    main()
