"""What importing costs, and what works without the optional packages."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from tests import child

HEAVY = (
    "numpy",
    "click",
    "rich",
    "onnxruntime",
    "matplotlib",
    "onnx",
    "torch",
    "asyncio",
    "logging",
)


def test_import_brings_nothing_with_it() -> None:
    code = """
    import sys
    before = set(sys.modules)
    import zerolane
    print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
    """
    brought = set(child.run(code, flags=("-I",)).split())
    assert "zerolane" in brought
    assert brought & set(HEAVY) == set()


def test_import_opens_no_library() -> None:
    code = """
    def libraries():
        lines = open("/proc/self/maps").read().splitlines()
        return {line.split()[-1] for line in lines if ".so" in line}
    before = libraries()
    import zerolane
    print(*sorted(libraries() - before))
    """
    opened = [Path(name).name for name in child.run(code).split()]
    assert [name for name in opened if "onnxruntime" in name or "stdc++" in name] == []


def test_loading_imports_no_onnxruntime_package() -> None:
    code = """
    import sys
    import zerolane as zl
    from pathlib import Path
    model = Path("tests/models/digits_cnn.onnx")
    session = zl.load(model)
    print(*sorted(name for name in sys.modules if name.split(".")[0] in sys.argv[1:]))
    """
    unwanted = ("onnxruntime", "onnx", "click", "rich", "matplotlib", "torch")
    assert child.run(code, *unwanted).split() == []


def test_numpy_is_imported_by_the_first_array_only() -> None:
    code = """
    import sys
    import zerolane as zl
    session = zl.load("tests/models/digits_cnn.onnx")
    session.inputs, session.why, repr(session)
    print("numpy" in sys.modules)
    session.bind(image=(1, 1, 8, 8))
    print("numpy" in sys.modules)
    """
    assert child.run(code).split()[-1] == "True"
    assert child.run(code).split()[0] == "False"


def test_without_onnxruntime_it_says_how_to_get_it(tmp_path: Path) -> None:
    """No onnxruntime on sys.path: importing works, loading says what was looked for and where."""
    import numpy

    import zerolane

    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "zerolane").symlink_to(Path(zerolane.__file__).parent)
    numpy_folder = Path(numpy.__file__).parent
    for name in (numpy_folder, *numpy_folder.parent.glob("numpy.libs")):
        (packages / name.name).symlink_to(name)
    code = f"""
    import sys
    sys.path = [p for p in sys.path if "site-packages" not in p and "dist-packages" not in p]
    sys.path = [p for p in sys.path if p not in ("", ".")] + [{str(packages)!r}]
    sys.path = [p for p in sys.path if not p.endswith("/python")]
    import zerolane as zl
    zl.Options(threads=1)
    try:
        zl.load("tests/models/digits_cnn.onnx")
    except zl.Unavailable as error:
        print(error)
    """
    told = child.run(code, flags=("-S",), env={"ZEROLANE_ONNXRUNTIME": None})
    assert "pip install onnxruntime" in told
    assert "ZEROLANE_ONNXRUNTIME" in told
    assert "1.19" in told
    assert str(packages) in told


def test_public_names_exist_and_are_documented() -> None:
    import zerolane

    undocumented = []
    for name in zerolane.__all__:
        thing = getattr(zerolane, name)
        if not (thing.__doc__ or "").strip():
            undocumented.append(name)
    assert undocumented == []
    assert sorted(zerolane.__all__) == list(zerolane.__all__)
    assert set(zerolane.__all__) <= set(dir(zerolane))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        zerolane.nothing  # noqa: B018


def test_public_methods_are_documented() -> None:
    import zerolane

    undocumented = [
        f"{owner.__name__}.{name}"
        for owner in (zerolane.Session, zerolane.Binding, zerolane.Future)
        for name in vars(owner)
        if not name.startswith("_") and not (getattr(owner, name).__doc__ or "").strip()
        if callable(getattr(owner, name)) or isinstance(vars(owner)[name], property)
    ]
    assert undocumented == []


def test_every_module_imports() -> None:
    import zerolane

    folder = Path(zerolane.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if parts[-1] != "__main__":
            importlib.import_module(name)
            assert name in sys.modules
