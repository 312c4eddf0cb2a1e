"""csrc is a complete C library: it builds and trains without Python and without OpenMP."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[1] / "csrc"
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
BASE = ["-std=gnu11", "-O1", "-g", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", f"-I{CSRC}"]


def compiles(compiler, options, folder):
    source = folder / "probe.c"
    source.write_text("int main(void) { return 0; }\n")
    command = [*compiler, *options, str(source), "-o", str(folder / "probe")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The command that links a C program with the library's objects, and their instruction set."""
    folder = tmp_path_factory.mktemp("library")
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"there is no C compiler: {compiler[0]}")
    if not compiles(compiler, BASE, folder):
        pytest.skip(f"{compiler[0]} does not compile for this test")
    isa = "neon" if os.uname().machine == "aarch64" else "baseline"
    options = [*BASE, *(SANITIZERS if compiles(compiler, SANITIZERS, folder) else []), f"-DTC_ISA={isa}"]
    for source in [*CSRC.glob("*.c"), CSRC / "kernels" / "kernels.c"]:
        subprocess.run([*compiler, *options, "-c", str(source), "-o", str(folder / f"{source.stem}.o")], check=True,
                       capture_output=True)
    return [*compiler, *options, *map(str, sorted(folder.glob("*.o"))), "-lm", "-lpthread"], isa


def run_program(library, name, folder, arguments=()):
    """The output of a C program of this folder."""
    program = folder / name
    subprocess.run([*library, str(Path(__file__).with_name(f"{name}.c")), "-o", str(program)], check=True,
                   capture_output=True)
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    return subprocess.run([str(program), *arguments], check=True, capture_output=True, text=True,
                          env=environment).stdout


@pytest.mark.once
def test_c_library_trains_without_python(library, tmp_path):
    command, isa = library
    name, first, last, difference = run_program(command, "c_library", tmp_path).split()
    assert name == isa
    assert 0.5 < float(first) < 1.5  # two classes: ln 2 for a network that knows nothing
    assert float(last) < 0.05
    assert float(difference) < 1e-5  # one image takes another path than many


# Trainable kernels and biases of three convolutions and a dense layer -> gradients of kernels and of biases
# that a step computes, and gradients of the inputs of convolutions.
FROZEN = {
    "11111111": (4, 4, 2),
    "11110011": (3, 3, 2),  # in the middle: its input's gradient, not its own
    "11001111": (3, 3, 2),
    "00111111": (3, 3, 1),  # nothing below the lowest trainable layer
    "00001111": (2, 2, 0),
    "00000011": (1, 1, 0),
    "10110111": (3, 3, 2),  # weight by weight
    "00000000": (0, 0, 0),
}


@pytest.mark.once
def test_frozen_layers_cost_no_backward_work(library, tmp_path):
    output = run_program(library[0], "frozen", tmp_path, FROZEN)
    for (flags, expected), line in zip(FROZEN.items(), output.splitlines(), strict=True):
        kernels, biases, correlations, forward = map(int, line.split())
        assert forward == 3
        assert (kernels, biases, correlations - forward) == expected, flags


@pytest.mark.once
def test_c_library_reports_and_frees_where_memory_runs_out(library, tmp_path):
    command = [*library[0], *(f"-Wl,--wrap={name}" for name in ("malloc", "calloc", "free"))]
    if not compiles(shlex.split(os.environ.get("CC", "cc")), ["-Wl,--wrap=malloc"], tmp_path):
        pytest.skip("the linker does not wrap functions")
    lines = run_program(command, "allocations", tmp_path).splitlines()
    assert len(lines) == 7
    for line in lines:
        allocations, refused, failed, alive = map(int, line.split())
        assert refused > 20  # the plans
        assert failed == allocations - refused > 0  # what calls need they ask for again
        assert alive == 0
