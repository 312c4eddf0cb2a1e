"""Builds tinyconv.engine.native; everything else is in pyproject.toml.

The kernels (csrc/kernels/kernels.c) are compiled once for every instruction set
that the compiler knows, the rest (csrc/*.c) once, without special flags; which
of them runs is decided on the user's machine.  Environment:

TINYCONV_REQUIRE_EXT=1   a failing build is an error.  Without it the package is
                         installed without the extension and computes with NumPy.
TINYCONV_SANITIZE=...    a build for debugging: address, undefined, or both.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError, CompileError, LinkError
from setuptools.modified import newer_group

BUILD_ERRORS = (BaseError, CCompilerError, CompileError, LinkError)

KERNELS = "csrc/kernels/kernels.c"
SOURCES = sorted(path.as_posix() for path in Path("csrc").glob("*.c"))
DEPENDS = sorted(
    {KERNELS, "setup.py"}
    | {path.as_posix() for path in Path("csrc").rglob("*.h")}
    | {path.as_posix() for path in Path("tinyconv").rglob("*.pxd")}
)

# -ffp-contract=fast lets a*b+c be one instruction.  -ffast-math would lose NaN and
# infinity; -march=native would tie the wheel to one processor.
FLAGS = ["-std=gnu11", "-O3", "-g0", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno",
         "-fno-trapping-math"]
SANITIZERS = ("address", "undefined")

# Instruction set -> (compiler flags, a type whose use needs them).
X86_ROWS = {
    "avx2": (["-mavx2", "-mfma"], "__m256"),
    "avx512": (["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"], "__m512"),
}
X86_PROBE = """
#if !defined(__x86_64__)
#error not for this processor
#endif
#include <immintrin.h>
{vector} probe({vector} a, {vector} b) {{ return a * b + a; }}
"""
ARM_PROBE = """
#if !defined(__aarch64__)
#error not for this processor
#endif
"""
VECTOR_PROBE = """
typedef float vfloat __attribute__((vector_size(16)));
typedef int vint __attribute__((vector_size(16)));
vfloat probe(vint a, vfloat b) { return __builtin_convertvector(a, vfloat) * b + 1.0f; }
"""
OPENMP_PROBE = """
#include <omp.h>
int probe(void) { int n = 0;
#pragma omp parallel reduction(+ : n)
    n += omp_get_max_threads();
    return n; }
"""


def sanitize_flags() -> list[str]:
    names = [name for name in os.environ.get("TINYCONV_SANITIZE", "").split(",") if name]
    for name in names:
        if name not in SANITIZERS:
            raise SystemExit(f"TINYCONV_SANITIZE expected names of {SANITIZERS}. Received: {name!r}")
    if not names:
        return []
    # A finding ends the process, so that a test cannot pass over it.
    return [f"-fsanitize={','.join(names)}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer",
            "-O1", "-g"]


class BuildEngine(build_ext):
    """Compiles the kernels per instruction set, or explains why there is no engine."""

    def build_extension(self, ext: Extension) -> None:
        facts = {"COMPILER": None, "FLAGS": (), "INSTRUCTION_SETS": (), "OPENMP": None, "FALLBACK": None}
        try:
            self.build_engine(ext, facts)
        except BUILD_ERRORS as error:
            if os.environ.get("TINYCONV_REQUIRE_EXT") == "1":
                raise
            facts["FALLBACK"] = " ".join(str(error).split())
            Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)  # of an earlier build
            ext.optional = True  # nothing to copy for an editable install
            self.warn(f"the compiled engine was not built: {facts['FALLBACK']}. tinyconv will compute with "
                      "NumPy, many times slower. To see why, set TINYCONV_REQUIRE_EXT=1 and install again.")
        self.write_facts(facts)

    def build_engine(self, ext: Extension, facts: dict) -> None:
        if self.compiler.compiler_type == "msvc":
            raise CompileError("the Microsoft C compiler lacks vector extensions; use clang or gcc (MinGW)")
        sanitize = sanitize_flags()
        flags = FLAGS + sanitize
        facts["COMPILER"] = self.compiler_version()
        if not self.probe(VECTOR_PROBE):
            raise CompileError(f"no working C compiler with vector extensions (GCC 9, Clang 9 or newer): "
                               f"{facts['COMPILER'] or 'no compiler found'}")
        openmp = next((pair for pair in self.openmp_flags() if self.probe(OPENMP_PROBE, *pair)), None)
        rows = {"neon" if self.probe(ARM_PROBE) else "baseline": []}
        rows |= {row: options for row, (options, vector) in X86_ROWS.items()
                 if self.probe(X86_PROBE.format(vector=vector), options)}
        facts |= {"FLAGS": tuple(flags), "INSTRUCTION_SETS": tuple(rows),
                  "OPENMP": openmp and " ".join(openmp[0])}

        ext.define_macros = [(f"TC_HAVE_{row.upper()}", "1") for row in rows if row in X86_ROWS]
        ext.define_macros += [("TC_OPENMP", "1")] if openmp else []
        compile_threads, link_threads = openmp or (["-pthread"], ["-pthread"])
        ext.extra_compile_args = flags + compile_threads
        ext.extra_link_args = link_threads + sanitize

        rebuild = self.force or self.differs(facts)
        if rebuild or newer_group(ext.sources + ext.depends, self.get_ext_fullpath(ext.name)):
            ext.sources = self.translate(ext.sources)
            ext.extra_objects = self.compile_kernels(rows, flags, rebuild)
            self.force = True  # decided here, for the objects, too
            super().build_extension(ext)
            self.facts_stamp.write_text(repr(facts))

    def translate(self, sources: list[str]) -> list[str]:
        """Replaces the .pyx by its C file, which is written into the build folder."""
        try:
            from Cython.Build import cythonize
        except ImportError as error:
            raise CompileError("Cython is not installed") from error
        pyx = [source for source in sources if source.endswith(".pyx")]
        c = [source for source in sources if source.endswith(".c")]
        modules = cythonize([Extension("tinyconv.engine.native", pyx)], language_level=3, quiet=True,
                            include_path=["csrc"], build_dir=os.path.join(self.build_temp, "cython"))
        return modules[0].sources + c

    def compile_kernels(self, rows: dict[str, list[str]], flags: list[str], rebuild: bool) -> list[str]:
        """One object file per instruction set, each in its own folder; the folder's name tells."""
        def compile_row(row: str) -> str:
            folder = os.path.join(self.build_temp, f"kernels-{row}")
            target, = self.compiler.object_filenames([KERNELS], output_dir=folder)
            # GCC takes many minutes for wide tiles under the sanitizer of undefined behaviour; it sees
            # the same source in the row without flags.
            fewer = ["-fno-sanitize=undefined"] if rows[row] and sanitize_flags() else []
            if rebuild or newer_group([KERNELS, *DEPENDS], target):
                self.compiler.compile([KERNELS], output_dir=folder, include_dirs=["csrc"],
                                      macros=[("TC_ISA", row)], extra_postargs=flags + rows[row] + fewer)
            return target

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(compile_row, rows))

    def openmp_flags(self) -> list[tuple[list[str], list[str]]]:
        """What may switch OpenMP on: pairs of compiler and linker flags."""
        pairs = [(["-fopenmp"], ["-fopenmp"])]
        if sys.platform == "darwin":  # Apple's clang has no runtime of its own
            pairs.append((["-Xpreprocessor", "-fopenmp"], ["-lomp"]))
        return pairs

    def probe(self, code: str, options: list[str] = (), link: list[str] | None = None) -> bool:
        """Whether a piece of C compiles with these options, and links if link is given."""
        os.makedirs(self.build_temp, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.build_temp) as folder:
            source = Path(folder, "probe.c")
            source.write_text(code)
            try:
                # -Werror: clang only warns of options that it does not know.
                objects = self.compiler.compile([str(source)], output_dir=folder,
                                                extra_postargs=["-std=gnu11", "-Werror", *options])
                if link is not None:
                    library = str(Path(folder, "probe.so"))
                    self.compiler.link_shared_object(objects, library, extra_postargs=link)
            except BUILD_ERRORS:
                return False
        return True

    def compiler_version(self) -> str | None:
        try:
            command = [self.compiler.compiler_so[0], "--version"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
        except (OSError, subprocess.CalledProcessError, IndexError):
            return None

    @property
    def facts_stamp(self) -> Path:
        return Path(self.build_temp, "facts.txt")

    def differs(self, facts: dict) -> bool:
        """Whether the objects at hand come from another compiler or other flags."""
        return not self.facts_stamp.exists() or self.facts_stamp.read_text() != repr(facts)

    def facts_paths(self) -> tuple[Path, Path]:
        """Where the facts of the build go: in the build, and in an editable install's sources."""
        relative = Path("tinyconv", "engine", "_build.py")
        return Path(self.build_lib, relative), relative

    def write_facts(self, facts: dict) -> None:
        path, _ = self.facts_paths()
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{name} = {value!r}\n" for name, value in facts.items()]
        path.write_text('"""How the compiled engine was built; written by setup.py."""\n\n' + "".join(lines))

    def copy_extensions_to_source(self) -> None:
        super().copy_extensions_to_source()
        self.copy_file(*map(str, self.facts_paths()))
        for ext in self.extensions:  # an older one must not outlive a build that failed
            inplace, built = self._get_inplace_equivalent(self.get_finalized_command("build_py"), ext)
            if not os.path.exists(built):
                Path(inplace).unlink(missing_ok=True)

    def get_outputs(self) -> list[str]:
        outputs = [path for path in super().get_outputs() if self.inplace or os.path.exists(path)]
        return outputs + [str(self.facts_paths()[self.inplace])]

    def get_output_mapping(self) -> dict[str, str]:
        mapping = {built: source for built, source in super().get_output_mapping().items()
                   if os.path.exists(built)}
        if self.inplace:
            built, source = self.facts_paths()
            mapping[str(built)] = str(source)
        return mapping


if sys.platform == "darwin":
    # One processor a build: flags for x86 mean nothing to the Arm half of a universal one.
    os.environ.setdefault("ARCHFLAGS", f"-arch {platform.machine()}")

setup(
    cmdclass={"build_ext": BuildEngine},
    ext_modules=[
        Extension("tinyconv.engine.native", ["tinyconv/engine/native.pyx", *SOURCES], include_dirs=["csrc"],
                  depends=DEPENDS)
    ],
)
