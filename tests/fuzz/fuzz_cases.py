"""An input of the fuzzer: small files, packed into one text of bytes, and written to a folder as a reader finds them.

What has a checksum or a structure of its own is kept taken apart, so that a change of one
part leaves the others as they are: the members of a zip archive are files of a folder
`NAME.zip/`, what `NAME.gz` holds is kept inflated, and changes of single bytes, behind
all of that, are a file `NAME@patch`: an HDF5 file, too, stays one that h5py can edit.
"""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path

__all__ = ["ARCHIVE", "PATCH", "Files", "pack", "unpack", "write"]

Files = dict[str, bytes]
ARCHIVE, PATCH = ".zip/", "@patch"
_CUT = 256


def pack(files: Files) -> bytes:
    """All files as one text of bytes."""
    return b"".join(struct.pack("<HI", len(name), len(data)) + name.encode() + data for name, data in files.items())


def unpack(data: bytes) -> Files:
    """The files of `pack`; what is cut off ends with what is there."""
    files: Files = {}
    place = 0
    while place + 6 <= len(data):
        name_size, size = struct.unpack_from("<HI", data, place)
        place += 6
        name = data[place:place + name_size].decode(errors="replace").replace("\0", "_")
        place += name_size
        files[name] = data[place:place + size]
        place += size
    return files


def write(files: Files, folder: Path) -> None:
    """Writes the files as a reader is to find them."""
    for name, data in _rendered(files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _rendered(files: Files) -> Files:
    plain = {name: data for name, data in files.items() if not name.endswith(PATCH)}
    rendered: Files = {}
    archives: dict[str, Files] = {}
    for name, data in plain.items():
        archive, found, member = name.partition(ARCHIVE)
        data = _patched(data, files.get(name + PATCH, b""))
        if found:
            archives.setdefault(archive, {})[member] = data
        elif name.endswith(".gz"):
            packed = gzip.compress(data, 1, mtime=0)
            rendered[name] = _patched(packed, files.get(name + PATCH + PATCH, b""))
        else:
            rendered[name] = data
    for name, members in archives.items():
        rendered[name] = _patched(_zipped(members), files.get(name + PATCH, b""))
    return rendered


def _zipped(members: Files) -> bytes:
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if sum(map(len, members.values())) % 2 else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def _patched(data: bytes, patch: bytes) -> bytes:
    """Bytes with others in their places: a patch is places (32 bits) and values (16 bits), 256 cuts the file there."""
    if len(patch) < 6 or not data:
        return data
    changed = bytearray(data)
    for place, value in struct.iter_unpack("<IH", patch[:len(patch) // 6 * 6]):
        if not changed:
            break
        if value == _CUT:
            del changed[place % len(changed):]
        else:
            changed[place % len(changed)] = value & 0xFF
    return bytes(changed)
