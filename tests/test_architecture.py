"""The house has floors: imports and #includes go down, never up."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tinyconv.engine import program

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tinyconv"
CSRC = ROOT / "csrc"

# From the ground up.  A name stands for a module or for all modules of a folder; who
# adds a module gives it a floor.  Modules of one floor may import each other.
FLOORS = (
    ("shapes", "maps", "left_out"),
    ("utils", "named", "progress", "sources", "web", "interrupts", "image", "image_input"),
    ("engine.program", "engine.update_rules"),
    ("engine",),
    ("activations", "constraints", "initializers", "losses", "metrics", "optimizers", "regularizers"),
    ("layers",),
    ("data", "callbacks", "objective", "summary", "network"),
    ("evaluation",),
    ("training",),
    ("models",),
    ("ops", "backend", "saving", "config", "datasets", "preprocessing", "formats", "sklearn"),
    ("__init__",),
    ("bench",),
    ("cli_arguments",),
    ("cli", "cli_check", "cli_convert", "cli_data", "cli_dataset", "cli_networks", "cli_predict", "cli_train",
     "__main__"),
)
# Imports inside a function that go up: the method of a model that calls on a format, a layer called by itself.
DOORS = {("layers", "models"), ("models", "formats"), ("config", "__init__"), ("formats", "__init__"),
         ("utils", "datasets")}

# What these may not know, although it is below them.
FORBIDDEN = {
    "layers": "engine",  # but for engine.program, which has its own floor
    "formats": "engine",
    "datasets": "engine",
}


def module_name(path) -> str:
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "_build.py"}
EXTENSIONS = {module_name(path) for path in PACKAGE.rglob("*.pyx")} | {"engine._build"}


def place(module: str) -> tuple[int, str]:
    """Floor of a module, and the name under which it stands there."""
    while module:
        for floor, names in enumerate(FLOORS):
            if module in names:
                return floor, module
        module = module.rpartition(".")[0]
    raise AssertionError("no floor")


def resolve(base: str, name: str) -> str:
    """The module that `from base import name` reads."""
    inner = f"{base}.{name}".removeprefix("tinyconv").removeprefix(".")
    if inner in MODULES or inner in EXTENSIONS:
        return inner
    return base.removeprefix("tinyconv").removeprefix(".") or "__init__"


def imports(module: str) -> set[tuple[str, bool]]:
    """Modules of tinyconv that a module imports at run time, and whether on being imported itself."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    hints = {id(inner) for node in ast.walk(tree)
             if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
             for inner in ast.walk(node)}
    inside = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
              for inner in ast.walk(node)}
    found = set()
    for node in ast.walk(tree):
        if id(node) in hints:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import in line {node.lineno}"
            if (node.module or "").split(".")[0] == "tinyconv":
                found |= {(resolve(node.module, alias.name), id(node) not in inside) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {(resolve(alias.name, ""), id(node) not in inside) for alias in node.names
                      if alias.name.split(".")[0] == "tinyconv"}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    floor, here = place(module)
    for target, at_import in imports(module):
        target_floor, there = place(target)
        if (here, there) in DOORS:
            assert not at_import, f"{module} may import {target} inside a function only"
            continue
        assert target_floor <= floor, f"{module} imports {target}, which is above it"
        assert FORBIDDEN.get(here) != there, f"{module} imports {target}, which it must not know"


def test_imports_have_no_cycle():
    graph = {module: {target for target, at_import in imports(module) if at_import and target in MODULES}
             for module in MODULES}
    order = list(TopologicalSorter(graph).static_order())
    assert len(order) >= len(MODULES)


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("engine")])
def test_engine_insides_are_known_to_the_engine_only(module):
    insides = {"engine.native", "engine.reference", "engine.arrays_reference"}
    assert not insides & {target for target, _ in imports(module)}


def test_modules_import_lazily_what_is_slow_to_import():
    slow = {"PIL", "urllib", "http", "tqdm", "argparse", "ssl", "multiprocessing", "subprocess"}
    for module, path in MODULES.items():
        if module in ("cli", "__main__"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            assert not slow & {name.split(".")[0] for name in names}, f"{module}, line {node.lineno}"


FORBIDDEN_CALLS = {"eval", "exec", "__import__"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve"}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_from_a_file_can_become_code(module):
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS, f"{module}, line {node.lineno}"
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
            assert not FORBIDDEN_MODULES & names, f"{module}, line {node.lineno}"
        if isinstance(node, ast.ImportFrom):
            assert node.module not in FORBIDDEN_MODULES, f"{module}, line {node.lineno}"


SOURCES = sorted(path for folder in (PACKAGE, CSRC, ROOT / "tests", ROOT / "benchmarks")
                 for pattern in ("*.py", "*.pyx", "*.pxd", "*.c", "*.h", "*.js") for path in folder.rglob(pattern))
MAX_LINES, MAX_COLUMNS = 450, 120


def test_files_and_lines_are_of_a_size_to_be_read():
    for path in SOURCES:
        lines = path.read_text(encoding="utf-8").splitlines()
        if path.name == "_build.py":  # written by setup.py
            continue
        assert len(lines) <= MAX_LINES, f"{path}: {len(lines)} lines; split it by idea"
        for number, line in enumerate(lines, 1):
            assert len(line) <= MAX_COLUMNS, f"{path}:{number}: {len(line)} columns"


C_FILES = {path.relative_to(CSRC).as_posix(): path.read_text(encoding="utf-8")
           for path in sorted(CSRC.rglob("*.[ch]"))}
# Headers above the kernels' folder that kernels may read: what both sides agree on.
SHARED = {"kernels.h", "tinyconv.h", "activation_kind.h", "random_key.h", "winograd_tables.h"}


def includes(name: str) -> set[str]:
    """Headers that a C file includes: ours as paths within csrc, the system's as <name>."""
    found = set()
    for kind, header in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)', C_FILES[name], re.MULTILINE):
        path = ((CSRC / name).parent / header).resolve()
        found.add(f"<{header}>" if kind == "<" else path.relative_to(CSRC).as_posix())
    return found


@pytest.mark.parametrize("name", C_FILES)
def test_includes_exist_and_need_no_python(name):
    for header in includes(name):
        assert header.startswith("<") or header in set(C_FILES), f"{name} includes {header}"
        assert header not in ("<Python.h>", "<numpy/arrayobject.h>"), name
        assert header != "<omp.h>" or name == "threads.h", f"{name}: only threads.h knows OpenMP"


def test_includes_have_no_cycle():
    graph = {name: {header for header in includes(name) if header in C_FILES} for name in C_FILES}
    assert set(TopologicalSorter(graph).static_order()) == set(C_FILES)


@pytest.mark.parametrize("name", [name for name in C_FILES if name.startswith("kernels/")])
def test_kernels_know_nothing_above_them(name):
    allowed = {"<stddef.h>", "<stdint.h>", "<string.h>", "<math.h>", "<float.h>", "<limits.h>",
               "<immintrin.h>", "<emmintrin.h>", "<arm_neon.h>"}
    for header in includes(name):
        assert header in allowed or header in SHARED or header.startswith("kernels/"), f"{name}: {header}"
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", C_FILES[name], flags=re.DOTALL)
    banned = re.search(r"\b(malloc|calloc|realloc|aligned_alloc|free|printf|abort|exit)\s*\(|\bomp\b", code)
    assert banned is None, f"{name}: {banned.group()}"


@pytest.mark.parametrize("name", [name for name in C_FILES if not name.startswith("kernels/")])
def test_the_rest_of_c_knows_kernels_by_their_table_only(name):
    assert not [header for header in includes(name) if header.startswith("kernels/")]
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", C_FILES[name], flags=re.DOTALL)
    assert not re.search(r"\b(printf|puts|abort|exit)\s*\(", code), name


def enum_names(enum: str) -> list[str]:
    body = re.search(rf"enum {enum} \{{(.*?)\}}", C_FILES["tinyconv.h"], re.DOTALL)
    assert body, enum
    names = re.findall(r"\bTC_\w+", re.sub(r"/\*.*?\*/", "", body.group(1), flags=re.DOTALL))
    assert names.pop().endswith("_COUNT")
    return names


@pytest.mark.parametrize(("enum", "prefix", "names"), [
    ("tc_op_kind", "TC_OP_", program.OP_KINDS),
    ("tc_activation", "TC_", program.ACTIVATIONS),
    ("tc_noise", "TC_NOISE_", program.NOISES),
    ("tc_transform", "TC_TRANSFORM_", program.TRANSFORMS),
    ("tc_levels_kind", "TC_LEVELS_", program.LEVELS),
    ("tc_fill", "TC_FILL_", program.FILL_MODES),
    ("tc_loss", "TC_LOSS_", program.LOSSES),
    ("tc_metric", "TC_METRIC_", program.METRICS),
    ("tc_optimizer", "TC_OPTIMIZER_", program.OPTIMIZERS),
    ("tc_constraint", "TC_CONSTRAINT_", program.CONSTRAINTS),
], ids=lambda value: value if isinstance(value, str) else "")
def test_numbering_is_the_same_in_python_and_c(enum, prefix, names):
    assert enum_names(enum) == [prefix + name.upper() for name in names]
