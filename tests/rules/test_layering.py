"""Include lines point at rows above: the table of parts, and who may name a vendor."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import zerolane

ROOT = Path(__file__).parents[2]
CPP = ROOT / "cpp"

KIT = "include"
# A part, and the parts that its files may include besides their own.
MAY_INCLUDE: dict[str, set[str]] = {
    "include": set(),
    "core": {KIT},
    "cuda": {KIT, "core"},
    "kernels": {KIT},
    "ops": {KIT, "kernels"},
    "registry": {KIT, "core"},
    "runtime": {KIT, "core", "registry"},
    "ort": {KIT, "core", "kernels", "registry"},
    "trt": {KIT, "core", "cuda", "registry"},
    "bindings": {KIT, "core", "cuda", "registry", "runtime", "ort", "trt"},
}
# Declarations of others, and the parts that may see them.
VENDORS: dict[str, set[str]] = {
    "onnxruntime": {"ort"},
    "tensorrt": {"trt"},
    "cuda_runtime": {"cuda"},
    "cuda_runtime.h": {"include", "cuda", "kernels"},
    "cuda_runtime_api.h": {"include", "cuda", "kernels"},
    "pybind11": {"bindings"},
    "dlpack": {"include", "core", "registry"},
    "Python.h": {"bindings"},
    "numpy": {"bindings"},
}


def files() -> list[Path]:
    found = [
        path
        for path in sorted(CPP.rglob("*"))
        if path.suffix in (".h", ".cpp", ".cu", ".cuh", ".inc") and path.is_file()
    ]
    assert len(found) > 50, "the C++ sources were not found"
    return found


def includes(path: Path) -> list[str]:
    pattern = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
    return [name for _, name in pattern.findall(path.read_text())]


def part_of(path: Path) -> str:
    return path.relative_to(CPP).parts[0]


def complaints(part: str, name: str, where: str = "") -> list[str]:
    """What is wrong with a file of `part` including `name`."""
    top = name.split("/")[0]
    if name.startswith("."):
        return [f"{where}{part} includes {name} by a relative path"]
    if name.startswith("zerolane/"):
        top = KIT
    found = []
    if top in MAY_INCLUDE and top != part and top not in MAY_INCLUDE[part]:
        found.append(f"{where}{part} may not include {name}")
    for vendor, allowed in VENDORS.items():
        if top == vendor and part not in allowed:
            found.append(f"{where}{part} may not know {vendor} ({name})")
    return found


def test_every_folder_is_a_part_of_the_table() -> None:
    folders = {path.name for path in CPP.iterdir() if path.is_dir()}
    assert folders <= set(MAY_INCLUDE)


def test_includes_point_at_rows_above() -> None:
    wrong = [
        complaint
        for path in files()
        for name in includes(path)
        for complaint in complaints(part_of(path), name, f"{path.relative_to(ROOT)}: ")
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("core", "ort/api.h"),
        ("runtime", "ort/session.h"),
        ("ort", "bindings/call.h"),
        ("core", "pybind11/pybind11.h"),
        ("runtime", "onnxruntime/types.h"),
        ("include", "core/error.h"),
        ("ops", "core/error.h"),
        ("kernels", "registry/call.h"),
        ("core", "../ort/api.h"),
    ],
)
def test_the_rule_can_fail(part: str, name: str) -> None:
    assert complaints(part, name)


def test_a_source_includes_its_own_header_first() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in files()
        if path.suffix == ".cpp"
        and path.with_suffix(".h").exists()
        and includes(path)[0] != str(path.with_suffix(".h").relative_to(CPP))
    ]
    assert wrong == []


def test_no_cycles_between_headers() -> None:
    edges = {
        str(path.relative_to(CPP)): [name for name in includes(path) if (CPP / name).exists()]
        for path in files()
        if path.suffix == ".h"
    }

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a cycle: {' -> '.join((*above, name))}"
        for inner in edges.get(name, []):
            visit(inner, (*above, name))

    for name in edges:
        visit(name, ())


def test_vendor_names_stay_in_their_part() -> None:
    """No OrtX type outside of cpp/ort, no py:: outside of cpp/bindings."""
    wrong = []
    for path in files():
        text = re.sub(r"//[^\n]*", "", path.read_text())
        if part_of(path) != "ort" and re.search(r"\bOrt[A-Z]\w+", text):
            wrong.append(f"{path.relative_to(ROOT)} names a type of ONNX Runtime")
        if part_of(path) != "bindings" and re.search(r"\b(py::|Py[A-Z]\w+\()", text):
            wrong.append(f"{path.relative_to(ROOT)} names Python")
    assert wrong == []


PYTHON_ORDER = (
    *("errors", "types", "_lazy", "_arrays", "cmake"),
    *(
        "runtimes",
        "engine",
        "model_file",
        "ops",
        "model",
        "lanes",
        "batcher",
        "loop",
        "pipeline",
        "measure",
        "optimize",
        "converters",
        "builder",
        "tuning",
        "reports",
        "cli",
        "__main__",
    ),
)


# zl.load builds an engine where a model and TensorRT are asked for; zl.inspect asks the parser, and
# counts multiply-adds as the passes do; an op is tested inside models and engines.
CALLS_UP = {
    ("model/load.py", "builder"),
    ("model/inspect.py", "builder"),
    ("model/inspect.py", "optimize"),
    ("ops/testing/backends.py", "builder"),
    ("ops/testing/backends.py", "model"),
}


def imported_parts(text: str) -> set[str]:
    """Parts that a module names: by `zerolane.part`, or by a public name of the package."""
    text = re.sub(r"\nif TYPE_CHECKING:\n(?:    .*\n|\n)*", "\n", text)
    names = set(re.findall(r"^\s*(?:from|import) zerolane\.(\w+)", text, re.MULTILINE))
    for listed in re.findall(r"^\s*from zerolane import (.+)$", text, re.MULTILINE):
        names |= {name.split()[0] for name in listed.split(",")}
    if re.search(r"^\s*import zerolane\b(?!\.)", text, re.MULTILINE):
        names |= set(re.findall(r"\bzerolane\.([a-zA-Z]\w*)", text))
    homes = {name: home.split(".")[1] for name, home in zerolane._HOME.items()}
    return {homes.get(name, name) for name in names} & set(PYTHON_ORDER)


def test_python_imports_point_down() -> None:
    """Lowest first; what is imported inside a function counts too, `TYPE_CHECKING` does not."""
    package = ROOT / "python" / "zerolane"
    up = set()
    for path in sorted(package.rglob("*.py")):
        where = path.relative_to(package)
        part = where.parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        assert part in PYTHON_ORDER, f"python/zerolane/{part} has no place in the order"
        for name in imported_parts(path.read_text()):
            if PYTHON_ORDER.index(name) > PYTHON_ORDER.index(part):
                up.add((str(where), name))
    assert up == CALLS_UP


def test_imports_are_found_in_each_spelling() -> None:
    for text in (
        "from zerolane.builder.build import build",
        "    import zerolane.builder",
        "from zerolane import builder as b",
        "from zerolane import _native, build",
        "    import zerolane  # why\n    zerolane.build(x)",
    ):
        assert "builder" in imported_parts(text), text
