# SPDX-License-Identifier: Apache-2.0
"""What `import` costs over bare Python: time and resident memory of fresh processes, interleaved.

`import zerolane` alone defers nearly everything, so `from zerolane import load`, which brings in
the native module, stands beside it; and the road to a first answer: import, load, one call.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns

from bench import models, settings
from bench.results import Check, Report, Series
from bench.settings import Settings, progress
from bench.stats import curve, summarize

NAME = "import"
TITLE = "import time and memory over bare Python, fresh processes"

# Printed by the child just before it ends: memory in KiB, and whether NumPy came along.
TELL = """
import sys
lines = open("/proc/self/status").read().splitlines()
kib = {l.split(":")[0]: int(l.split()[1]) for l in lines if l.startswith(("VmRSS", "RssAnon"))}
print("[%d, %d, %d]" % (kib["VmRSS"], kib["RssAnon"], "numpy" in sys.modules))
"""

BODIES = {
    "bare": "",
    "zerolane": "import zerolane\n",
    "zerolane.load": "from zerolane import load\n",
    "onnxruntime": "import onnxruntime\n",
}

FIRST_ANSWERS = {
    "zerolane first answer": "import zerolane as zl\nimport numpy as np\n"
    "s = zl.load({path!r}, threads={threads})\ns(np.ones((1, 64), np.float32))\n",
    "onnxruntime first answer": "import onnxruntime as ort\nimport numpy as np\n"
    "o = ort.SessionOptions()\no.intra_op_num_threads = {threads}\n"
    "s = ort.InferenceSession({path!r}, o, providers=['CPUExecutionProvider'])\n"
    "s.run(None, {{'x': np.ones((1, 64), np.float32)}})\n",
}


@dataclass
class Starts:
    """One entry a process: wall time from fork to exit, memory before the end."""

    ms: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    anonymous_mib: list[float] = field(default_factory=list)
    numpy: bool = False


def environment() -> dict[str, str]:
    """Without PYTHON... variables: compiled modules are kept, nothing is traced or checked."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}


def start_once(body: str, into: Starts | None) -> None:
    """Runs one child; `into` None only warms the file cache and the compiled modules."""
    command = [sys.executable, "-c", body + TELL]
    start = perf_counter_ns()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd="/", env=environment()
    )
    ms = (perf_counter_ns() - start) / 1e6
    if done.returncode != 0:
        raise ImportError(done.stderr.strip().splitlines()[-1])
    if into is not None:
        rss, anonymous, numpy = json.loads(done.stdout)
        into.ms.append(ms)
        into.rss_mib.append(rss / 1024)
        into.anonymous_mib.append(anonymous / 1024)
        into.numpy = bool(numpy)


def start_all(bodies: dict[str, str], rounds: int) -> tuple[dict[str, Starts], list[Check]]:
    starts: dict[str, Starts] = {}
    missing = []
    for name, body in bodies.items():
        try:
            start_once(body, None)
            starts[name] = Starts()
        except ImportError as reason:
            missing.append(Check(f"{name} left out", "import", None, "", note=str(reason)))
    for r in range(rounds):
        names = list(starts)
        for name in names[r % len(names) :] + names[: r % len(names)]:
            start_once(bodies[name], starts[name])
        if r % 10 == 9:
            progress(f"{NAME}: {r + 1} of {rounds} rounds")
    return starts, missing


def over(starts: Starts, bare: Starts, what: str) -> tuple[float, tuple[float, float]]:
    """Median and middle half of the differences, process by process."""
    pairs = zip(getattr(starts, what), getattr(bare, what), strict=True)
    s = summarize([a - b for a, b in pairs])
    return s.median, (s.p25, s.p75)


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    path = models.policy(settings.BUILD_FOLDER / "models").path
    answers = {
        name: text.format(path=str(Path(path).resolve()), threads=options.threads)
        for name, text in FIRST_ANSWERS.items()
    }
    rounds = 10 if options.quick else 60
    report.settings |= {"rounds": rounds}
    starts, missing = start_all({**BODIES, **answers}, rounds)
    for name, s in starts.items():
        rss: dict[str, object] = {"rss_mib": summarize(s.rss_mib).as_dict(), "numpy": s.numpy}
        report.series.append(
            Series("process", name, "ms", summarize(s.ms).as_dict(), curve(s.ms), rss)
        )
    bare = starts.pop("bare")
    for name, s in starts.items():
        mine = name == "zerolane"
        ms, ms_spread = over(s, bare, "ms")
        mib, mib_spread = over(s, bare, "rss_mib")
        anonymous, _ = over(s, bare, "anonymous_mib")
        note = f"of it {anonymous:.1f} MiB not backed by files"
        report.checks += [
            Check(f"{name}: time", "over bare Python", ms, "ms", ms_spread, 20.0 if mine else None),
            Check(
                f"{name}: memory",
                "over bare Python",
                mib,
                "MiB",
                mib_spread,
                12.0 if mine else None,
                note=note,
            ),
            Check(f"{name}: NumPy imported", "", float(s.numpy), "", None, 0.0 if mine else None),
        ]
    report.checks += missing
    return report


if __name__ == "__main__":
    settings.main(run, TITLE)
