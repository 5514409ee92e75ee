"""Damaged models never end the process: each one runs, or fails with a typed error, in silence.

ZEROLANE_FUZZ_CASES sets the number of cases (10,000), ZEROLANE_FUZZ_FIRST the first one (0). A case
that fails is written to ZEROLANE_FUZZ_KEEP, where that names a folder. Cases that were found this
way and are not the fault of zerolane lie in `known/`, see its README.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import child

pytest.importorskip("onnx", reason="models are edited with onnx")

from tests.fuzz import mutate

CASES = int(os.environ.get("ZEROLANE_FUZZ_CASES", "10000"))
FIRST = int(os.environ.get("ZEROLANE_FUZZ_FIRST", "0"))
KEEP = os.environ.get("ZEROLANE_FUZZ_KEEP")
BATCH = 100
KNOWN = Path(__file__).parent / "known"


@dataclass
class Batch:
    """A worker process on a range of cases. After a death, another one goes on behind the case."""

    process: subprocess.Popen[bytes]
    end: int
    stderr: Path
    last_word: float
    running: tuple[int, str] | None = None
    buffer: bytes = b""


class Fuzzer:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outcomes: Counter[str] = Counter()
        self.failures: list[str] = []
        self.started = 0

    def start(self, arguments: list[str], end: int) -> Batch:
        stderr = self.folder / f"stderr.{self.started}"
        self.started += 1
        with stderr.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.worker", *arguments],
                cwd=child.ROOT,
                env=child.environment({"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return Batch(process, end, stderr, time.monotonic())

    def read(self, batch: Batch) -> bool:
        """Takes in what the worker wrote; False at the end of its output."""
        assert batch.process.stdout is not None
        data = batch.process.stdout.read()
        if data == b"":
            return False
        batch.last_word = time.monotonic()
        *lines, batch.buffer = (batch.buffer + (data or b"")).split(b"\n")
        for line in lines:
            try:
                said = json.loads(line)
            except ValueError:
                self.fail(batch, f"wrote to stdout: {line!r}")
                continue
            if "begin" in said:
                batch.running = (said["begin"], said["what"])
                continue
            outcome = said["outcome"]
            self.outcomes[outcome.split(":")[0] if "UNTYPED" in outcome else outcome] += 1
            if outcome.startswith("UNTYPED"):
                self.fail(batch, outcome)
            batch.running = None
        return True

    def fail(self, batch: Batch, how: str) -> None:
        number, what = batch.running or (-1, "outside of a case")
        self.failures.append(f"case {number} ({what}): {how}")
        if KEEP and number >= 0:
            Path(KEEP).mkdir(parents=True, exist_ok=True)
            (Path(KEEP) / f"{number}.onnx").write_bytes(mutate.case(number)[1])

    def finish(self, batch: Batch) -> int | None:
        """Notes how the worker ended. Returns the case to go on with after a death."""
        assert batch.process.stdout is not None
        code = batch.process.wait()
        batch.process.stdout.close()
        noise = batch.stderr.read_text(errors="replace")
        if code != 0:
            self.outcomes["DIED"] += 1
            self.fail(batch, f"the process ended with {code}; stderr: {noise[-400:]!r}")
            return None if batch.running is None else batch.running[0] + 1
        if noise:
            self.fail(batch, f"something in its batch wrote to stderr: {noise[:400]!r}")
        return None

    def run(self, first: int, end: int, workers: int) -> None:
        waiting = [(n, min(n + BATCH, end)) for n in range(first, end, BATCH)][::-1]
        selector = selectors.DefaultSelector()
        while waiting or selector.get_map():
            while waiting and len(selector.get_map()) < workers:
                low, high = waiting.pop()
                batch = self.start([str(low), "1", str(high)], high)
                assert batch.process.stdout is not None
                selector.register(batch.process.stdout, selectors.EVENT_READ, batch)
            for key, _ in selector.select(timeout=1):
                batch = key.data
                if not self.read(batch):
                    selector.unregister(key.fileobj)
                    rest = self.finish(batch)
                    if rest is not None and rest < batch.end:
                        waiting.append((rest, batch.end))
            for key in selector.get_map().values():
                if time.monotonic() - key.data.last_word > child.PATIENCE_S:
                    self.fail(key.data, f"silent for {child.PATIENCE_S} s")
                    key.data.process.kill()


def test_damaged_models(tmp_path: Path) -> None:
    fuzzer = Fuzzer(tmp_path)
    fuzzer.run(FIRST, FIRST + CASES, workers=max(1, min(4, len(os.sched_getaffinity(0)))))
    summary = ", ".join(f"{name}: {count}" for name, count in fuzzer.outcomes.most_common())
    print(summary)
    assert not fuzzer.failures, "\n".join([*fuzzer.failures, summary])
    assert sum(fuzzer.outcomes.values()) == CASES
    # The damage reaches every depth: some models still run, some fail to load, some to run.
    assert fuzzer.outcomes["ran"] > CASES // 10, summary
    assert fuzzer.outcomes["load: InvalidModel"] > CASES // 10, summary
    assert fuzzer.outcomes["load: BackendError"] == 0, summary  # a damaged model is an invalid one


def test_a_case_is_always_the_same() -> None:
    for number in (0, 17, 300):
        assert mutate.case(number) == mutate.case(number)
    assert len({mutate.case(number)[1] for number in range(200)}) > 190


def test_every_model_is_damaged() -> None:
    done = {mutate.case(number)[0].split(":")[0] for number in range(1500)}
    assert {name for name, _ in mutate.seeds()} - done == set()


@pytest.mark.parametrize("path", sorted(KNOWN.glob("*.onnx")), ids=lambda path: path.stem)
def test_known_files(path: Path, tmp_path: Path) -> None:
    """Files that once ended the process."""
    fuzzer = Fuzzer(tmp_path)
    batch = fuzzer.start([str(path)], 0)
    end = time.monotonic() + child.PATIENCE_S
    while fuzzer.read(batch):
        assert time.monotonic() < end
        time.sleep(0.01)
    fuzzer.finish(batch)
    assert fuzzer.failures == []
