"""What the tests share: the data, and a way to run code in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_report_header() -> str:
    """Says which installation the tests run on."""
    import tinyconv
    from tinyconv import engine

    config = engine.config()
    return (f"tinyconv {tinyconv.__version__}: {config['backend']}, {config['instruction_set']}, "
            f"{config['threads']} threads, in {Path(tinyconv.__file__).parent}")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with the real data sets: TINYCONV_DATA, or shared/data beside the project."""
    folder = Path(os.environ.get("TINYCONV_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no data: {folder} is not there; set TINYCONV_DATA to a folder with mnist/")
    return folder


@pytest.fixture(scope="session")
def run_python(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs Python code in a fresh process and returns what it printed.

    Its keywords are environment variables (None removes one); an exit status other
    than `status` fails the test.  The process starts in an empty folder, so that it
    imports the installed package.
    """
    folder = tmp_path_factory.mktemp("cwd")

    def run(code: str, *arguments: str, status: int = 0, timeout: float = 300,
            **environment: str | None) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, **environment}
        result = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *arguments], cwd=folder, timeout=timeout,
            env={name: value for name, value in variables.items() if value is not None},
            capture_output=True, text=True, check=False)
        assert result.returncode == status, result.stdout + result.stderr
        return result

    return run
