"""Building engines of damaged models never ends this process: each case builds or is typed.

ZEROLANE_FUZZ_BUILDS sets the number of cases (2,000), ZEROLANE_FUZZ_FIRST the first one (0). Of
about one in 100 the library's own parser dies, in the child. A case that fails is written to
ZEROLANE_FUZZ_KEEP, where that names a folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests import child
from tests.build.library import require_rtx

pytest.importorskip("onnx", reason="models are edited with onnx")

from tests.fuzz import mutate

CASES = int(os.environ.get("ZEROLANE_FUZZ_BUILDS", "2000"))
FIRST = int(os.environ.get("ZEROLANE_FUZZ_FIRST", "0"))
KEEP = os.environ.get("ZEROLANE_FUZZ_KEEP")


def test_builds_of_damaged_models() -> None:
    require_rtx()
    command = [sys.executable, "-m", "tests.fuzz.builder", str(FIRST), str(FIRST + CASES)]
    done = subprocess.run(
        command,
        cwd=child.ROOT,
        env=child.environment({"OMP_NUM_THREADS": "1"}),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(row["case"] for row in rows) == list(range(FIRST, FIRST + CASES))
    outcomes = Counter(row["outcome"].split()[0] for row in rows)
    summary = ", ".join(f"{name}: {count}" for name, count in outcomes.most_common())
    print(summary)
    untyped = [row for row in rows if row["outcome"].startswith("UNTYPED")]
    for row in untyped if KEEP else ():
        Path(str(KEEP)).mkdir(parents=True, exist_ok=True)
        (Path(str(KEEP)) / f"{row['case']}.onnx").write_bytes(mutate.case(row["case"])[1])
    assert untyped == [], summary
    # The damage reaches every depth: some models still build, some are refused.
    assert outcomes["built"] > CASES // 20, summary
    assert outcomes["InvalidModel"] > CASES // 10, summary
    crashed = [row["said"] for row in rows if row["outcome"] == "BackendCrashed"]
    assert all(" while " in said for said in crashed), "a crash tells where the library was"
