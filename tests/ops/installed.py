"""A fresh environment with zerolane installed from a wheel, and commands in it."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

_NOT_OF_A_WHEEL = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"}


def wheel(folder: Path) -> Path:
    """The wheel that zerolane was installed from, put together again from the installed files."""
    found = distribution("zerolane")
    listed = [file for file in found.files or () if ".." not in file.parts]
    files = [file for file in listed if file.name not in _NOT_OF_A_WHEEL and file.suffix != ".pyc"]
    if not any(file.name.startswith("_native.") for file in files):
        pytest.skip("zerolane is not installed from a wheel here (an editable install?)")
    about = f"zerolane-{found.version}.dist-info"
    tag = next(
        line.partition(": ")[2]
        for line in (found.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag: ")
    )
    path = folder / f"zerolane-{found.version}-{tag}.whl"
    record = []
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            data = Path(str(file.locate())).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{file.as_posix()},sha256={digest},{len(data)}")
            archive.writestr(file.as_posix(), data)
        archive.writestr(f"{about}/RECORD", "\n".join([*record, f"{about}/RECORD,,"]) + "\n")
    return path


class Environment:
    """A virtual environment. Third-party packages are those of this one; zerolane is its own."""

    def __init__(self, folder: Path, *, zerolane: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        (site,) = folder.glob("lib/python*/site-packages")
        here = {p for p in sys.path if p.endswith("site-packages")}
        here |= {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        (site / "third_party.pth").write_text("\n".join(sorted(here)) + "\n")
        self.run("pip install --no-deps --force-reinstall --no-index " + str(zerolane), folder)

    def run(self, command: str, cwd: Path, *, code: int = 0) -> str:
        """Runs a line of a shell there and returns what it printed."""
        env = {
            k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_", "VIRTUAL"))
        }
        env |= {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{env.get('PATH', '')}",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "CMAKE_BUILD_PARALLEL_LEVEL": "2",
            "CUDA_ARCHITECTURES": "80",  # one is built sooner than all
            "MPLBACKEND": "agg",
        }
        for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT"):
            if name in os.environ:
                env[name] = os.environ[name]
        done = subprocess.run(
            ["bash", "-euc", command], cwd=cwd, env=env, capture_output=True, text=True
        )
        told = done.stdout + done.stderr
        assert done.returncode == code, f"$ {command}\n{told[-12000:]}"
        return told
