"""Where the libraries of TensorRT and TensorRT-RTX are. Nothing of their Python packages is run."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from zerolane.errors import Error, InvalidArgument, Unavailable

Backend = Literal["tensorrt", "tensorrt-rtx"]
Edition = Literal["full", "lean", "dispatch", "rtx"]

ENVIRONMENT_VARIABLES: dict[str, str] = {
    "tensorrt": "ZEROLANE_TENSORRT",
    "tensorrt-rtx": "ZEROLANE_TENSORRT_RTX",
}
NAMES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}
# Where a loader looks that was told nothing, and where NVIDIA's archives tell users to unpack.
SYSTEM_FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/tensorrt/lib",
    "/opt/tensorrt/lib",
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Kind:
    """One edition of a library: its file, the folder and the packages of PyPI that bring it."""

    edition: Edition
    stem: str
    majors: tuple[int, ...]
    folder: str
    packages: tuple[str, ...]
    parser: str | None

    @property
    def file_names(self) -> tuple[str, ...]:
        return tuple(f"{self.stem}.so.{major}" for major in self.majors)


def _packages(name: str) -> tuple[str, ...]:
    return f"{name}-cu13-libs", f"{name}-cu12-libs", f"{name}-libs"


# In the order of preference: what can build first.
_KINDS: dict[str, tuple[_Kind, ...]] = {
    "tensorrt": (
        _Kind(
            "full",
            "libnvinfer",
            (11, 10),
            "tensorrt_libs",
            _packages("tensorrt"),
            "libnvonnxparser",
        ),
        _Kind(
            "lean",
            "libnvinfer_lean",
            (11, 10),
            "tensorrt_lean_libs",
            _packages("tensorrt-lean"),
            None,
        ),
        _Kind(
            "dispatch",
            "libnvinfer_dispatch",
            (11, 10),
            "tensorrt_dispatch_libs",
            _packages("tensorrt-dispatch"),
            None,
        ),
    ),
    "tensorrt-rtx": (
        _Kind(
            "rtx",
            "libtensorrt_rtx",
            (1,),
            "tensorrt_rtx_libs",
            _packages("tensorrt-rtx"),
            "libtensorrt_onnxparser_rtx",
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A library that could be opened: path or loader name, who said so, what it is by its name.

    version: of the package or the file's name, None where only opening it would tell.
    parser: path of the ONNX parser library beside it, None where there is none.
    """

    backend: str
    edition: Edition
    path: str
    source: str
    version: str | None = None
    parser: str | None = None

    @property
    def builds(self) -> bool:
        """Whether this edition can build engines at all."""
        return self.edition in ("full", "rtx")


@dataclass(frozen=True, slots=True)
class Abilities:
    """A library and what it can do here: "yes", or why not."""

    backend: str
    edition: str
    path: str
    source: str
    version: str | None
    build: str
    run: str

    def __str__(self) -> str:
        edition = "" if self.edition in ("full", "rtx") else f"{self.edition} "
        version = self.version or "of unknown version"
        return (
            f"{edition}{version} from {self.path} ({self.source}); build: {self.build}; "
            f"run: {self.run}"
        )


_libraries: dict[str, Path] = {}


def configure(
    *,
    tensorrt: str | os.PathLike[str] | None = None,
    tensorrt_rtx: str | os.PathLike[str] | None = None,
) -> None:
    """Name the library, or the folder that holds it; see `zerolane.configure`."""
    for backend, given in (("tensorrt", tensorrt), ("tensorrt-rtx", tensorrt_rtx)):
        if given is None:
            continue
        path = Path(given)
        option = backend.replace("-", "_")
        if not path.exists():
            raise Unavailable(
                f"configuring {option}: there is no file or folder {str(path)!r}; give the path of "
                f"{_KINDS[backend][0].file_names[0]}",
                str(path),
            )
        if path.is_dir() and next(_in_folder(backend, path, "zl.configure"), None) is None:
            raise Unavailable(
                f"configuring {option}: the folder {str(path)!r} holds none of "
                f"{', '.join(_file_names(backend))}; give the one that does, or the library's path",
                str(path),
            )
        _libraries[backend] = path.resolve()


def candidates(backend: str, *, build: bool = False) -> list[Candidate]:
    """All libraries of a backend in the order in which they are tried.

    An explicit choice stands alone: that of `zl.configure`, then that of the environment
    variable. build: only those that can build engines.
    """
    if backend not in _KINDS:
        raise InvalidArgument(
            f"looking for the library of {backend!r}: it is not known, expected one of "
            f"{', '.join(_KINDS)}; correct the name",
            "backend",
        )
    variable = ENVIRONMENT_VARIABLES[backend]
    chosen = _libraries.get(backend)
    named = os.environ.get(variable)
    if chosen is not None:
        found = _explicit(backend, chosen, "zl.configure")
    elif named:
        found = _explicit(backend, Path(named), variable)
    else:
        found = [
            c for k in _KINDS[backend] for c in (*_installed(backend, k), *_system(backend, k))
        ]
    return [c for c in found if c.builds or not build]


def open_library(
    backend: str, opener: Callable[[str], _T], *, build: bool = False
) -> tuple[_T, Candidate]:
    """What `opener` makes of the first candidate that it does not refuse with Unavailable.

    opener: takes a path or loader name (the native call that opens a library). An explicit
    choice that is refused is an error; else all are tried. Raises Unavailable with the names and
    folders tried, and what each one said.
    """
    failures: list[str] = []
    for candidate in candidates(backend, build=build):
        try:
            return opener(candidate.path), candidate
        except Unavailable as error:
            if candidate.source in ("zl.configure", *ENVIRONMENT_VARIABLES.values()):
                raise
            failures.append(f"{candidate.path} ({candidate.source}): {error}")
    raise missing(backend, failures, build=build)


def missing(backend: str, failures: list[str], *, build: bool = False) -> Unavailable:
    """The error for a backend of which no library can be opened."""
    kinds = [k for k in _KINDS[backend] if k.parser is not None or not build]
    explicit = _libraries.get(backend) or os.environ.get(ENVIRONMENT_VARIABLES[backend])
    if explicit is not None and not failures:
        failures = [f"{explicit} is named explicitly and " + _why_not(backend, explicit)]
    folders = ", ".join(kind.folder for kind in kinds)
    return Unavailable(
        f"looking for {NAMES[backend]}{' to build with' if build else ''}: no library could be "
        f"used; tried {', '.join(n for k in kinds for n in k.file_names)} in {folders} below "
        f"{', '.join(p for p in sys.path if p)}, in {', '.join(_loader_folders())} and by the "
        f"system loader: {'; '.join(failures) or 'none there'}; pip install 'zerolane[{backend}]', "
        f"or set {ENVIRONMENT_VARIABLES[backend]} to the path of {kinds[0].file_names[0]}",
        backend,
    )


def abilities(
    backend: str,
    *,
    no_gpu: str | None,
    no_run: str | None,
    ask: Callable[[str], str] | None = None,
) -> list[Abilities]:
    """What there is of a backend and what it can do here.

    no_gpu: why no GPU can be used, None where one can. no_run: the same for running engines, where
    zerolane's CUDA module takes part. ask: opens a library and returns its version; called only
    where no package or file name tells that, and for the loader's names, which are left out
    without it.
    """
    found: list[Abilities] = []
    for candidate in candidates(backend):
        by_loader = candidate.source == "system loader"
        if by_loader and (
            ask is None or any(os.path.basename(a.path) == candidate.path for a in found)
        ):
            continue
        version, problem = candidate.version, None
        if not by_loader and not os.path.isfile(candidate.path):
            problem = "no: there is no such file"
        elif version is None and ask is not None:
            try:
                version = ask(candidate.path)
            except Error as error:
                problem = f"no: {error}"
        if by_loader and problem:
            continue  # no library of this name
        run = problem or (f"no: {no_run}" if no_run else "yes")
        build = problem or "yes"
        if problem is None and not candidate.builds:
            build = f"no: the {candidate.edition} library only runs engines"
        elif problem is None and candidate.parser is None and not by_loader:
            build = "no: there is no ONNX parser library beside it"
        elif candidate.edition == "full":
            # Unlike RTX it times kernels on the GPU.
            build = problem or (f"no: {no_gpu}" if no_gpu else "yes")
        found.append(
            Abilities(
                backend,
                candidate.edition,
                candidate.path,
                candidate.source,
                version,
                build,
                run,
            )
        )
    return found


def clashes(backend: str) -> list[tuple[str, ...]]:
    """Installed packages that unpack into the same folder and overwrite each other's files."""
    found = []
    for kind in _KINDS[backend]:
        for entry in sys.path:
            installed = tuple(n for n in kind.packages if _version_of(n, entry or ".") is not None)
            if len(installed) > 1:
                found.append(installed)
    return found


def _installed(backend: str, kind: _Kind) -> Iterator[Candidate]:
    """In the installed Python packages; those for CUDA 12 and 13 unpack into the same folder."""
    for entry in sys.path:
        folder = Path(entry or ".") / kind.folder
        yield from _of_kind(backend, kind, folder, "Python package")


def _system(backend: str, kind: _Kind) -> Iterator[Candidate]:
    """In the loader's folders, with the version their names tell, then whatever it finds."""
    for folder in _loader_folders():
        yield from _of_kind(backend, kind, Path(folder), "system")
    for name in kind.file_names:
        yield Candidate(backend, kind.edition, name, "system loader")


def _explicit(backend: str, path: Path, source: str) -> list[Candidate]:
    if path.is_dir():
        return list(_in_folder(backend, path, source))
    kind = next((k for k in _KINDS[backend] if path.name.startswith(f"{k.stem}.so")), None)
    kind = kind or _KINDS[backend][0]  # any name will do; the library itself says what it is
    return [_candidate(backend, kind, path, source)]


def _in_folder(backend: str, folder: Path, source: str) -> Iterator[Candidate]:
    for kind in _KINDS[backend]:
        yield from _of_kind(backend, kind, folder, source)


def _of_kind(backend: str, kind: _Kind, folder: Path, source: str) -> Iterator[Candidate]:
    for name in kind.file_names:
        if (folder / name).is_file():
            yield _candidate(backend, kind, folder / name, source)


def _candidate(backend: str, kind: _Kind, path: Path, source: str) -> Candidate:
    version = None
    if path.parent.name == kind.folder:
        known = (_version_of(name, str(path.parent.parent)) for name in kind.packages)
        version = next((v for v in known if v is not None), None)
    if version is None:
        # The links lead to the file that bears the whole version: libnvinfer.so.10.16.1.
        match = re.search(r"\.so\.(\d+(?:\.\d+)+)$", os.path.realpath(path))
        version = match[1] if match else None
    parser = None
    if kind.parser is not None:
        beside = [path.with_name(f"{kind.parser}.so.{major}") for major in kind.majors]
        major = path.name.rpartition(".so.")[2].partition(".")[0]
        beside = [p for p in beside if p.is_file() and p.name.endswith(major)]
        parser = str(beside[0]) if beside else None
    return Candidate(backend, kind.edition, str(path), source, version, parser)


def _version_of(package: str, folder: str) -> str | None:
    """The version of a package installed in `folder`; importlib.metadata takes 12 ms to import."""
    name = package.replace("-", "_")
    for path in Path(folder).glob(f"{name}-*.dist-info"):
        return path.name.removeprefix(f"{name}-").removesuffix(".dist-info")
    return None


def _loader_folders() -> list[str]:
    given = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    return [folder for folder in (*given, *SYSTEM_FOLDERS) if folder]


def _file_names(backend: str) -> list[str]:
    return [name for kind in _KINDS[backend] for name in kind.file_names]


def _why_not(backend: str, explicit: str | Path) -> str:
    path = Path(explicit)
    if path.is_dir():
        return f"holds none of {', '.join(_file_names(backend))}"
    if not path.exists():
        return "is not there"
    return "cannot build engines"
