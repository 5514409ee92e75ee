"""Trains the test models into a folder and prints one JSON line of results for each.

    python -m tests.models.make OUT [name ...]

Exit code 1 if a model misses its bar.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

import torch

from .. import task_checks
from .common import onnxruntime_runner


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.models.make")
    parser.add_argument("folder", type=Path, help="where the .onnx and .case.npz files go")
    parser.add_argument("names", nargs="*", metavar="name", help="which models (default: all)")
    parser.add_argument("--threads", type=int, default=1, help="threads for training")
    arguments = parser.parse_args()
    known = list(task_checks.CHECKS)
    for name in arguments.names:
        if name not in known:
            parser.error(f"training {name!r}: no such model; choose from {', '.join(known)}")

    torch.set_num_threads(arguments.threads)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in arguments.names or known:
        torch.manual_seed(0)
        start = time.monotonic()
        importlib.import_module(f"{__package__}.{name}").make(arguments.folder)
        run = onnxruntime_runner(arguments.folder / f"{name}.onnx")
        result = task_checks.check(name, run, arguments.folder)
        seconds = round(time.monotonic() - start, 1)
        values = {measure.name: round(measure.value, 4) for measure in result.measures}
        print(json.dumps({"model": name, "seconds": seconds, "passed": result.passed, **values}))
        sys.stdout.flush()
        failed += not result.passed
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
