#!/usr/bin/env python3
"""TensorBoard's own reader finds in a run's event files what metrics.jsonl and timing.jsonl say.

    tests/train/tensorboard_events.py PROGRAM        exit 77: there is no tensorboard to ask
"""

import json
import math
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
STEPS = 4

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    print("skipped: this Python has no tensorboard")
    sys.exit(77)


def train(program, folder):
    records = [{"id": str(i), "conversations": [{"from": "human", "value": "what is in the center?"},
                                                {"from": "gpt", "value": str(i % 10)}]} for i in range(8)]
    (folder / "records.json").write_text(json.dumps(records))
    settings = {"output_dir": folder / "run", "data_root": folder, "tokenizer": ROOT / "configs/quickstart/tokenizer.json",
                "stages.language.steps": STEPS, "stages.language.data.sets.0.records": "records.json",
                "stages.language.batch.global_batch": 4, "stages.language.batch.micro_batch": 4,
                "stages.language.data.validation_records": 2, "stages.language.validate_every": 2}
    command = [program, "train", "--config", ROOT / "configs/quickstart.json", "--stage", "language"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "run/language"


def curves(line, prefix=""):
    """Every number of a line by its path, as the event files name it."""
    for key, value in line.items():
        if isinstance(value, dict):
            yield from curves(value, f"{prefix}{key}/")
        elif key != "step":
            yield prefix + key, value


def main():
    with tempfile.TemporaryDirectory() as name:
        stage = train(sys.argv[1], pathlib.Path(name))
        events = EventAccumulator(str(stage / "tensorboard"))
        events.Reload()
        expected = {}
        for group, file in (("train/", "metrics.jsonl"), ("timing/", "timing.jsonl")):
            for text in (stage / file).read_text().splitlines():
                line = json.loads(text)
                for key, value in curves(line, group):
                    expected.setdefault(key, {})[line["step"]] = value
        assert set(events.Tags()["scalars"]) == set(expected), (events.Tags()["scalars"], sorted(expected))
        for key, values in expected.items():
            found = {event.step: event.value for event in events.Scalars(key)}
            assert found.keys() == values.keys(), (key, found, values)
            for step, value in values.items():
                assert math.isclose(found[step], value, rel_tol=1e-6, abs_tol=1e-12), (key, step, found[step], value)
        print(f"{len(expected)} curves of {STEPS} steps agree")


if __name__ == "__main__":
    main()
