"""What the tests of names allow: what docs/keras.md says differs or is left out, and names that no table compares.

A pattern stands for the arguments (`module.Class.argument`) or the names that it matches.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["DIFFERENCES", "LEFT_OUT", "NOT_COMPARED", "REFUSED"]


def _table(title: str) -> dict[str, str]:
    """Patterns and what is said of them, of the table under a title of docs/keras.md."""
    page = (Path(__file__).parents[2] / "docs" / "keras.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*`) \| (.*) \|$", page.split(f"## {title}\n")[1].split("\n## ")[0], re.MULTILINE)
    return {pattern: reason for patterns, reason in rows for pattern in re.findall(r"`([^`]*)`", patterns)}


# Arguments that are missing, have another default or another place: the page for users has them.
DIFFERENCES: dict[str, str] = _table("Arguments that differ")

# Names of Keras that the page says are left out.
LEFT_OUT: dict[str, str] = _table("Left out")

# Arguments that tinyconv knows and refuses.
REFUSED: dict[str, str] = {"optimizers.*.loss_scale_factor": "there is no half precision to scale for"}

# Names without a case in a table.
NOT_COMPARED: dict[str, str] = {
    "*.get": "asked for with every case of its module",
    "*.serialize": "asked for with every case of its module",
    "*.deserialize": "asked for with every case of its module",
    "layers.Layer": "the base of all",
    "layers.Input*": "every model of these tests begins with one",
    "losses.Loss": "the base of all",
    "metrics.Metric": "the base of all",
    "metrics.MeanMetricWrapper": "takes a function of the user",
    "initializers.Initializer": "the base of all",
    "optimizers.Optimizer": "the base of all",
    "regularizers.Regularizer": "the base of all",
    "constraints.Constraint": "the base of all",
    "optimizers.schedules.LearningRateSchedule": "the base of all",
    "callbacks.Callback": "the base of all",
    "callbacks.CallbackList": "how fit calls them; tests/test_callbacks.py",
    "callbacks.BackupAndRestore": "writes files of its own form; tests/test_callbacks*.py",
    "callbacks.CSVLogger": "writes a file; tests/test_callbacks*.py",
    "callbacks.History": "tests/test_callbacks.py",
    "callbacks.LambdaCallback": "takes functions of the user",
    "callbacks.LearningRateScheduler": "takes a function of the user",
    "callbacks.ProgbarLogger": "prints, in a form of its own",
    "callbacks.TensorBoard": "writes files; tests/test_callbacks*.py",
    "callbacks.TerminateOnNaN": "tests/test_callbacks*.py",
    "models.*": "every model of these tests is one; files: test_keras_files.py; the rest: tests/test_models*.py",
    "utils.*": "pictures, batches and names: tests/test_image.py, tests/test_sources.py, tests/test_utils.py",
}
