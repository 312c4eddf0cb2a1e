"""What is installed, built and shipped."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

import tinyconv
from tinyconv import engine

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WHEEL_LIMIT = 2_000_000  # bytes
IMPORT_LIMIT = 0.060  # seconds, over numpy

pytestmark = pytest.mark.once
Run = Callable[..., subprocess.CompletedProcess[str]]


def is_editable() -> bool:
    direct = json.loads(metadata.distribution("tinyconv").read_text("direct_url.json") or "{}")
    return bool(direct.get("dir_info", {}).get("editable"))


def test_tests_run_on_the_installed_package():
    folder = Path(tinyconv.__file__).resolve().parent
    installed = metadata.distribution("tinyconv")
    if is_editable():
        assert folder == ROOT / "tinyconv"
    else:
        assert not folder.is_relative_to(ROOT / "tinyconv"), "a Python started here imports the source"
        assert folder == Path(str(installed.locate_file("tinyconv"))).resolve()
    assert "--import-mode=importlib" in PYPROJECT["tool"]["pytest"]["ini_options"]["addopts"]


def test_version_is_one():
    assert metadata.version("tinyconv") == tinyconv.__version__
    assert f"## {tinyconv.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_metadata_of_the_distribution():
    fields = metadata.metadata("tinyconv")
    assert fields["License-Expression"] == "MIT"
    assert fields["Requires-Python"] == ">=3.11"
    runtime = [line.split(";")[0] for line in metadata.requires("tinyconv") or () if "extra ==" not in line]
    assert sorted(name.split(">")[0] for name in runtime) == ["numpy", "pillow"]
    scripts = {entry.name: entry.value for entry in metadata.distribution("tinyconv").entry_points}
    assert scripts == {"tinyconv": "tinyconv.cli:main"}


def test_packages_listed_are_those_of_the_tree():
    found = {".".join(path.parent.relative_to(ROOT).parts)
             for path in (ROOT / "tinyconv").rglob("__init__.py")}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == found


def test_dependencies_of_the_extension_are_all_of_its_sources(run_python: Run):
    code = """
        import json, os, runpy, sys
        import setuptools
        os.chdir(sys.argv[1])
        settings = {}
        setuptools.setup = lambda **keywords: settings.update(keywords)
        runpy.run_path("setup.py")
        extension, = settings["ext_modules"]
        print(json.dumps([*extension.sources, *extension.depends]))
    """
    listed = set(json.loads(run_python(code, str(ROOT)).stdout.splitlines()[-1]))
    files = [path for pattern in ("*.c", "*.h") for path in (ROOT / "csrc").rglob(pattern)]
    files += [path for pattern in ("*.pyx", "*.pxd") for path in (ROOT / "tinyconv").rglob(pattern)]
    assert listed == {"setup.py"} | {path.relative_to(ROOT).as_posix() for path in files}


def test_import_loads_nothing_that_it_does_not_need(run_python: Run):
    code = """
        import sys, numpy
        before = set(sys.modules)
        import tinyconv
        print(*set(sys.modules) - before)
    """
    loaded = set(run_python(code).stdout.split())
    assert "tinyconv.models" in loaded
    unwanted = {"PIL", "tqdm", "urllib.request", "http", "ssl", "argparse", "json", "zipfile", "email",
                "asyncio", "multiprocessing", "subprocess", "socket", "unittest", "tinyconv.cli", "tinyconv.datasets",
                "tinyconv.formats", "tinyconv.ops", "tinyconv.engine.reference"}
    assert not loaded & unwanted


def test_import_time_over_numpy(run_python: Run):
    # Processor time, so that a busy machine does not count.
    code = """
        import time, numpy
        start = time.process_time()
        import tinyconv
        print(time.process_time() - start)
    """
    run_python(code)  # writes the .pyc files
    assert statistics.median(float(run_python(code).stdout) for _ in range(7)) < IMPORT_LIMIT


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project's sources, without what builds and tools left there."""
    if not (ROOT / "setup.py").exists():
        pytest.skip("the project's sources are not here")
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("source") / "tinyconv"
    unwanted = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "*.so", "*.pyd",
                                      "_build.py")
    shutil.copytree(ROOT, folder, ignore=unwanted)
    return folder


def build(kind: str, source: Path, output: Path, status: int = 0,
          **environment: str) -> tuple[Path | None, str]:
    """Runs a build hook as a front end would; returns the file and what was printed."""
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    output.mkdir(parents=True, exist_ok=True)
    result = subprocess.run([sys.executable, "-c", code, str(output)], cwd=source,
                            env={**os.environ, **environment}, capture_output=True, text=True, timeout=600, check=False)
    text = result.stdout + result.stderr
    assert (result.returncode != 0) == bool(status), text
    return next(iter(output.iterdir()), None), text


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive, _ = build("sdist", source, tmp_path_factory.mktemp("sdist"))
    assert archive is not None
    return archive


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree that the source distribution unpacks to."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # since Python 3.11.4
        archive.extractall(folder)
    return next(folder.iterdir())


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from the source distribution."""
    archive, _ = build("wheel", unpacked, tmp_path_factory.mktemp("wheel"), TINYCONV_REQUIRE_EXT="1",
                       TINYCONV_SANITIZE="")
    assert archive is not None
    return archive


def test_sdist_holds_all_sources(source: Path, sdist: Path):
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = [path.relative_to(source) for folder in ("csrc", "tinyconv", "tests")
              for path in (source / folder).rglob("*") if path.is_file()]
    assert len(wanted) > 50
    assert {path.as_posix() for path in wanted} <= names
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"} <= names
    built = (".so", ".pyd", ".o", ".pyc", "native.c", "_build.py")
    assert not [name for name in names if name.endswith(built)]


@pytest.mark.slow
def test_wheel_is_small_and_holds_no_sources_of_the_engine(wheel: Path):
    assert wheel.stat().st_size < WHEEL_LIMIT
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert not [name for name in names if name.endswith((".c", ".h", ".pyx", ".pxd", ".o"))]
    assert not [name for name in names if name.split("/")[0] in ("tests", "csrc", "benchmarks")]
    assert "tinyconv/py.typed" in names
    assert len([name for name in names if name.startswith("tinyconv/engine/native.")]) == 1


@pytest.mark.slow
def test_wheel_works_elsewhere(wheel: Path, tmp_path: Path, run_python: Run):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = """
        import json, sys
        sys.path.insert(0, sys.argv[1])
        import numpy as np, tinyconv
        from tinyconv import layers
        model = tinyconv.Sequential([layers.Input(shape=(8, 8, 1)), layers.Conv2D(4, 3), layers.Flatten(),
                                     layers.Dense(3, activation="softmax")], seed=0)
        y = model.predict(np.ones((3, 8, 8, 1), np.float32), verbose=0)
        print(json.dumps([tinyconv.__file__, tinyconv.engine.config(), float(y.sum())]))
    """
    variables = {"TINYCONV_BACKEND": "native", "TINYCONV_ISA": None}
    file, config, total = json.loads(run_python(code, str(tmp_path), **variables).stdout)
    assert Path(file).parent == tmp_path / "tinyconv"
    assert config["backend"] == "native"
    assert total == pytest.approx(3, rel=1e-5)
    if engine.backend() == "native":
        assert config["instruction_sets_built"] == engine.config()["instruction_sets_built"]


@pytest.mark.slow
def test_build_is_redone_when_a_kernel_header_changes(wheel: Path, unpacked: Path, tmp_path: Path):
    def library() -> Path:
        return next((unpacked / "build").glob("lib*/tinyconv/engine/native.*"))

    built = library().stat().st_mtime_ns
    variables = {"TINYCONV_REQUIRE_EXT": "1", "TINYCONV_SANITIZE": ""}
    build("wheel", unpacked, tmp_path / "same", **variables)
    assert library().stat().st_mtime_ns == built
    header = unpacked / "csrc" / "kernels" / "conv2d.h"
    os.utime(header)
    build("wheel", unpacked, tmp_path / "changed", **variables)
    assert library().stat().st_mtime_ns > built


def test_build_without_a_compiler_falls_back_to_numpy(source: Path, tmp_path: Path, run_python: Run):
    wheel, text = build("wheel", source, tmp_path / "wheel", CC="no-such-compiler", TINYCONV_REQUIRE_EXT="0")
    assert "the compiled engine was not built" in text
    assert wheel is not None
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.startswith("tinyconv/engine/native")]
        archive.extractall(tmp_path / "site")
    code = """
        import sys, warnings
        sys.path.insert(0, sys.argv[1])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import tinyconv
        assert len(caught) == 1, caught
        print(caught[0].category.__name__, caught[0].message)
        print(tinyconv.engine.backend())
    """
    variables = {"TINYCONV_BACKEND": None, "TINYCONV_ISA": None}
    warning, backend = run_python(code, str(tmp_path / "site"), **variables).stdout.splitlines()
    assert warning.startswith("RuntimeWarning tinyconv runs on its NumPy reference")
    assert backend == "numpy"


def test_build_without_a_compiler_fails_where_the_engine_is_required(source: Path, tmp_path: Path):
    wheel, text = build("wheel", source, tmp_path, 1, CC="no-such-compiler", TINYCONV_REQUIRE_EXT="1")
    assert wheel is None
    assert "no working C compiler" in text


def test_build_refuses_an_unknown_sanitizer(source: Path, tmp_path: Path):
    wheel, text = build("wheel", source, tmp_path, 1, TINYCONV_SANITIZE="soap", TINYCONV_REQUIRE_EXT="0")
    assert wheel is None
    assert "Received: 'soap'" in text
