"""The program of the sketch tutorial under Keras, and with only its import lines changed.

The full comparison, by hand, once for Keras and once for tinyconv:

    for seed in 0 1 2; do python tests/parity/sketch_tutorial.py FOLDER $seed; done
    sed 's/^import keras$/import tinyconv as keras/; s/^from keras /from tinyconv /' \
        tests/parity/sketch_tutorial.py > sketch.py
    for seed in 0 1 2; do python sketch.py FOLDER $seed; done
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tinyconv import engine

SCRIPT = Path(__file__).parent / "sketch_tutorial.py"
# Few drawings, so that it takes seconds: a fifth of them are the test.
DRAWINGS = 400
CLASSES = 24


def run(script: Path, folder: Path) -> tuple[float, float]:
    """Top-1 and top-5 accuracy that a script prints."""
    result = subprocess.run([sys.executable, str(script), str(folder), "0", str(DRAWINGS)], capture_output=True,
                            text=True, check=False, cwd=script.parent, env={**os.environ, "KERAS_BACKEND": "jax"})
    assert result.returncode == 0, result.stderr
    found = re.search(r"top-1 ([\d.]+), top-5 ([\d.]+)", result.stdout)
    assert found, result.stdout
    return float(found[1]), float(found[2])


@pytest.mark.slow
@pytest.mark.skipif(engine.backend() == "numpy", reason="takes minutes on the NumPy backend")
def test_sketch_tutorial_with_other_imports(data_folder, tmp_path):
    pytest.importorskip("keras", reason="the extra [parity] is not installed")
    folder = data_folder / "quickdraw"
    if not folder.is_dir():
        pytest.skip(f"no drawings: {folder} is not there")
    text = SCRIPT.read_text(encoding="utf-8")
    ours = tmp_path / "sketch.py"
    ours.write_text(text.replace("\nimport keras\n", "\nimport tinyconv as keras\n")
                    .replace("\nfrom keras ", "\nfrom tinyconv "), encoding="utf-8")
    lines = [(a, b) for a, b in zip(text.splitlines(), ours.read_text(encoding="utf-8").splitlines(), strict=True)
             if a != b]
    assert [a for a, _ in lines] == ["import keras", "from keras import layers"]
    images = DRAWINGS * CLASSES // 5
    for here, there in zip(run(ours, folder), run(SCRIPT, folder), strict=True):
        # Three standard errors of the difference of two shares of so many drawings.
        assert abs(here - there) <= 3 * math.sqrt(2 * there * (1 - there) / images)
        assert here > 10 / CLASSES  # chance: 1 and 5 of them
