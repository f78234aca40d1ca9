#!/usr/bin/env python3
"""What packing gains: `vlmamba train` on records of unequal lengths, one a row and several a row, on the CPU.

    bench/packing.py PROGRAM [--config configs/quickstart.json] [--threads 2] [--steps 12] [--records 512]

Records have a picture and 1 to 6 questions; few are long, as in instruction data: the number falls off geometrically.
Both runs see the same records in the same order, in micro-batches of the same number of records, and do the same work
but for padding. Tokens are positions of text and pictures, without padding; a figure is a median over the steps behind
the first quarter.
"""

import argparse
import pathlib
import random
import statistics
import tempfile

from synthetic import ROOT, command, lines, make_records, read_config, train


def measure(arguments, stage, folder, packing):
    run = folder / ("packed" if packing else "unpacked")
    settings = {"steps": arguments.steps, "batch.packing": str(packing).lower()}
    train(command(arguments.program, arguments.config, stage, folder, run, settings), arguments.threads)
    timing, metrics = lines(run, stage, "timing.jsonl"), lines(run, stage, "metrics.jsonl")
    timed = timing[len(timing) // 4:]
    return (statistics.median(line["tokens_per_s"] for line in timed),
            statistics.median(line["step_ms"] for line in timed), metrics[0]["loss"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--config", default=str(ROOT / "configs/quickstart.json"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--records", type=int, default=512)
    arguments = parser.parse_args()
    config = read_config(arguments.config)
    stage = config["stages"][-1]["name"]
    draws = random.Random(2)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        questions = [min(6, 1 + int(draws.expovariate(0.8))) for _ in range(arguments.records)]
        make_records(folder, config["model"]["vision_encoder"]["image_size"], questions)
        plain, plain_ms, plain_loss = measure(arguments, stage, folder, False)
        packed, packed_ms, packed_loss = measure(arguments, stage, folder, True)
    print(f"one record a row  {plain_ms:9.1f} ms a step  {plain:9.0f} tokens/s  first loss {plain_loss:.6f}")
    print(f"packed            {packed_ms:9.1f} ms a step  {packed:9.0f} tokens/s  first loss {packed_loss:.6f}")
    print(f"gain              {packed / plain:9.2f}")


if __name__ == "__main__":
    main()
