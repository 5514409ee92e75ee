# SPDX-License-Identifier: Apache-2.0
"""Every benchmark in a process of its own, one after the other, then the report."""

from __future__ import annotations

import argparse
import subprocess
import sys

from bench import report, settings

NAMES = (
    "call",
    "instructions",
    "gil",
    "loop",
    "trace",
    "contract",
    "import",
    "load",
    "memory",
    "cache",
    "build",
    "op_cost",
    "ops_image",
    "ops_boxes",
    "ops_audio",
    "ops_heads",
    "lanes",
    "batcher",
    "pipeline",
    "precision",
    "prune",
    "quantize",
    "tune",
)


def main() -> int:
    """Returns 1 where a benchmark could not finish; missed targets are results, not failures."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    settings.add_arguments(parser)
    parser.add_argument("--only", choices=NAMES, action="append", help="repeatable")
    arguments = parser.parse_args()
    options = settings.from_arguments(arguments)
    command = ["--out", str(options.out), "--models", str(options.models)]
    command += ["--threads", str(options.threads), *(["--quick"] if options.quick else [])]
    failed = []
    for name in arguments.only or NAMES:
        child = [sys.executable, "-m", f"bench.python.bench_{name}", *command]
        if subprocess.run(child, check=False).returncode != 0:
            failed.append(name)
    report.draw(options.out)
    for name in failed:
        settings.progress(f"bench: {name} did not finish; run `python -m bench --only {name}`")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
