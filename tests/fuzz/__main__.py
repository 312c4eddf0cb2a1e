"""Fuzzes every reader of files, guided by what the inputs reach (atheris, the extra `[fuzz]`).

    python tests/fuzz --seconds 60                      every reader, a share of the time each
    python tests/fuzz --seconds 3600 --corpus FOLDER    what is found of interest stays there
    python tests/fuzz --replay FILE...                  what was found, without the fuzzer

Ends with 1 where a reader crashed, hung, took too much memory, touched other files or
raised an error that is not ours; the inputs are then in the folder of findings.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import mmap
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent)  # not the source folder, where it was started there
sys.dont_write_bytecode = True

# The name of the reader is a file of the input.
TARGET = "@target"
# Beside the corpus: whether an input is being changed, which is not a reader's work; and the input that is read.
STATE = "@state"
_HEAD = struct.Struct("<BI")
_LONGEST_INPUT, _LONGEST_RUN, _MEMORY_MB = 1 << 20, 30, 4000
_MORE_MEMORY = 2 << 30
# What the fuzzer is guided by; instrumenting takes its time.
_GUIDES = ["tinyconv.formats", "tinyconv.datasets", "tinyconv.cli_predict", "zipfile", "numpy.lib._format_impl"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="time in all (default: 60)")
    parser.add_argument("--targets", nargs="*", help="names of readers (default: all)")
    parser.add_argument("--corpus", type=Path, help="folder for inputs of interest (default: none is kept)")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="folder for findings")
    parser.add_argument("--replay", nargs="+", type=Path, metavar="FILE", help="read findings again")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.replay:
        return _replay(arguments.replay)
    if arguments.worker:
        return _fuzz(arguments.targets, arguments.seconds, arguments.corpus, arguments.findings)
    with tempfile.TemporaryDirectory() as kept:
        corpus = arguments.corpus or Path(kept)
        for folder in (corpus, arguments.findings):
            folder.mkdir(parents=True, exist_ok=True)
        return _run(arguments.targets, arguments.seconds, corpus, arguments.findings)


def _run(targets: list[str] | None, seconds: float, corpus: Path, findings: Path) -> int:
    """Runs the fuzzer in a process of its own; again after a crash, for the rest of the time."""
    end = time.monotonic() + seconds
    crashes = 0
    state = corpus / STATE
    while (left := end - time.monotonic()) > 1:
        state.write_bytes(bytes(_HEAD.size + _LONGEST_INPUT))
        command = [sys.executable, str(Path(__file__).resolve().parent), "--worker", "--seconds", str(left),
                   "--corpus", str(corpus), "--findings", str(findings)]
        result = subprocess.run([*command, *(["--targets", *targets] if targets else [])], stderr=subprocess.PIPE,
                                text=True, errors="replace", check=False)
        lines = [line for line in result.stderr.splitlines() if "Instrumenting" not in line]
        print("\n".join(line for line in lines if line.startswith(("Done ", "Finding ", "stat::"))), flush=True)
        changing, size = _HEAD.unpack_from(state.read_bytes())
        if result.returncode < 0 and changing:
            print("A change of an input ended the process (libhdf5 while it writes): begun anew", flush=True)
        elif result.returncode:
            crashes += 1
            data = state.read_bytes()[_HEAD.size:][:size]
            (findings / f"end-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
            print(f"The fuzzer ended with {result.returncode}:", *lines[-30:], sep="\n", flush=True)
    state.unlink(missing_ok=True)
    found = sorted(path.name for path in findings.iterdir())
    print(f"{len(found)} findings in {findings}, {crashes} crashes" if found or crashes else "no findings")
    return 1 if found or crashes else 0


def _fuzz(names: list[str] | None, seconds: float, corpus: Path, findings: Path) -> int:
    import atheris

    began = time.monotonic()
    faulthandler.enable()
    with atheris.instrument_imports(include=_GUIDES):
        from fuzz_targets import TARGETS, seeds_of
    from fuzz_cases import pack, unpack
    from fuzz_guard import Finding, limit_memory
    from fuzz_mutators import mutate

    for name in names or TARGETS:
        for seed in seeds_of(name):
            data = pack({TARGET: name.encode(), **seed})
            (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
            _once(data)
    limit_memory(_MORE_MEMORY)
    known = set()
    state = mmap.mmap(os.open(corpus / STATE, os.O_RDWR), 0)

    def test(data: bytes) -> None:
        state[:_HEAD.size + len(data)] = _HEAD.pack(0, len(data)) + data
        try:
            _once(data)
        except Finding as finding:
            # Numbers, names and folders differ, the fault is one.
            kind = f"{unpack(data)[TARGET].decode()}: " + re.sub(r"/\S+|'[^']*'|[0-9]+", "", str(finding))[:60]
            if kind not in known:
                known.add(kind)
                path = findings / hashlib.sha256(data).hexdigest()[:16]
                path.write_bytes(data)
                print(f"Finding {path}: {kind.partition(':')[0]}: {finding}", file=sys.stderr, flush=True)

    def change(data: bytes, limit: int, seed: int) -> bytes:
        files = unpack(data)
        target = files.pop(TARGET, b"")
        state[0] = 1
        changed = mutate(files, random.Random(seed), lambda part: atheris.Mutate(part, len(part) + 64))
        state[0] = 0
        packed = pack({TARGET: target, **changed})
        return packed if len(packed) <= limit else data[:limit]

    left = max(1, int(seconds - (time.monotonic() - began)))
    atheris.Setup([sys.argv[0], f"-max_total_time={left}", f"-max_len={_LONGEST_INPUT}", "-len_control=0",
                   f"-timeout={_LONGEST_RUN}", f"-rss_limit_mb={_MEMORY_MB}", "-cross_over=0", "-print_final_stats=1",
                   f"-artifact_prefix={findings}/", str(corpus)], test, custom_mutator=change)
    atheris.Fuzz()
    return 0


def _once(data: bytes) -> None:
    from fuzz_cases import unpack, write
    from fuzz_guard import examine
    from fuzz_targets import TARGETS

    files = unpack(data)
    target = TARGETS.get(files.pop(TARGET, b"").decode(errors="replace"))
    if target is None:
        return
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        try:
            write(files, Path(folder))
        except (OSError, ValueError):  # names that are none, or one within another
            return
        examine(target.read, target.use, Path(folder))


def _replay(paths: list[Path]) -> int:
    from fuzz_guard import Finding

    status = 0
    for path in paths:
        try:
            _once(path.read_bytes())
            print(f"{path}: nothing")
        except Finding as finding:
            status = 1
            print(f"{path}: {finding}")
    return status


if __name__ == "__main__":
    sys.exit(main())
