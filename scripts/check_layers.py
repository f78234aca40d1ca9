#!/usr/bin/env python3
"""Checks the house rules that a compiler does not: who includes whom, and that paths named in documents exist.

    scripts/check_layers.py            prints every violation as FILE:LINE: message; exit 1 if there is one
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Which rooms a room may include, itself and everything below it. The order of docs/architecture.md.
DIRECT = {
    "core": [],
    "io": ["core"],
    "ops": ["core"],
    "dist": ["core"],
    "kernels": ["ops", "core"],
    "nn": ["ops"],
    "model": ["nn", "io"],
    "data": ["core", "io"],
    "infer": ["model", "data"],
    "train": ["model", "data", "dist"],
    "eval": ["infer", "dist"],
    "study": ["eval"],
    "bench": ["nn", "io", "kernels"],
    "app": ["study", "train", "eval", "bench"],
    "tools": ["app"],
}

# No LibTorch header in parsers, so that fuzzers build them alone; none of these headers anywhere.
TORCH_FREE = ["src/io", "include/vlmamba/io", "src/data/tokenizer", "include/vlmamba/data/tokenizer",
              "src/data/image_", "include/vlmamba/data/image_", "src/data/resize", "include/vlmamba/data/resize",
              "src/eval/metrics", "include/vlmamba/eval/metrics", "src/eval/tasks", "src/eval/benchmark",
              "include/vlmamba/eval/benchmark"]
BANNED = ("torch/torch.h", "torch/all.h", "torch/extension.h")
FORBIDDEN_NAMES = re.compile(r"(^|/)(utils?|helpers?|common|misc)(\.|/)")

INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]')
PATH_IN_TEXT = re.compile(r"`((?:scripts|src|include|kernels|configs|examples|tools|tests|docs|cmake)/[\w./-]*)`")


def allowed(room):
    """The rooms that `room` may include, transitively."""
    seen, waiting = {room}, [room]
    while waiting:
        for below in DIRECT[waiting.pop()]:
            if below not in seen:
                seen.add(below)
                waiting.append(below)
    return seen


def room_of_file(path):
    parts = path.parts
    if parts[0] == "include" and len(parts) > 3:
        return parts[2]
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    return parts[0] if parts[0] in ("kernels", "bench", "tools") else None


def room_of_include(name):
    parts = name.split("/")
    if parts[0] == "vlmamba" and len(parts) > 2:
        return parts[1]
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    return parts[0] if parts[0] in ("kernels", "bench") else None


def check_includes(path, lines):
    room = room_of_file(path)
    torch_free = any(str(path).startswith(prefix) for prefix in TORCH_FREE)
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        name = match.group(1)
        if name in BANNED:
            yield number, f"includes {name}, which costs ten seconds a file"
        if name.startswith("nlohmann/") and room != "io":
            yield number, "includes nlohmann outside io"
        if torch_free and name.startswith(("ATen/", "torch/", "c10/")):
            yield number, f"a parser includes {name}"
        target = room_of_include(name)
        if room in DIRECT and target and target not in allowed(room):
            yield number, f"{room} may not include {target} ({name})"


def check_document(lines):
    for number, line in enumerate(lines, 1):
        for named in PATH_IN_TEXT.findall(line):
            if not (ROOT / named).exists():
                yield number, f"names {named}, which does not exist"


def violations():
    tracked = [p.relative_to(ROOT) for folder in ("include", "src", "kernels", "bench", "tools", "examples", "tests", "docs", "scripts")
               for p in sorted((ROOT / folder).rglob("*")) if p.is_file()]
    for path in tracked + [pathlib.Path("README.md")]:
        if FORBIDDEN_NAMES.search(str(path)) and "gloo_stubs" not in path.parts:  # those are the names of Gloo
            yield path, 1, "a room or file needs a noun of its own"
        if path.suffix in (".h", ".cpp", ".cu"):
            found = check_includes(path, (ROOT / path).read_text().splitlines())
        elif path.suffix == ".md" and (ROOT / path).exists():
            found = check_document((ROOT / path).read_text().splitlines())
        else:
            continue
        for number, message in found:
            yield path, number, message


def main():
    found = list(violations())
    for path, number, message in found:
        print(f"{path}:{number}: {message}")
    print(f"check_layers: {len(found)} violation{'' if len(found) == 1 else 's'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
