"""Finding the libraries of TensorRT: packages, system, explicit paths; and saying what is there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import zerolane as zl
from tests import child
from tests.python.messages import assert_three_parts
from zerolane.runtimes import tensorrt


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty machine: one empty folder of Python packages, no system folders."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(tensorrt.sys, "path", [str(folder)])
    monkeypatch.setattr(tensorrt, "SYSTEM_FOLDERS", (str(tmp_path / "system"),))
    monkeypatch.setattr(tensorrt, "_libraries", {})
    for name in ("LD_LIBRARY_PATH", *tensorrt.ENVIRONMENT_VARIABLES.values()):
        monkeypatch.delenv(name, raising=False)
    return folder


def install(site: Path, package: str, version: str, folder: str, *files: str) -> Path:
    """What pip leaves behind for a package of libraries."""
    info = site / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    (site / folder).mkdir(exist_ok=True)
    for name in files:
        (site / folder / name).touch()
    (site / folder / "__init__.py").write_text("raise AssertionError('it must not be imported')")
    return site / folder


def real(backend: str) -> list[tensorrt.Candidate]:
    """Without the loader names that always end the list of an edition."""
    return [c for c in tensorrt.candidates(backend) if c.source != "system loader"]


@pytest.mark.parametrize(
    ("backend", "package", "folder", "library", "parser", "edition"),
    [
        (
            "tensorrt-rtx",
            f"tensorrt-rtx-{cuda}-libs",
            "tensorrt_rtx_libs",
            "libtensorrt_rtx.so.1",
            "libtensorrt_onnxparser_rtx.so.1",
            "rtx",
        )
        for cuda in ("cu12", "cu13")
    ]
    + [
        (
            "tensorrt",
            f"tensorrt-{cuda}-libs",
            "tensorrt_libs",
            f"libnvinfer.so.{major}",
            f"libnvonnxparser.so.{major}",
            "full",
        )
        for cuda in ("cu12", "cu13")
        for major in (10, 11)
    ],
)
def test_packages(
    site: Path, backend: str, package: str, folder: str, library: str, parser: str, edition: str
) -> None:
    where = install(site, package, "1.2.3.4", folder, library, parser)
    (found,) = real(backend)
    assert found == tensorrt.Candidate(
        backend, edition, str(where / library), "Python package", "1.2.3.4", str(where / parser)
    )
    assert found.builds
    assert tensorrt.candidates(backend)[0] == found
    (where / parser).unlink()
    assert real(backend)[0].parser is None


def test_lean_and_dispatch_come_last_and_do_not_build(site: Path) -> None:
    install(site, "tensorrt-dispatch-cu13-libs", "11.4.0.1", "tensorrt_dispatch_libs",
            "libnvinfer_dispatch.so.11")  # fmt: skip
    install(site, "tensorrt-lean-cu13-libs", "11.4.0.1", "tensorrt_lean_libs",
            "libnvinfer_lean.so.11")  # fmt: skip
    install(site, "tensorrt-cu13-libs", "11.4.0.1", "tensorrt_libs", "libnvinfer.so.11")
    assert [c.edition for c in real("tensorrt")] == ["full", "lean", "dispatch"]
    assert [c.builds for c in real("tensorrt")] == [True, False, False]
    assert {c.edition for c in tensorrt.candidates("tensorrt", build=True)} == {"full"}


def test_system_folders(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "system"
    system.mkdir()
    (system / "libnvinfer.so.10.16.1").touch()
    (system / "libnvinfer.so.10").symlink_to("libnvinfer.so.10.16.1")
    (system / "libnvonnxparser.so.10").touch()
    (system / "libnvonnxparser.so.11").touch()  # of another release
    (found,) = real("tensorrt")
    assert (found.source, found.version) == ("system", "10.16.1")
    assert found.parser == str(system / "libnvonnxparser.so.10")
    first = tmp_path / "first"
    first.mkdir()
    (first / "libnvinfer.so.11").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{first}:")
    assert [c.path for c in real("tensorrt")] == [
        str(first / "libnvinfer.so.11"),
        str(system / "libnvinfer.so.10"),
    ]
    loader = [c.path for c in tensorrt.candidates("tensorrt") if c.source == "system loader"]
    assert loader[:2] == ["libnvinfer.so.11", "libnvinfer.so.10"]


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_an_explicit_choice_stands_alone(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    name = {"tensorrt": "libnvinfer.so.11", "tensorrt-rtx": "libtensorrt_rtx.so.1"}[backend]
    install(site, "tensorrt-cu13-libs", "11.4.0.1", "tensorrt_libs", "libnvinfer.so.11")
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder in (mine, theirs):
        folder.mkdir()
        (folder / name).touch()
    variable = tensorrt.ENVIRONMENT_VARIABLES[backend]
    monkeypatch.setenv(variable, str(theirs / name))
    assert [(c.path, c.source) for c in tensorrt.candidates(backend)] == [
        (str(theirs / name), variable)
    ]
    option = backend.replace("-", "_")
    zl.configure(**{option: mine})  # type: ignore[arg-type]
    assert [(c.path, c.source) for c in tensorrt.candidates(backend)] == [
        (str(mine / name), "zl.configure")
    ]
    (mine / "renamed.so").touch()
    zl.configure(**{option: str(mine / "renamed.so")})  # type: ignore[arg-type]
    assert [c.path for c in tensorrt.candidates(backend)] == [str(mine / "renamed.so")]


def test_an_explicit_path_into_a_package_has_its_version(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = install(site, "tensorrt-rtx-cu13-libs", "1.7.1.116", "tensorrt_rtx_libs",
                    "libtensorrt_rtx.so.1")  # fmt: skip
    monkeypatch.setenv("ZEROLANE_TENSORRT_RTX", str(where))
    (found,) = tensorrt.candidates("tensorrt-rtx")
    assert found.version == "1.7.1.116"


def test_an_explicit_lean_library_cannot_build(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "libnvinfer_lean.so.11"
    path.touch()
    monkeypatch.setenv("ZEROLANE_TENSORRT", str(path))
    (found,) = tensorrt.candidates("tensorrt")
    assert found.edition == "lean"
    with pytest.raises(zl.Unavailable, match="cannot build engines") as caught:
        tensorrt.open_library("tensorrt", lambda path: path, build=True)
    assert_three_parts(str(caught.value))
    assert tensorrt.open_library("tensorrt", lambda path: path)[0] == str(path)


def test_configure_refuses_what_is_not_there(site: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "none.so", tmp_path):
        for option in ("tensorrt", "tensorrt_rtx"):
            with pytest.raises(zl.Unavailable) as caught:
                zl.configure(**{option: path})  # type: ignore[arg-type]
            assert_three_parts(str(caught.value))
            assert caught.value.subject == str(path)
    assert tensorrt._libraries == {}


def test_opening_tries_all_and_tells_all(site: Path) -> None:
    where = install(site, "tensorrt-cu13-libs", "11.4.0.1", "tensorrt_libs", "libnvinfer.so.11")
    tried = []

    def opener(path: str) -> int:
        tried.append(path)
        if path != "libnvinfer_lean.so.10":
            raise zl.Unavailable(f"opening {path}: it is broken; repair it")
        return 7

    opened, candidate = tensorrt.open_library("tensorrt", opener)
    assert (opened, candidate.edition) == (7, "lean")
    assert tried[0] == str(where / "libnvinfer.so.11")
    tried.clear()
    with pytest.raises(zl.Unavailable) as caught:
        tensorrt.open_library("tensorrt", opener, build=True)
    told = str(caught.value)
    assert_three_parts(told)
    assert tried == [str(where / "libnvinfer.so.11"), "libnvinfer.so.11", "libnvinfer.so.10"]
    for part in (*tried, "tensorrt_libs", str(site), "zerolane[tensorrt]", "ZEROLANE_TENSORRT"):
        assert part in told
    assert told.count("it is broken") == 3


def test_an_explicit_choice_that_is_refused_is_an_error(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROLANE_TENSORRT_RTX", str(tmp_path / "libtensorrt_rtx.so.1"))

    def opener(path: str) -> int:
        raise zl.Unavailable(f"opening {path}: no; do")

    with pytest.raises(zl.Unavailable, match=r"^opening .*: no; do$"):
        tensorrt.open_library("tensorrt-rtx", opener)


def test_another_error_is_not_swallowed(site: Path) -> None:
    def opener(path: str) -> int:
        raise zl.InternalError("x: y; z")

    with pytest.raises(zl.InternalError):
        tensorrt.open_library("tensorrt-rtx", opener)


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_nothing_there_names_what_was_tried(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    told = str(tensorrt.missing(backend, []))
    assert_three_parts(told)
    for part in (str(site), str(tmp_path / "system"), f"zerolane[{backend}]"):
        assert part in told
    monkeypatch.setenv(tensorrt.ENVIRONMENT_VARIABLES[backend], str(tmp_path))
    with pytest.raises(zl.Unavailable) as caught:
        tensorrt.open_library(backend, lambda path: path)
    assert f"{tmp_path!s} is named explicitly and holds none of" in str(caught.value)


def test_an_unknown_backend() -> None:
    with pytest.raises(zl.InvalidArgument) as caught:
        tensorrt.candidates("tensor-rt")
    assert_three_parts(str(caught.value))


def test_what_each_library_can_do(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_driver = "no: there is no NVIDIA driver"

    def can(backend: str, gpu: bool) -> dict[str, tuple[str, str]]:
        why = None if gpu else no_driver.removeprefix("no: ")
        found = tensorrt.abilities(backend, no_gpu=why, no_run=why)
        return {a.edition: (a.build, a.run) for a in found}

    assert can("tensorrt", True) == can("tensorrt-rtx", False) == {}
    install(site, "tensorrt-lean-cu13-libs", "11.4.0.1", "tensorrt_lean_libs",
            "libnvinfer_lean.so.11")  # fmt: skip
    full = install(site, "tensorrt-cu13-libs", "11.4.0.1", "tensorrt_libs",
                   "libnvinfer.so.11", "libnvonnxparser.so.11")  # fmt: skip
    install(site, "tensorrt-rtx-cu13-libs", "1.7.1.1", "tensorrt_rtx_libs",
            "libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1")  # fmt: skip
    runs_only = "no: the lean library only runs engines"
    assert can("tensorrt-rtx", False) == {"rtx": ("yes", no_driver)}
    assert can("tensorrt-rtx", True) == {"rtx": ("yes", "yes")}
    assert can("tensorrt", False) == {
        "full": (no_driver, no_driver),
        "lean": (runs_only, no_driver),
    }
    assert can("tensorrt", True) == {"full": ("yes", "yes"), "lean": (runs_only, "yes")}
    (full / "libnvonnxparser.so.11").unlink()
    assert "parser" in can("tensorrt", True)["full"][0]
    monkeypatch.setenv("ZEROLANE_TENSORRT", "/nowhere/libnvinfer.so.11")
    assert can("tensorrt", True)["full"] == ("no: there is no such file",) * 2


def test_building_needs_no_cuda_module_of_ours(site: Path) -> None:
    install(site, "tensorrt-cu13-libs", "11.4.0.1", "tensorrt_libs",
            "libnvinfer.so.11", "libnvonnxparser.so.11")  # fmt: skip
    (found,) = tensorrt.abilities("tensorrt", no_gpu=None, no_run="there is no CUDA module")
    assert (found.build, found.run) == ("yes", "no: there is no CUDA module")


def test_versions_that_only_the_library_tells(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(path: str) -> str:
        asked.append(path)
        if path in ("libnvinfer.so.10", str(tmp_path / "mine.so")):
            return "10.9.0"
        raise zl.Unavailable(f"opening {path}: it is no TensorRT; give another")

    # Of all the loader's names one is there.
    (found,) = tensorrt.abilities("tensorrt", no_gpu=None, no_run=None, ask=ask)
    assert (found.path, found.version, found.run) == ("libnvinfer.so.10", "10.9.0", "yes")
    assert tensorrt.abilities("tensorrt", no_gpu=None, no_run=None) == []

    install(site, "tensorrt-cu13-libs", "11.4.0.1", "tensorrt_libs", "libnvinfer.so.11")
    asked.clear()
    versions = [
        a.version for a in tensorrt.abilities("tensorrt", no_gpu=None, no_run=None, ask=ask)
    ]
    assert versions == ["11.4.0.1", "10.9.0"]
    assert not [path for path in asked if path.endswith("libnvinfer.so.11")]

    for name, version, build in (
        ("mine.so", "10.9.0", "no: there is no ONNX parser library beside it"),
        ("other.so", None, f"no: opening {tmp_path / 'other.so'}: it is no TensorRT; give another"),
    ):
        (tmp_path / name).touch()
        monkeypatch.setenv("ZEROLANE_TENSORRT", str(tmp_path / name))
        (found,) = tensorrt.abilities("tensorrt", no_gpu=None, no_run=None, ask=ask)
        assert (found.version, found.build) == (version, build)


def test_packages_that_overwrite_each_other(site: Path) -> None:
    assert tensorrt.clashes("tensorrt-rtx") == []
    for cuda in ("cu12", "cu13"):
        install(site, f"tensorrt-rtx-{cuda}-libs", "1.7.1.1", "tensorrt_rtx_libs",
                "libtensorrt_rtx.so.1")  # fmt: skip
    assert [set(names) for names in tensorrt.clashes("tensorrt-rtx")] == [
        {"tensorrt-rtx-cu12-libs", "tensorrt-rtx-cu13-libs"}
    ]


def test_doctor_shows_it_and_opens_nothing(tmp_path: Path) -> None:
    """In a process of its own: neither the package's module nor its library is loaded."""
    where = install(tmp_path, "tensorrt-lean-cu13-libs", "11.4.0.9", "tensorrt_lean_libs",
                    "libnvinfer_lean.so.11")  # fmt: skip
    code = """
    import json, sys
    sys.path.insert(0, sys.argv[1])
    import zerolane as zl
    report = zl.doctor()
    assert not [name for name in sys.modules if name.startswith("tensorrt_")]
    maps = open("/proc/self/maps").read()
    assert "libnvinfer" not in maps and "libtensorrt_rtx" not in maps
    print(json.dumps({"report": report.as_dict(), "text": str(report)}))
    """
    env: dict[str, str | None] = dict.fromkeys(tensorrt.ENVIRONMENT_VARIABLES.values())
    told = json.loads(child.run(code, tmp_path, env=env))
    lean = next(a for a in told["report"]["tensorrt"] if a["edition"] == "lean")
    assert lean["version"] == "11.4.0.9"
    assert lean["path"] == os.path.join(where, "libnvinfer_lean.so.11")
    assert lean["build"] == "no: the lean library only runs engines"
    assert f"lean 11.4.0.9 from {where}" in told["text"]


def test_doctor_finds_the_installed_rtx_library() -> None:
    import importlib.metadata

    try:
        version = importlib.metadata.version("tensorrt-rtx-cu13-libs")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("tensorrt-rtx-cu13-libs is not installed")
    found = zl.doctor().tensorrt_rtx[0]
    assert (found.version, found.source, found.build) == (version, "Python package", "yes")
    assert Path(found.path).is_file()
