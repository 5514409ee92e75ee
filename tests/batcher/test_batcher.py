"""zl.Batcher on ONNX Runtime: threads and coroutines, forms, errors, deadlines, closing."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests import child
from tests.batcher import models
from tests.models import small

Array = np.ndarray[Any, Any]
SHIFT = np.array(0.5, np.float32)


@pytest.fixture(scope="module")
def rows() -> zl.Session:
    return zl.load(models.rows(), threads=1)


@pytest.fixture(scope="module")
def lookup() -> zl.Session:
    return zl.load(models.lookup(), threads=1)


@pytest.fixture(params=["hold", "release", "auto"])
def batcher(request: pytest.FixtureRequest) -> Iterator[zl.Batcher]:
    """hold: callers run it; release: lanes do."""
    session = zl.load(models.rows(), threads=1, gil=request.param)
    with zl.Batcher(session, max_batch=8, lanes=2) as made:
        yield made
    stats = made.stats()
    assert stats["requests"] == stats["answered"] + stats["late"] + stats["cancelled"]
    assert stats["waiting"] == 0


def x_of(seed: int, count: int | None = None, width: int = 3) -> Array:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((1 + seed % 3 if count is None else count, width), np.float32)


def test_one_call(batcher: zl.Batcher) -> None:
    for seed in range(40):
        x = x_of(seed)
        y = batcher(x, SHIFT)
        assert type(y) is np.ndarray
        np.testing.assert_array_equal(y, x + SHIFT)
        y[...] = 0  # the caller's own
    assert batcher.stats()["answered"] == 40


def test_forms(batcher: zl.Batcher) -> None:
    x = x_of(2)
    np.testing.assert_array_equal(batcher(x, shift=SHIFT), x + SHIFT)
    np.testing.assert_array_equal(batcher(shift=SHIFT, x=x), x + SHIFT)
    named = batcher({"x": x, "shift": SHIFT}, priority=7, deadline_ms=10_000)
    np.testing.assert_array_equal(named["y"], x + SHIFT)
    torch = pytest.importorskip("torch")
    y = batcher(torch.from_numpy(x), SHIFT)
    assert isinstance(y, torch.Tensor)
    np.testing.assert_array_equal(y.numpy(), x + SHIFT)


def test_threads(batcher: zl.Batcher) -> None:
    wrong: list[object] = []

    def work(seed: int) -> None:
        for i in range(100):
            x = x_of(seed + i, width=3 + i % 2)
            shift = np.array(seed % 2, np.float32)
            if not np.array_equal(batcher(x, shift, priority=i % 16 - 8), x + shift):
                wrong.append((seed, i))

    threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


class Lazy:
    """An array that is made when it is asked for, which lets other threads go on meanwhile."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def __array__(self, dtype: object = None, copy: object = None) -> Array:
        time.sleep(0.001)
        return self._array


def test_arguments_that_let_other_threads_run(batcher: zl.Batcher) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        for i in range(20):
            x = x_of(seed + i)
            if not np.array_equal(batcher(Lazy(x), Lazy(np.array(seed, np.float32))), x + seed):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_coroutines(batcher: zl.Batcher) -> None:
    async def client(seed: int) -> None:
        for i in range(60):
            x = x_of(seed + i)
            np.testing.assert_array_equal(await batcher.arun(x, SHIFT), x + SHIFT)
            named = await batcher.arun({"x": x, "shift": SHIFT}, priority=3)
            np.testing.assert_array_equal(named["y"], x + SHIFT)

    async def main() -> None:
        await asyncio.gather(*(client(100 * i) for i in range(16)))

    for _ in range(2):  # two event loops, one after the other
        asyncio.run(main())


def test_large_results_are_views_of_the_run(rows: zl.Session) -> None:
    with zl.Batcher(rows, max_batch=8) as batcher:
        x = x_of(0, 2, 100_000)
        y = batcher(x, SHIFT)
        again = batcher(x + 1, SHIFT)
        np.testing.assert_array_equal(y, x + SHIFT)
        np.testing.assert_array_equal(again, x + 1 + SHIFT)
        assert not np.shares_memory(y, again)


def test_rows_are_joined(rows: zl.Session) -> None:
    """While a run is under way the others wait, and share the next one."""
    with zl.Batcher(rows, max_batch=64) as batcher:

        async def main() -> None:
            for _ in range(30):
                await asyncio.gather(*(batcher.arun(x_of(i, 1), SHIFT) for i in range(32)))

        asyncio.run(main())
        assert batcher.stats()["rows_per_run"] > 1.5


def test_a_bad_request_fails_alone(lookup: zl.Session) -> None:
    with zl.Batcher(lookup, max_batch=16) as batcher:

        async def main() -> list[Any]:
            requests = [batcher.arun(np.array([99 if i == 5 else i % 8])) for i in range(12)]
            return await asyncio.gather(*requests, return_exceptions=True)

        for _ in range(20):
            for i, result in enumerate(asyncio.run(main())):
                if i == 5:
                    assert isinstance(result, zl.InvalidArgument)
                else:
                    np.testing.assert_array_equal(result, [i % 8])
        with pytest.raises(zl.InvalidArgument, match="-99"):
            batcher(np.array([-99]))
        assert batcher.stats()["failed"] == 21


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "text"),
    [
        ((np.zeros((1, 3)), SHIFT), {}, zl.InvalidArgument, "float64"),
        ((np.zeros(3, np.float32), SHIFT), {}, zl.ShapeMismatch, "expected"),
        ((np.zeros((1, 3), np.float32),), {}, zl.InvalidArgument, "'shift'"),
        ((1, 2, 3), {}, zl.InvalidArgument, "3 inputs"),
        ((), {"z": 1}, zl.InvalidArgument, "no input 'z'"),
        ((np.zeros((1, 3), np.float32), SHIFT), {"priority": 9}, zl.InvalidArgument, "-8 to 7"),
        ((np.zeros((1, 3), np.float32), SHIFT), {"priority": "high"}, zl.InvalidArgument, "high"),
        ((np.zeros((1, 3), np.float32), SHIFT), {"deadline_ms": 0}, zl.InvalidArgument, "above"),
    ],
)
def test_bad_arguments(
    batcher: zl.Batcher, args: Any, kwargs: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        batcher(*args, **kwargs)

    async def main() -> None:
        await batcher.arun(*args, **kwargs)

    with pytest.raises(error, match=text):
        asyncio.run(main())
    assert batcher.stats()["requests"] == 0


def test_rows_that_differ() -> None:
    session = zl.load(models.recurrent())
    with zl.Batcher(session) as batcher:
        with pytest.raises(zl.ShapeMismatch, match="2 rows, 'x' has 1"):
            batcher(np.zeros((1, 3), np.float32), np.zeros((2, 2, 3), np.float32))
        with pytest.raises(zl.ShapeMismatch):
            batcher(np.zeros((1, 3), np.float32), np.zeros((2, 1, 4), np.float32))


def test_no_rows(batcher: zl.Batcher) -> None:
    assert batcher(np.zeros((0, 3), np.float32), SHIFT).shape == (0, 3)


def test_more_rows_than_a_batch(batcher: zl.Batcher) -> None:
    x = x_of(0, 31)
    np.testing.assert_array_equal(batcher(x, SHIFT), x + SHIFT)


def test_inputs_in_any_layout(batcher: zl.Batcher) -> None:
    x = x_of(0, 3, 6)
    np.testing.assert_array_equal(batcher(x[:, ::2], SHIFT), x[:, ::2] + SHIFT)
    np.testing.assert_array_equal(batcher(np.asfortranarray(x), SHIFT), x + SHIFT)
    x.flags.writeable = False
    np.testing.assert_array_equal(batcher(x, SHIFT), x + SHIFT)


def test_unnamed_dimensions() -> None:
    with zl.Batcher(zl.load(models.unnamed(), threads=1)) as batcher:

        async def main() -> list[Any]:
            return await asyncio.gather(*(batcher.arun(x_of(i, 1, 4)) for i in range(9)))

        for _ in range(12):
            for i, y in enumerate(asyncio.run(main())):
                np.testing.assert_array_equal(y, 2 * x_of(i, 1, 4))


def test_models_that_cannot_be_joined() -> None:
    for model, text in [
        (small.relu(), "'x' is"),
        (small.sum_and_size(), "'total'"),
        (small.string_normalizer(), "string"),
        (small.sequence_input(), "no input begins"),
    ]:
        with pytest.raises(zl.Unsupported, match=text):
            zl.Batcher(zl.load(model.SerializeToString()))
    # More rows out than in: seen at the first run, and told.
    with zl.Batcher(zl.load(small.doubled_rows().SerializeToString())) as batcher:
        for _ in range(2):
            with pytest.raises(zl.ShapeMismatch, match=r"\[4, 4\] for 2 rows"):
                batcher(np.ones((2, 4), np.float32))


def test_buckets(rows: zl.Session) -> None:
    values = {"x": np.float32(-1)}
    with zl.Batcher(rows, max_batch=16, buckets={"T": (8, 4)}, pad_values=values) as batcher:

        async def main() -> list[Any]:
            requests = [batcher.arun(x_of(i, width=1 + i % 8), SHIFT) for i in range(24)]
            return await asyncio.gather(*requests)

        for _ in range(10):
            for i, y in enumerate(asyncio.run(main())):
                np.testing.assert_array_equal(y, x_of(i, width=1 + i % 8) + SHIFT)
        with pytest.raises(zl.ShapeMismatch, match="greatest bucket is 8"):
            batcher(x_of(0, width=9), SHIFT)
    for buckets in ({"M": (3,)}, {"T": ()}, {"T": (0, 3)}):
        with pytest.raises(zl.InvalidArgument, match="buckets"):
            zl.Batcher(rows, buckets=buckets)
    with pytest.raises(zl.InvalidArgument, match="pad_values"):
        zl.Batcher(rows, pad_values={"z": 1})


def test_deadlines_and_cancelled_tasks(rows: zl.Session) -> None:
    session = zl.load(models.rows(), threads=1, gil="release")
    big = np.zeros((1, 30_000_000), np.float32)
    x = x_of(0, 1)
    with zl.Batcher(session, max_batch=4) as batcher:

        async def main() -> list[Any]:
            slow = asyncio.ensure_future(batcher.arun(big, SHIFT))
            await asyncio.sleep(0)
            late = [batcher.arun(x, SHIFT, deadline_ms=0.01) for _ in range(3)]
            fine = batcher.arun(x, SHIFT)
            dropped = asyncio.ensure_future(batcher.arun(x, SHIFT))
            await asyncio.sleep(0)
            dropped.cancel()
            return await asyncio.gather(slow, *late, fine, dropped, return_exceptions=True)

        results = asyncio.run(main())
        assert results[0].shape == big.shape
        for late in results[1:4]:
            assert isinstance(late, zl.DeadlineExceeded)
        np.testing.assert_array_equal(results[4], x + SHIFT)
        assert isinstance(results[5], asyncio.CancelledError)
        assert batcher.stats()["late"] == 3


def test_cancelled_tasks_leave_the_queue() -> None:
    session = zl.load(models.rows(), threads=1, gil="release")
    big = np.zeros((1, 30_000_000), np.float32)
    x = x_of(0, 1)

    async def main(batcher: zl.Batcher) -> list[Any]:
        slow = asyncio.ensure_future(batcher.arun(big, SHIFT))
        while batcher.stats()["waiting"] or not batcher.stats()["requests"]:
            await asyncio.sleep(0)
        waiting = [asyncio.ensure_future(batcher.arun(x, SHIFT)) for _ in range(9)]
        while batcher.stats()["waiting"] < 9:
            await asyncio.sleep(0)
        for task in waiting[2:]:
            task.cancel()
        return await asyncio.gather(slow, *waiting, return_exceptions=True)

    with zl.Batcher(session, max_batch=1) as batcher:
        results = asyncio.run(main(batcher))
        for y in results[1:3]:
            np.testing.assert_array_equal(y, x + SHIFT)
        assert all(isinstance(r, asyncio.CancelledError) for r in results[3:])
        stats = batcher.stats()
        assert (stats["requests"], stats["answered"], stats["cancelled"]) == (10, 3, 7)


@pytest.mark.parametrize("copy", [False, True])
def test_results_are_views_or_copies(copy: bool) -> None:
    session = zl.load(models.rows(), threads=1)
    x = x_of(0, 1, 10_000)  # 40 kB a row
    with zl.Batcher(session, copy=copy) as batcher:
        y = batcher(x, SHIFT)
    np.testing.assert_array_equal(y, x + SHIFT)
    assert y.flags.owndata == copy


def test_a_full_queue() -> None:
    session = zl.load(models.rows(), threads=1, gil="release")
    x = x_of(0, 1)
    with zl.Batcher(session, max_queue=2) as batcher:

        async def main() -> list[Any]:
            requests = [batcher.arun(x, SHIFT) for _ in range(50)]
            return await asyncio.gather(*requests, return_exceptions=True)

        results = asyncio.run(main())
        refused = [r for r in results if isinstance(r, zl.Unavailable)]
        assert len(refused) == batcher.stats()["refused"] > 0
        assert "max_queue" in str(refused[0])
        assert len(refused) + batcher.stats()["answered"] == 50
        np.testing.assert_array_equal(batcher(x, SHIFT), x + SHIFT)


def test_closing(rows: zl.Session) -> None:
    batcher = zl.Batcher(rows)
    x = x_of(0)
    batcher(x, SHIFT)
    batcher.close()
    batcher.close(cancel=True)
    with pytest.raises(zl.Unavailable, match="closed"):
        batcher(x, SHIFT)

    async def main() -> None:
        with pytest.raises(zl.Unavailable, match="closed"):
            await batcher.arun(x, SHIFT)

    asyncio.run(main())


def test_closing_with_coroutines_waiting(rows: zl.Session) -> None:
    session = zl.load(models.rows(), threads=1, gil="release")

    async def main(cancel: bool) -> list[Any]:
        batcher = zl.Batcher(session, max_batch=1)
        big = np.zeros((1, 10_000_000), np.float32)
        waiting = [asyncio.ensure_future(batcher.arun(big, SHIFT)) for _ in range(4)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.to_thread(batcher.close, cancel=cancel)
        return await asyncio.gather(*waiting, return_exceptions=True)

    for y in asyncio.run(main(False)):
        assert y.shape == (1, 10_000_000)
    ended = asyncio.run(main(True))
    assert any(isinstance(y, zl.Cancelled) for y in ended)
    assert all(isinstance(y, zl.Cancelled | np.ndarray) for y in ended)


def test_inputs_are_let_go(rows: zl.Session) -> None:
    batcher = zl.Batcher(rows)
    x = x_of(0)
    held = weakref.ref(x)

    async def main(batcher: zl.Batcher, x: Array) -> None:
        await batcher.arun(x, SHIFT)

    batcher(x, SHIFT)
    asyncio.run(main(batcher, x))
    del x
    assert held() is None
    gone = weakref.ref(batcher)
    del batcher
    gc.collect()
    assert gone() is None


def test_dropped_while_a_coroutine_waits() -> None:
    """A request keeps its batcher."""
    session = zl.load(models.rows(), threads=1, gil="release")

    async def main() -> Any:
        request = zl.Batcher(session).arun(x_of(0), SHIFT)
        gc.collect()
        return await request

    np.testing.assert_array_equal(asyncio.run(main()), x_of(0) + SHIFT)


def test_outside_of_a_loop(rows: zl.Session) -> None:
    with zl.Batcher(rows) as batcher, pytest.raises(RuntimeError, match="no running event loop"):
        batcher.arun(x_of(0), SHIFT)


@pytest.mark.parametrize(
    "options",
    [
        {"max_batch": 0},
        {"max_batch": "many"},
        {"max_delay_ms": -1},
        {"max_delay_ms": float("nan")},
        {"max_queue": 0},
        {"lanes": 0},
        {"lanes": 1000},
        {"spin_us": -1},
    ],
)
def test_bad_options(rows: zl.Session, options: dict[str, Any]) -> None:
    with pytest.raises(zl.InvalidArgument, match=next(iter(options))):
        zl.Batcher(rows, **options)
    with pytest.raises(zl.InvalidArgument, match=r"zl\.load"):
        zl.Batcher("model.onnx")  # type: ignore[arg-type]


def test_exit_with_requests_waiting() -> None:
    child.run(
        """
        import asyncio, threading
        import numpy as np, zerolane as zl
        from tests.batcher import models
        session = zl.load(models.rows(), threads=1, gil="release")
        batcher = zl.Batcher(session)
        x, shift = np.zeros((1, 5_000_000), np.float32), np.float32(1)
        for _ in range(4):
            threading.Thread(target=batcher, args=(x, shift), daemon=True).start()

        async def main():
            for _ in range(4):
                batcher.arun(x, shift)
            await asyncio.sleep(0)

        asyncio.run(main())
        """
    )


def test_forked_child() -> None:
    child.run(
        """
        import os
        import numpy as np, zerolane as zl
        from tests.batcher import models
        batcher = zl.Batcher(zl.load(models.rows(), threads=1))
        x, shift = np.zeros((1, 3), np.float32), np.float32(1)
        batcher(x, shift)
        pid = os.fork()
        if pid == 0:
            try:
                batcher(x, shift)
            except zl.Unavailable as error:
                assert "forked" in str(error)
                os._exit(0)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        batcher(x, shift)
        """
    )
