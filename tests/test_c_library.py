"""csrc is a complete C library: it builds and trains without Python and without OpenMP."""

from __future__ import annotations

import os
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
    command = [compiler, *options, str(source), "-o", str(folder / "probe")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.once
def test_c_library_trains_without_python(tmp_path):
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("there is no C compiler")
    if not compiles(compiler, BASE, tmp_path):
        pytest.skip(f"{compiler} does not compile for this test")
    sanitizers = SANITIZERS if compiles(compiler, SANITIZERS, tmp_path) else []
    isa = "neon" if os.uname().machine == "aarch64" else "baseline"
    program = tmp_path / "c_library"
    sources = [*sorted(CSRC.glob("*.c")), CSRC / "kernels" / "kernels.c", Path(__file__).with_name("c_library.c")]
    subprocess.run([compiler, *BASE, *sanitizers, f"-DTC_ISA={isa}", *map(str, sources), "-lm", "-lpthread",
                    "-o", str(program)], check=True, capture_output=True)
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    result = subprocess.run([str(program)], check=True, capture_output=True, text=True, env=environment)
    name, first, last, difference = result.stdout.split()
    assert name == isa
    assert 0.5 < float(first) < 1.5  # two classes: ln 2 for a network that knows nothing
    assert float(last) < 0.05
    assert float(difference) < 1e-5  # one image takes another path than many
