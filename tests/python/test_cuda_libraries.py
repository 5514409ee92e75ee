"""The libraries of NVIDIA's wheels that ONNX Runtime's CUDA provider is linked to, on made-up ones:
a site-packages folder with tiny libraries of the same names, and the stand-in for ONNX Runtime."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.onnxruntime import stand_in
from tests.fakes.tensorrt import libraries
from tests.models import small
from tests.python.messages import assert_three_parts
from zerolane.runtimes import cuda_libraries, onnxruntime

pytestmark = pytest.mark.skipif(
    libraries.missing() is not None, reason=libraries.missing() or "compiles libraries"
)
# Each with what it is linked to, in the layouts of CUDA 12 and 13.
CUDA_12 = {
    "nvidia/cublas/lib/libcublasLt.so.12": (),
    "nvidia/cublas/lib/libcublas.so.12": ("libcublasLt.so.12",),
    "nvidia/cuda_runtime/lib/libcudart.so.12": (),
    "nvidia/cuda_nvrtc/lib/libnvrtc.so.12": (),
    "nvidia/nvjitlink/lib/libnvJitLink.so.12": (),
    "nvidia/cufft/lib/libcufft.so.11": ("libnvJitLink.so.12",),
    "nvidia/cudnn/lib/libcudnn.so.9": ("libcublas.so.12",),
}
CUDA_13 = {
    "nvidia/cu13/lib/libcublasLt.so.13": (),
    "nvidia/cu13/lib/libcublas.so.13": ("libcublasLt.so.13",),
    "nvidia/cu13/lib/libcudart.so.13": (),
    "nvidia/cu13/lib/libcufft.so.12": (),
    "nvidia/cudnn/lib/libcudnn.so.9": ("libcublas.so.13",),
}
LINKED = ("libcudnn.so.9", "libcublas.so", "libcufft.so", "libcudart.so")


def compile_library(path: Path, linked: list[Path]) -> None:
    """A library with a function of its own name that adds up those of the linked ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    symbol = path.name.split(".")[0]
    others = [other.name.split(".")[0] for other in linked]
    source = "".join(f"int {other}(void);\n" for other in others)
    source += f"int {symbol}(void) {{ return 1{''.join(f' + {o}()' for o in others)}; }}\n"
    command = [str(libraries.compiler()), "-x", "c", "-", "-x", "none", "-shared", "-fPIC"]
    command += ["-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined", f"-Wl,-soname,{path.name}"]
    subprocess.run(
        [*command, "-o", str(path), *map(str, linked)], input=source, text=True, check=True
    )


class Site:
    """A folder as pip fills it: wheels of CUDA, and ONNX Runtime with a CUDA provider beside it."""

    def __init__(self, folder: Path, wheels: dict[str, tuple[str, ...]]) -> None:
        self.folder = folder
        self.made: dict[str, Path] = {}
        for name, linked in wheels.items():
            path = folder / name
            compile_library(path, [self.made[other] for other in linked])
            self.made[path.name] = path
        self.runtime = folder / "onnxruntime/capi/libonnxruntime.so.1.99.0"
        self.provider = self.runtime.parent / "libonnxruntime_providers_cuda.so"
        needs = [
            path for name, path in self.made.items() if name.rsplit(".", 1)[0] in LINKED
            or name in LINKED
        ]  # fmt: skip
        compile_library(self.provider, needs)
        shutil.copy(stand_in.library(), self.runtime)
        (folder / "onnxruntime/__init__.py").write_text("raise ImportError('imported')")
        (folder / "nvidia/__init__.py").write_text("raise ImportError('imported')")
        (folder / "model.onnx").write_bytes(small.relu((2, 4)).SerializeToString())

    def run(self, code: str) -> dict[str, object]:
        """What the code prints as JSON, in a process of its own with this folder on its path."""
        env = {k: v for k, v in os.environ.items() if k not in ("LD_LIBRARY_PATH", "PYTHONPATH")}
        env |= {
            "PYTHONPATH": os.pathsep.join([str(self.folder), *filter(None, sys.path)]),
            "ZEROLANE_ONNXRUNTIME": str(self.runtime),
            "ZEROLANE_FAKE_ONNXRUNTIME": onnxruntime.candidates()[0].path,
            "ZEROLANE_CUDA_LIBRARY": str(libraries.cuda_library()),
        }
        head = "import ctypes, json, sys\nimport numpy as np\nimport zerolane as zl\n"
        head += f"MODEL, PROVIDER = {str(self.folder / 'model.onnx')!r}, {str(self.provider)!r}\n"
        done = subprocess.run(
            [sys.executable, "-c", head + code],
            env=env, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        answer: dict[str, object] = json.loads(done.stdout)
        return answer


LOAD = """
try:
    ctypes.CDLL(PROVIDER)
    before = "opened"
except OSError:
    before = "cannot be opened"
try:
    session = zl.load(MODEL, device=DEVICE, fallback=FALLBACK)
    value = None
    if session.device != "cpu":
        value = ctypes.CDLL(PROVIDER).libonnxruntime_providers_cuda()
    y = session(np.ones((2, 4), np.float32)).sum().item()
    found = {"value": value, "y": y, "device": session.device, "why": dict(session.why)}
except zl.Error as error:
    found = {"error": type(error).__name__, "text": str(error), "name": error.subject}
maps = open("/proc/self/maps").read()
found["nvrtc"] = "libnvrtc" in maps
found["open"] = "libcudart" in maps
found["before"] = before
print(json.dumps(found))
"""


def load(site: Site, device: str = "cuda:0", fallback: bool = False) -> dict[str, object]:
    return site.run(f"DEVICE, FALLBACK = {device!r}, {fallback}\n" + LOAD)


@pytest.mark.parametrize(("wheels", "value"), [(CUDA_12, 9), (CUDA_13, 8)], ids=["12", "13"])
def test_they_are_opened_before_the_provider(
    tmp_path: Path, wheels: dict[str, tuple[str, ...]], value: int
) -> None:
    found = load(Site(tmp_path, wheels))
    assert "error" not in found, found
    assert found["before"] == "cannot be opened"  # no loader would have found them
    # The provider's functions come from them: 1 for each call of a library's function.
    assert found["value"] == value
    assert found["y"] == 8
    assert found["nvrtc"] is (wheels is CUDA_12)


def test_the_cpu_opens_none(tmp_path: Path) -> None:
    found = load(Site(tmp_path, CUDA_12), "cpu")
    assert found["y"] == 8
    assert found["open"] is False


@pytest.mark.parametrize(
    ("wheels", "soname", "package"),
    [
        (CUDA_12, "libcudnn.so.9", "nvidia-cudnn-cu12"),
        (CUDA_12, "libcudart.so.12", "nvidia-cuda-runtime-cu12"),
        (CUDA_13, "libcudnn.so.9", "nvidia-cudnn-cu13"),
        (CUDA_13, "libcufft.so.12", "nvidia-cufft"),
    ],
)
def test_a_missing_one_is_named_with_its_package(
    tmp_path: Path, wheels: dict[str, tuple[str, ...]], soname: str, package: str
) -> None:
    site = Site(tmp_path, wheels)
    site.made[soname].unlink()
    found = load(site)
    assert found["error"] == "Unavailable"
    assert found["name"] == soname
    text = str(found["text"])
    assert_three_parts(text)
    assert soname in text
    assert text.endswith(f"pip install {package}")


def test_one_that_cannot_be_opened(tmp_path: Path) -> None:
    site = Site(tmp_path, CUDA_12)
    site.made["libcudart.so.12"].write_text("no library")
    found = load(site)
    assert found["error"] == "Unavailable"
    assert "libcudart.so.12 could not be opened" in str(found["text"])


def test_fallback_goes_without_the_provider(tmp_path: Path) -> None:
    site = Site(tmp_path, CUDA_12)
    site.made["libcudnn.so.9"].unlink()
    found = load(site, fallback=True)
    assert found["device"] == "cpu"
    assert found["y"] == 8
    assert "libcudnn.so.9" in found["why"]["provider CUDA"]  # type: ignore[index]


def test_doctor_tells(tmp_path: Path) -> None:
    site = Site(tmp_path, CUDA_12)
    site.made["libcudnn.so.9"].unlink()
    report = site.run("print(json.dumps(zl.doctor().as_dict() | {'text': str(zl.doctor())}))")
    told = {row["soname"]: row for row in report["cuda_libraries"]}  # type: ignore[attr-defined]
    assert told["libcudnn.so.9"]["path"] is None
    assert told["libcudnn.so.9"]["package"] == "nvidia-cudnn-cu12"
    assert told["libcublas.so.12"]["path"] is not None
    (finding,) = (f for f in report["findings"] if "libcudnn" in f["what"])  # type: ignore[attr-defined]
    assert "pip install nvidia-cudnn-cu12" in finding["do"]
    assert "pip install nvidia-cudnn-cu12" in str(report["text"])


def test_files_that_are_no_libraries(tmp_path: Path) -> None:
    compile_library(tmp_path / "libcudart.so.12", [])
    whole = (tmp_path / "libcudart.so.12").read_bytes()
    for index, content in enumerate(
        [b"", b"\x7fELF", whole[:64], whole[:200], b"\x7fELF\x02\x01" + b"\xff" * 300]
    ):
        path = tmp_path / f"{index}.so"
        path.write_bytes(content)
        assert cuda_libraries.needed(path) == ()
    assert cuda_libraries.needed(tmp_path / "nothing.so") == ()
    compile_library(tmp_path / "libcudnn.so.9", [tmp_path / "libcudart.so.12"])
    assert "libcudart.so.12" in cuda_libraries.needed(tmp_path / "libcudnn.so.9")
