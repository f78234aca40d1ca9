#!/usr/bin/env python3
"""Plants one mistake at a time in copies of the CUDA kernels and runs the emulated tests: each must be noticed.

    tests/emulated_cuda/mutate.py BUILD [number of a mutation ...]

BUILD is a configured build with the target emulated_cuda_test built; its commands are taken over, with less optimisation.
Ends with the mutations that nothing noticed, and fails if there are any.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCAN, CONV, NORM, CROSS, UPDATE = "ScanKernel*", "ConvKernel*", "NormKernel*", "CrossScanKernel*", "UpdateKernel*"
WALK, BACK, TILE = "selective_scan_walk.h", "selective_scan_backward.h", "selective_scan_tile.h"

# (file, tests, what stands there, what takes its place); what stands there is found once.
MUTATIONS = [
    # barriers
    (WALK, SCAN, "        wait_copies<0>();\n        __syncthreads();\n", "        wait_copies<0>();\n"),
    (WALK, SCAN, "        wait_copies<0>();\n", ""),
    (WALK, SCAN, "    __syncthreads();\n    const auto rows", "    const auto rows"),
    (BACK, SCAN, "    prepare(steps);\n    __syncthreads();\n", "    prepare(steps);\n"),
    (BACK, SCAN, "      run_piece<kRuns>(piece);\n      __syncthreads();\n", "      run_piece<kRuns>(piece);\n"),
    (BACK, SCAN, "      turn ^= 1;\n", ""),
    ("selective_scan.cu", SCAN, "first_of_warp[threadIdx.x / 32] = first;\n  __syncthreads();\n",
     "first_of_warp[threadIdx.x / 32] = first;\n"),
    ("causal_conv1d.cu", CONV, "partial[2 * warp + 1] = last;\n    __syncthreads();\n", "partial[2 * warp + 1] = last;\n"),
    ("column_sum.cu", CONV + ":" + NORM, "  __syncthreads();\n  if (lane > 0", "  if (lane > 0"),
    ("rms_norm.cu", NORM, "  __syncthreads();\n  value = warps[0];", "  value = warps[0];"),
    # boundaries
    (WALK, SCAN, "steps_of(i + 1));", "steps_of(i));"),
    (BACK, SCAN, "if (t >= steps || n >= p.states) continue;", "if (t > steps || n >= p.states) continue;"),
    (TILE, SCAN, "own.channel + c < at.count && own.state(i) < states)", "own.channel + c <= at.count && own.state(i) < states)"),
    ("causal_conv1d.cu", CONV, "t < min(s + p.taps, p.length)", "t < min(s + p.taps - 1, p.length)"),
    ("causal_conv1d_four.cu", CONV, "    if (s >= last) return;\n", "    if (s > last) return;\n"),
    ("causal_conv1d_four.cu", CONV, "const bool counts = t < last;", "const bool counts = t <= last;"),
    ("rms_norm.cu", NORM, "row < p.rows; row += gridDim.x) {\n    const int64_t offset = row * p.channels;\n    Math squares = 0, product = 0;",
     "row + 1 < p.rows; row += gridDim.x) {\n    const int64_t offset = row * p.channels;\n    Math squares = 0, product = 0;"),
    # scan orders and other indices
    (TILE, SCAN, "direction < 2 ? t : p.length - 1 - t", "direction < 2 ? t : p.length - t - (t > 0)"),
    (TILE, SCAN, "step % height) * p.width + step / height", "step / height) * p.width + step % height"),
    (TILE, SCAN, "p.every_other ? 2 * k : k", "k"),
    ("scan_order.h", CROSS + ":" + CONV, "int64_t{row} * width + column", "int64_t{column} * width + row"),
    ("causal_conv1d.cu", CONV, "row.input(end, p.taps - 2 - task.chunk,", "row.input(end, p.taps - 1 - task.chunk,"),
    # runs and padding
    (WALK, SCAN, "if (!kBackwards && kind == StepKind::kReset) forget();", ""),
    (WALK, SCAN, "if (kBackwards && kind == StepKind::kReset) forget();", ""),
    (WALK, SCAN, "if (raw.kind[t] == StepKind::kReset) delta = 0;", ""),
    (BACK, SCAN, "if (resets<kRuns>(t)) clear(dh);", ""),
    (BACK, SCAN, "kind[t] == StepKind::kPadding ? Math(0) : sum;", "sum;"),
    ("selective_scan.cu", SCAN, "t > first && id[t] != id[t - 1]", "t >= first && t > 0 && id[t] != id[t - 1]"),
    ("selective_scan.cu", SCAN, "(p.resets && p.resets[line] ? Math(0) : decayed)", "decayed"),
    ("conv_row.h", CONV, "start == first()", "true"),
    # terms and operands
    (BACK, SCAN, "da[channel][i] += delta.v[channel] * slope;", "da[channel][i] += slope;"),
    (BACK, SCAN, "const Math slope = dh[channel][i] * decayed[channel][i];", "const Math slope = dh[channel][i] * decay[channel][i];"),
    (BACK, SCAN, "if (p.skip) du += skip * dy;", ""),
    (BACK, SCAN, "* gate * (1 + z * (1 - gate));", "* gate;"),
    (BACK, SCAN, "if (!(delta > 20)) ddelta *= sigmoid(delta);", "ddelta *= sigmoid(delta);"),
    (BACK, SCAN, "if (sum && w.direction > 0) du += *sum;", ""),
    (WALK, SCAN, "state = decay * (state + b.v[j] * input.v[channel]);", "state = decay * state + b.v[j] * input.v[channel];"),
    (WALK, SCAN, "if (sum && k > 0) y += *sum;", ""),
    ("rms_norm.cu", NORM, "x[i] = scale * (dy[i] * weight[i] - x[i] * pull);", "x[i] = scale * dy[i] * weight[i];"),
    ("rms_norm.cu", NORM, "/ count * scale * scale;", "/ count * scale;"),
    ("causal_conv1d.cu", CONV, "    if (g.dfinal_state && to >= 0 &&", "    if (g.dfinal_state && to > 0 &&"),
    ("selective_state_update.cu", UPDATE, "if (p.z) sum *= silu(to_math(p.z[index]));", "if (p.z) sum *= to_math(p.z[index]);"),
    ("selective_state_update.cu", UPDATE, "channel / (p.channels / p.groups)", "channel % p.groups"),
    ("cross_scan.cu", CROSS, "for (int k = 0; k < maps.directions; ++k) {\n      const int64_t t", "for (int k = 1; k < maps.directions; ++k) {\n      const int64_t t"),
]


def commands_of(build):
    """The compiler's command of every kernel, by file name, and the linker's."""
    lines = subprocess.check_output(["ninja", "-C", build, "-t", "commands", "emulated_cuda_test"], text=True).splitlines()
    compiles = {}
    for line in lines:
        source = re.search(r"-c (\S+/kernels/cuda/(\w+\.cu))$", line)
        if source and "emulated_kernels.dir" in line:
            compiles[source.group(2)] = line.replace("ccache ", "").replace("-O3", "-O1")
    return compiles, lines[-1]


def touched_by(folder, name):
    """The kernels that a mutation of this file changes; of the scans' instances, which are alike, those of 8 and 16."""
    if name.endswith(".cu"):
        return [name]
    seen, grown = {name}, True
    while grown:
        grown = False
        for other in os.listdir(folder):
            text = open(os.path.join(folder, other)).read()
            if other not in seen and any(f"kernels/cuda/{header}" in text for header in seen):
                seen.add(other)
                grown = True
    return [n for n in sorted(seen) if n.endswith(".cu") and not re.fullmatch(r"selective_scan_(1|32|64|256)\.cu", n)]


def run(command, folder, seconds=None):
    try:
        done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, timeout=seconds)
        return done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        return 1, "ran too long"


class Bench:
    def __init__(self, build, work):
        self.build, self.work = os.path.abspath(build), work
        self.compiles, self.link = commands_of(build)

    def noticed(self, mutation):
        """Whether the tests fail with this mistake, and how; None: without any."""
        name, tests, old, new = mutation or ("selective_scan_tile.h", "*Kernel*", "", "")
        overlay = os.path.join(self.work, "overlay")
        shutil.rmtree(overlay, ignore_errors=True)
        shutil.copytree(os.path.join(ROOT, "kernels"), os.path.join(overlay, "kernels"))
        folder = os.path.join(overlay, "kernels", "cuda")
        path = os.path.join(folder, name)
        text = open(path).read()
        if old and text.count(old) != 1:
            return None, f"stands there {text.count(old)} times"
        open(path, "w").write(text.replace(old, new) if old else text)
        link = self.link
        for kernel in touched_by(folder, name):
            command, built = self.compiles[kernel], os.path.join(self.work, kernel + ".o")
            command = re.sub(r"-MD -MT \S+ -MF \S+ -o \S+ -c \S+", f"-w -o {built} -c {os.path.join(folder, kernel)}", command)
            emulation = f"-I{ROOT}/tests/emulated_cuda"
            command = command.replace(emulation, f"{emulation} -I{overlay}", 1)
            code, output = run(command, self.build)
            if code != 0:
                return None, "does not compile: " + output[-300:]
            link = re.sub(r"\S+emulated_kernels\.dir/\S+/" + re.escape(kernel) + r"\.o", "", link)
            link = link.replace("/c++ ", f"/c++ {built} ", 1)  # first: what all instances share is taken from it
        program = os.path.join(self.work, "mutant")
        code, output = run(link.replace("-o bin/emulated_cuda_test", f"-o {program}"), self.build)
        if code != 0:
            return None, "does not link: " + output[-300:]
        code, output = run(f"{program} --gtest_filter='{tests}' --gtest_fail_fast --gtest_brief=1", self.build, 300)
        test = re.search(r"\[  FAILED  \] (\S+)", output)
        return code != 0, test.group(1) if test else output.strip()[-120:]


def main(build, numbers):
    missed = []
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(build, work)
        noticed, how = bench.noticed(None)
        if noticed is not False:
            sys.exit(f"mutate: the kernels fail as they are: {how}")
        for number in numbers or range(len(MUTATIONS)):
            noticed, how = bench.noticed(MUTATIONS[number])
            print(f"{number:2} {MUTATIONS[number][0]:28} {'noticed by' if noticed else 'MISSED:'} {how}", flush=True)
            if not noticed:
                missed.append(number)
    print(f"mutate: {len(numbers or MUTATIONS)} mutations, missed: {missed or 'none'}")
    return 1 if missed else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1], [int(n) for n in sys.argv[2:]]))
