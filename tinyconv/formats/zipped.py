"""Zip archives that are not trusted: a member is read into memory, never unpacked to the disk."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Self

from tinyconv.formats.guard import FormatError, MissingFileError, check_inside, fail, shorten, unique

__all__ = ["ERRORS", "Archive", "BoundedZip"]

# What zipfile raises on bytes that it does not understand.
ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, OverflowError, RuntimeError,
          ValueError)
_MAX_MEMBERS = 1000
# Of the archive's directory: zipfile makes an object of every entry, and the least has 46 bytes.
_MAX_DIRECTORY = 1 << 20
# Weights hardly compress: what grows more than this is no model.
_MAX_EXPANSION, _FREE_BYTES = 100, 1 << 20
_IS_ENCRYPTED = 1


class _Opening(io.BufferedReader):
    """A file that zipfile reads a directory of bounded size from; what it reads later has limits of its own."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.is_open = False

    def read(self, size: int | None = -1, /) -> bytes:
        if self.is_open:
            return super().read(size)
        wanted = _MAX_DIRECTORY + 1 if size is None or size < 0 else size
        data = super().read(min(wanted, _MAX_DIRECTORY + 1))
        if len(data) > _MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"a directory of more than {_MAX_DIRECTORY} bytes")
        return data


class BoundedZip(zipfile.ZipFile):
    """A zip file for reading, refused where its directory would take much memory."""

    _bytes: io.BufferedReader | None = None

    def __init__(self, path: Path) -> None:
        file = self._bytes = _Opening(path)
        try:
            super().__init__(file)
        except BaseException:
            file.close()
            raise
        file.is_open = True

    def close(self) -> None:
        super().close()
        if self._bytes is not None:
            self._bytes.close()


class Archive:
    """A zip file, its directory checked; a context manager.

    Raises:
        FormatError: If it is not a zip file, or a member has a name that leads out of it, occurs
            twice, is encrypted or packed by an unusual method.
    """

    def __init__(self, path: Path) -> None:
        self.what = str(path)
        try:
            self._file = BoundedZip(path)
        except FileNotFoundError:
            raise MissingFileError(f"{path}: no such file") from None
        except ERRORS as error:
            fail(self.what, "a zip archive", str(error))
        try:
            self._members = self._check()
        except BaseException:
            self._file.close()
            raise

    def _check(self) -> dict[str, zipfile.ZipInfo]:
        members = self._file.infolist()
        if len(members) > _MAX_MEMBERS:
            fail(self.what, f"at most {_MAX_MEMBERS} members", len(members))
        for member in members:
            name = member.filename
            check_inside(name, f"{self.what}, a member", "the archive")
            if member.flag_bits & _IS_ENCRYPTED:
                fail(f"{self.what}, {shorten(name)}", "a member that is not encrypted", "an encrypted one")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                fail(f"{self.what}, {shorten(name)}", "a stored or deflated member", f"method {member.compress_type}")
        unique([member.filename for member in members], f"{self.what}, members")
        return {member.filename: member for member in members}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    @property
    def names(self) -> list[str]:
        """The names of the members."""
        return list(self._members)

    def read(self, name: str, limit: int) -> bytes:
        """A member's bytes, at most `limit` of them; their checksum is compared."""
        what = f"{self.what}, {name}"
        if name not in self._members:
            raise MissingFileError(f"{what}: expected such a member. Received: {shorten(self.names)}")
        member = self._members[name]
        allowed = min(limit, _MAX_EXPANSION * member.compress_size + _FREE_BYTES)
        if member.file_size > allowed:
            fail(what, f"at most {allowed} bytes", f"{member.file_size} bytes")
        try:
            with self._file.open(member) as file:
                data = file.read(member.file_size + 1)
        except ERRORS as error:
            raise FormatError(f"{what}: the member is damaged. Received: {shorten(str(error))}") from None
        if len(data) != member.file_size:
            fail(what, f"{member.file_size} bytes", f"{len(data)} bytes")
        return data
