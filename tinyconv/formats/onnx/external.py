"""Values of tensors in files beside an ONNX file, as PyTorch's exporter writes them ("model.onnx.data").

Only plain files inside the model's folder are opened, a tensor's bytes have to lie in one of them, and
the tensors of a file may together have no more bytes than it has: none is there twice.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinyconv.formats.guard import check_inside, fail, open_inside, shorten, unique

__all__ = ["DataFiles"]

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


class DataFiles:
    """The files that a model's tensors may lie in.

    Args:
        folder: The model's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: Counter[object] = Counter()

    def find(self, entries: Any, size: int, what: str) -> Callable[[], bytes]:
        """Where a tensor's bytes lie.

        Args:
            entries: The tensor's external_data, keys and values.
            size: Bytes that it has to have.
            what: Subject of the error messages.

        Returns:
            What reads them.

        Raises:
            FormatError: If they are not in a file of the folder, or are other than `size`.
        """
        unique([entry.key for entry in entries], f"{what}: external data")
        texts = {entry.key: entry.value for entry in entries}
        name = texts.get("location", "")
        offset, length = (self._number(texts, key, default, what) for key, default in (("offset", 0), ("length", size)))
        parts = tuple(check_inside(name, what))
        file, held = open_inside(self._folder, name, what)
        with file:
            status = os.fstat(file.fileno())
        # A file may have many names, links among them.
        place = (status.st_dev, status.st_ino) if status.st_ino else parts
        if length != size or offset + size > held:
            fail(what, f"{size} bytes of {shorten(name, 60)} ({held} bytes)", f"{length} from {offset} on")
        self._taken[place] += size
        if self._taken[place] > held:
            fail(what, f"tensors of {held} bytes in {shorten(name, 60)}", f"{self._taken[place]} bytes, some twice")

        def read() -> bytes:
            file, _ = open_inside(self._folder, name, what)
            with file:
                file.seek(offset)
                data = bytearray()
                while len(data) < size and (part := file.read(size - len(data))):
                    data += part
            if len(data) != size:
                fail(what, f"{size} bytes of {shorten(name, 60)}", len(data))
            return bytes(data)

        return read

    @staticmethod
    def _number(texts: dict[str, str], key: str, default: int, what: str) -> int:
        text = texts.get(key)
        if text is None:
            return default
        if not isinstance(text, str) or not _NUMBER.fullmatch(text):
            fail(f"{what}: {key}", "a number of bytes", text)
        return int(text)
