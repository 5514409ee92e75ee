"""Native objects whose __init__ never ran fail with a Python error, not a crash."""

from __future__ import annotations

import pytest

from tests import child

USES = [
    ("Session", "bare([1.0])"),
    ("Session", "bare.run({})"),
    ("Session", "bare.bind()"),
    ("Session", "bare.submit(1)"),
    ("Session", "bare.name"),
    ("Session", "bare.latency()"),
    ("Pipeline", "bare([1.0])"),
    ("Pipeline", "bare.stats()"),
    ("Lanes", "bare.submit(1)"),
    ("Lanes", "bare.stats()"),
    ("Lanes", "bare.close()"),
    ("Batcher", "bare([1.0])"),
    ("Batcher", "bare.arun([1.0])"),
    ("Batcher", "bare.stats()"),
    ("Batcher", "bare.close()"),
    ("Contract", "bare()"),
    ("Contract", "bare.stats()"),
    ("Loop", "bare.stats()"),
    ("Loop", "bare.close()"),
    ("Mailbox", "bare.read()"),
    ("Binding", "bare()"),
    ("Binding", "bare.run()"),
    ("Binding", "bare.inputs"),
    ("Binding", "bare.gil"),
    ("Binding", "bare.cancel()"),
    ("Future", "bare.result()"),
    ("Future", "bare.cancel()"),
    ("Future", "bare.done()"),
]


@pytest.mark.parametrize(("kind", "use"), USES)
def test_a_bare_object_raises(kind: str, use: str) -> None:
    code = f"""
    import zerolane as zl
    try:
        bare = zl.{kind}.__new__(zl.{kind})
        {use}
    except (TypeError, AttributeError, ValueError, RuntimeError) as error:
        print("raised", type(error).__name__)
    """
    assert child.run(code).startswith("raised")


@pytest.mark.parametrize("kind", ["Binding", "Future"])
def test_it_cannot_be_made_by_calling_its_type(kind: str) -> None:
    code = f"""
    import zerolane as zl
    try:
        zl.{kind}()
    except TypeError as error:
        print("raised")
    """
    assert child.run(code) == "raised\n"
