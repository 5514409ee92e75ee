"""Opening libraries: what is refused, and how; errors of factories; companions beside a library."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.abi import fakes
from tests.abi.compiler import Compiler, run
from tests.abi.tables import FAMILIES

Ask = Callable[..., dict[str, str]]


@pytest.fixture
def told(compiler: Compiler) -> Ask:
    """Runs open.cpp; its lines as pairs of key and value."""

    def ask(*arguments: object, env: dict[str, str] | None = None) -> dict[str, str]:
        out = run(compiler.program("open.cpp"), *arguments, env=env)
        return dict(line.split("=", 1) for line in out.splitlines())

    return ask


def fake(compiler: Compiler, folder: Path, family: str, minor: int, **changes: object) -> Path:
    """A recording library in a folder of its own, as a package ships it."""
    soname = str(changes.pop("soname", FAMILIES[family].soname))
    made = compiler.shared(fakes.library(family, minor, **changes), soname)  # type: ignore[arg-type]
    folder.mkdir(exist_ok=True)
    return Path(shutil.copy(made, folder / soname))


def parser(compiler: Compiler, family: str, core: Path) -> Path:
    name = FAMILIES[family].parser
    link = [] if family == "rtx" else ["-Wl,--no-as-needed,-rpath,$ORIGIN", str(core)]
    made = compiler.shared(fakes.parser(family), name, [*link, "-ldl"])
    return Path(shutil.copy(made, core.parent / name))


@pytest.mark.parametrize(
    ("family", "minor", "title"),
    [
        ("10", 0, "TensorRT 10.0.0"),
        ("10", 16, "TensorRT 10.16.0"),
        ("11", 4, "TensorRT 11.4.0"),
        ("rtx", 5, "TensorRT-RTX 1.5.0"),
    ],
)
def test_the_family_is_what_the_library_says(
    compiler: Compiler, tmp_path: Path, told: Ask, family: str, minor: int, title: str
) -> None:
    library = fake(compiler, tmp_path, family, minor)
    out = told("open", library)
    assert out["title"] == title
    assert out["family"] == str(list(FAMILIES).index(family))
    assert (out["can_build"], out["can_run"], out["log"]) == ("1", "1", "")


@pytest.mark.parametrize(
    ("family", "number", "name"),
    [
        ("11", 120000, "TensorRT 12.0.0"),
        ("11", 8601, "TensorRT 8.6.1"),
        ("rtx", 20000, "TensorRT-RTX 2.0.0"),
        ("rtx", 10400, "TensorRT-RTX 1.4.0"),
    ],
)
def test_an_unknown_release_is_refused_by_name(
    compiler: Compiler, tmp_path: Path, told: Ask, family: str, number: int, name: str
) -> None:
    minor = FAMILIES[family].newest
    library = fake(compiler, tmp_path, family, minor, number=number)
    out = told("open", library)
    assert out["code"] == "unavailable"
    assert f"it is {name} ({FAMILIES[family].soname}), expected TensorRT" in out["error"]
    assert str(library) in out["error"]
    assert "pip install" in out["error"]


def test_a_newer_minor_release_is_used_with_a_warning(
    compiler: Compiler, tmp_path: Path, told: Ask
) -> None:
    library = fake(compiler, tmp_path, "11", 4, number=110900)
    out = told("open", library)
    assert out["title"] == "TensorRT 11.9.0"
    assert "newer than 11.4" in out["log"]


@pytest.mark.parametrize(("edition", "kind"), [("lean", "1"), ("dispatch", "2")])
def test_lean_and_dispatch_only_run(
    compiler: Compiler, tmp_path: Path, told: Ask, edition: str, kind: str
) -> None:
    soname = f"libnvinfer_{edition}.so.11"
    library = fake(compiler, tmp_path, "11", 4, soname=soname, runtime_only=True)
    out = told("builder", library)
    assert out["title"] == f"TensorRT 11.4.0 ({edition})"
    assert (out["edition"], out["can_build"], out["can_run"]) == (kind, "0", "1")
    assert out["code"] == "unsupported"
    assert "only run engines: install the full one" in out["error"]


def test_a_library_that_is_no_tensorrt(compiler: Compiler, told: Ask) -> None:
    library = compiler.shared("int other() { return 1; }", "libother.so.1")
    out = told("open", library)
    assert out["code"] == "unavailable"
    assert "no symbol getInferLibVersion, so it is no TensorRT" in out["error"]


def test_a_library_without_factories(compiler: Compiler, told: Ask) -> None:
    source = 'extern "C" int getInferLibVersion() { return 110400; }'
    library = compiler.shared(source, "libnvinfer.so.11")
    out = told("open", library)
    assert out["code"] == "unavailable"
    assert "neither createInferBuilder_INTERNAL nor createInferRuntime_INTERNAL" in out["error"]


def test_a_missing_file(told: Ask, tmp_path: Path) -> None:
    out = told("open", tmp_path / "libnvinfer.so.11")
    assert out["code"] == "unavailable"
    assert str(tmp_path / "libnvinfer.so.11") in out["error"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("how", ["small", "null"])
def test_a_failed_factory(
    compiler: Compiler, tmp_path: Path, told: Ask, family: str, how: str
) -> None:
    """Some releases return a small number instead of null; either is an error with their words."""
    library = fake(compiler, tmp_path, family, FAMILIES[family].newest)
    out = told("runtime", library, env={"FAKE_RUNTIME": how})
    assert out["code"] == "unavailable"
    assert "CUDA initialization failure with error: 35" in out["error"]
    assert "NVIDIA driver" in out["error"]
    assert out["log"] == "", "thrown, not logged too"


def test_families_live_in_one_process(compiler: Compiler, tmp_path: Path, told: Ask) -> None:
    libraries = [
        fake(compiler, tmp_path / name, name, family.newest) for name, family in FAMILIES.items()
    ]
    for family, library in zip(FAMILIES, libraries, strict=True):
        parser(compiler, family, library)
    out = told("all", *libraries)
    assert out == {
        "title0": "TensorRT 10.16.0",
        "title1": "TensorRT 11.4.0",
        "title2": "TensorRT-RTX 1.7.0",
        "apart": "1",
        "parsers": "3",
        "log": "",
    }


def test_a_second_file_of_one_soname_is_refused(
    compiler: Compiler, tmp_path: Path, told: Ask
) -> None:
    first = fake(compiler, tmp_path / "a", "10", 16)
    second = fake(compiler, tmp_path / "b", "10", 8)
    out = told("two", first, second)
    assert out["title"] == "TensorRT 10.16.0"
    assert out["code"] == "unavailable"
    assert f"already uses TensorRT 10.16.0 from '{first}'" in out["error"]


def test_a_link_is_the_same_library(compiler: Compiler, tmp_path: Path, told: Ask) -> None:
    library = fake(compiler, tmp_path, "10", 16)
    link = tmp_path / "link.so"
    link.symlink_to(library)
    assert told("two", library, link)["same"] == "1"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parser_lies_beside(compiler: Compiler, tmp_path: Path, told: Ask, family: str) -> None:
    library = fake(compiler, tmp_path, family, FAMILIES[family].newest)
    beside = parser(compiler, family, library)
    out = told("parser", library)
    assert out["parser"] == str(beside)
    assert out["made"] == "1"


def test_the_parser_lies_beside_the_real_file(
    compiler: Compiler, tmp_path: Path, told: Ask
) -> None:
    library = fake(compiler, tmp_path / "package", "11", 4)
    parser(compiler, "11", library)
    link = tmp_path / "libnvinfer.so.11"
    link.symlink_to(library)
    assert told("parser", link)["made"] == "1"


def test_a_missing_parser(compiler: Compiler, tmp_path: Path, told: Ask) -> None:
    out = told("parser", fake(compiler, tmp_path, "11", 4))
    assert out["code"] == "unavailable"
    assert "'libnvonnxparser.so.11' of TensorRT 11.4.0 could not be opened" in out["error"]
    assert str(tmp_path / "libnvonnxparser.so.11") in out["error"]


def test_a_parser_that_is_bound_to_another_library(
    compiler: Compiler, tmp_path: Path, told: Ask
) -> None:
    """Another package opened its own libnvinfer.so.10 first: the parser is given that one."""
    other = fake(compiler, tmp_path / "other", "10", 8)
    library = fake(compiler, tmp_path / "ours", "10", 16)
    parser(compiler, "10", library)
    out = told("foreign", other, library)
    assert out["code"] == "unavailable"
    assert "is bound to another libnvinfer.so.10" in out["error"]


def test_the_rtx_parser_finds_the_library_by_its_link_name(
    compiler: Compiler, tmp_path: Path, told: Ask
) -> None:
    """Wheels have no libtensorrt_rtx.so; the parser opens that name before it makes a plugin."""
    library = fake(compiler, tmp_path, "rtx", 7)
    beside = parser(compiler, "rtx", library)
    tmp_path.chmod(0o555)  # nothing is written there
    try:
        out = told("private", library, beside)
    finally:
        tmp_path.chmod(0o755)
    assert out["before"] == "-1"
    assert out["after"] == "42"
    assert out["local"] == "1", "the library's symbols stay out of the global scope"
    assert {path.name for path in tmp_path.iterdir()} == {library.name, beside.name}
