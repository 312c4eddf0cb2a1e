"""docs/sketches.md: its commands and programs run, and its page prepares drawings as Python does."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import tinyconv
from tinyconv import ImageInput, cli
from tinyconv.datasets.strokes import rasterize

pytestmark = pytest.mark.once

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "sketches.md").read_text(encoding="utf-8")
CLASSES, DRAWINGS = 12, 50


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with `drawings`, each class a figure of its own, and a photograph of one of the third class."""
    random = np.random.default_rng(0)
    figures = random.integers(0, 256, (CLASSES, 2, 6))
    (tmp_path / "drawings").mkdir()
    for number, figure in enumerate(figures):
        wobbly = np.clip(figure + random.normal(0, 10, (DRAWINGS, 2, 6)), 0, 255)
        np.save(tmp_path / "drawings" / f"figure {number:02}.npy", rasterize(wobbly[:, None]).reshape(-1, 784))
    picture = Image.new("RGB", (600, 400), (205, 200, 190))
    ImageDraw.Draw(picture).line([(150 + int(x), 60 + int(y)) for x, y in figures[2].T], (60, 60, 90), 16, "curve")
    picture.save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_of_the_page_run(folder, capsys):
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    commands += re.findall(r"^`(tinyconv dataset convert [^`]*)`", PAGE, re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "tinyconv"
        assert cli.main(arguments) == 0, capsys.readouterr().err
    assert {"sheet.png", "sketches", "sketches_images.png", "sketches_labels_uint8"} <= {
        path.name for path in folder.iterdir()}
    text = capsys.readouterr().out
    assert f"28x28x1 of {CLASSES} classes, {DRAWINGS * CLASSES * 4 // 5} for training" in text
    assert "top-5" in text


def test_programs_of_the_page_run(folder, capsys):
    for number, block in enumerate(blocks("python")):
        (folder / f"{number}.py").write_text(block, encoding="utf-8")
        runpy.run_path(str(folder / f"{number}.py"))
    text = capsys.readouterr().out
    assert re.search(rf"^top-1 [01]\.\d{{4}}, top-5 [01]\.\d{{4}} of {CLASSES * DRAWINGS // 5} drawings$", text,
                     re.MULTILINE)
    assert len(re.findall(r"^ +figure \d\d  [01]\.\d{4}$", text, re.MULTILINE)) == 5
    model = tinyconv.load_model(folder / "sketches")
    # What the command makes is the same model.
    assert cli.main(["train", "drawings", "--output", "command"]) == 0
    other = tinyconv.load_model(folder / "command")
    assert settings(model) == settings(other)
    assert (model.class_names, model.image_input) == (other.class_names, other.image_input)


def settings(model: tinyconv.Sequential) -> list[dict[str, object]]:
    return [{**layer.get_config(), "name": None} for layer in model.layers]


def canvas(seed: int) -> np.ndarray:
    """RGBA pixels of a drawing: of different colours, some on a transparent ground."""
    random = np.random.default_rng(seed)
    height, width = (int(side) for side in random.integers(120, 400, 2))
    paper = [(255, 255, 255, 255), (0, 0, 0, 0), (10, 20, 30, 255), (230, 225, 210, 255)][seed % 4]
    ink = [(0, 0, 0, 255), (40, 0, 90, 255), (255, 255, 255, 255), (150, 60, 60, 255)][seed % 4]
    picture = Image.new("RGBA", (width * 4, height * 4), paper)
    points = [tuple(int(value) for value in point)
              for point in random.integers(60, (width * 4 - 60, height * 4 - 60), (6, 2))]
    ImageDraw.Draw(picture).line(points, ink, int(random.integers(16, 80)), "curve")
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX))


def test_the_page_prepares_drawings_as_python_does(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = blocks("html")[0].split("<script>\n")[1].split("const canvas")[0]
    pictures = [canvas(seed) for seed in range(8)]
    lines = [script, "const results = [];", "const fs = require('fs');"]
    for number, picture in enumerate(pictures):
        (tmp_path / f"{number}.rgba").write_bytes(picture.tobytes())
        name = json.dumps(str(tmp_path / f"{number}.rgba"))
        height, width = picture.shape[:2]
        lines.append(f"results.push([...sketchInput(fs.readFileSync({name}), {width}, {height})]);")
    lines.append("console.log(JSON.stringify(results));")
    (tmp_path / "page.js").write_text("\n".join(lines), encoding="utf-8")
    result = subprocess.run([node, str(tmp_path / "page.js")], capture_output=True, text=True, check=True, timeout=60)
    for found, picture in zip(json.loads(result.stdout), pictures, strict=True):
        expected = ImageInput("content")(picture, (28, 28, 1))
        assert expected.max() > 200
        np.testing.assert_allclose(np.array(found).reshape(28, 28), expected[..., 0], atol=1e-3)
