"""Mailboxes: the newest value of a tensor in shared memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zerolane import _native
from zerolane.errors import DeadlineExceeded, InvalidArgument


class Reading(tuple[Any, float]):
    """What a read returns: `value, age_ms = box.read()`.

    value: the array. age_ms: milliseconds since the data it was made from was written.
    sequence: number of the message, from 1. new: this object had not read it before.
    safe: a loop's safe output, not a result.
    """

    sequence: int
    new: bool
    safe: bool

    def __new__(cls, value: Any, age_ms: float, sequence: int, new: bool, safe: bool) -> Reading:
        self = tuple.__new__(cls, (value, age_ms))
        self.sequence, self.new, self.safe = sequence, new, safe
        return self

    def __getnewargs__(self) -> tuple[Any, float, int, bool, bool]:
        return (self.value, self.age_ms, self.sequence, self.new, self.safe)

    @property
    def value(self) -> Any:
        return self[0]

    @property
    def age_ms(self) -> float:
        return self[1]

    def __repr__(self) -> str:
        return (
            f"Reading({self.value!r}, age_ms={self.age_ms:.3f}, sequence={self.sequence}, "
            f"new={self.new}, safe={self.safe})"
        )


class Mailbox:
    """The newest value of one tensor: one writer, any readers, in this process or another.

    The latest message wins; nobody waits for anybody, and a writer that dies in the middle of a
    message leaves the one before it. An object remembers what it has read, so give each reader its
    own (`open`, `another`). A named mailbox is there for other processes of the same user until its
    maker is gone; `close` is letting go of the object.
    """

    _end: _native.Mailbox

    def __init__(self) -> None:
        raise TypeError("zl.Mailbox objects are made by Mailbox.create, Mailbox.open and zl.Loop")

    @classmethod
    def _over(cls, native: _native.Mailbox) -> Mailbox:
        self = cls.__new__(cls)
        self._end = native
        return self

    @classmethod
    def create(cls, name: str | None, shape: Sequence[int], dtype: Any = "float32") -> Mailbox:
        """Make one. name: for other processes to open, None for this process and its children."""
        if name is not None and not name:
            raise InvalidArgument(
                "making a mailbox: its name is '', expected one character or more; give a name, or "
                "None where no other process opens it",
                "name",
            )
        sizes = [int(size) for size in shape]
        return cls._over(_native.Mailbox.make(name or "", _dtype_name(dtype), sizes))

    @classmethod
    def open(cls, name: str) -> Mailbox:
        """Open one that a process of this user has made: a loop's is "LOOP/TENSOR"."""
        return cls._over(_native.Mailbox.open(name))

    def another(self) -> Mailbox:
        """The same mailbox for another reader."""
        return self._over(self._end.another())

    @property
    def name(self) -> str | None:
        return self._end.name or None

    @property
    def shape(self) -> tuple[int, ...]:
        return self._end.shape

    @property
    def dtype(self) -> str:
        """The element type by NumPy's name."""
        return self._end.dtype

    @property
    def latest(self) -> int:
        """Number of the newest message, 0 before the first."""
        return self._end.latest

    @property
    def stale_reads(self) -> int:
        """How many reads by this object found the message of the read before."""
        return self._end.stale_reads

    @property
    def orphaned(self) -> bool:
        """Whether the process that made it is gone, so that its readers should open a new one."""
        return self._end.orphaned

    def write(self, array: Any) -> int:
        """Write a message and return its number. Copies; the array's dtype and shape must fit.

        The first write makes this object the one writer, until it goes.
        """
        return self._end.write(array)

    def read(self, out: Any = None, *, timeout_s: float = 1.0) -> Reading:
        """The newest message, also if it was read before. Blocks only until the first ever.

        out: an array to copy it into, and to return. timeout_s: how long to wait for the first
        message; then DeadlineExceeded.
        """
        found = self._end.read(out)
        if found is None:
            self._end.wait(0, timeout_s)
            found = self._end.read(out)
        if found is None:
            raise DeadlineExceeded(
                f"reading {self!r}: nothing was written within {timeout_s} s, expected a first "
                "message; see that its writer runs, and that a loop's inputs are all written",
                self.name or "",
            )
        return Reading(*found)

    def wait(self, after: int, timeout_s: float | None = None) -> bool:
        """Block until there is a message with a number above `after`; False when time is over."""
        return self._end.wait(after, 1e9 if timeout_s is None else timeout_s)

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        return f"<Mailbox{name} {self.dtype}{list(self.shape)}>"


def _dtype_name(dtype: Any) -> str:
    if isinstance(dtype, str):
        return dtype
    try:
        return str(np.dtype(dtype).name)
    except TypeError:
        raise InvalidArgument(
            f"making a mailbox: dtype is {dtype!r}, expected an element type; use NumPy's names, "
            "such as 'float32'",
            "dtype",
        ) from None
