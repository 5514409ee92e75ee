"""Buffers that notice what is read or written beside them."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

from zerolane.ops.testing.case import Array

_PAGE = mmap.PAGESIZE
_FENCE = 16 * _PAGE  # how far beside a buffer is still seen
_CANARY = 0xC3
_NONE, _READ, _READ_WRITE = 0, 1, 3  # PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE


class Fenced:
    """An array between two fences, at its end or at the start of whole pages.

    guard: the fences are pages that nobody can touch: the process ends with SIGSEGV. Otherwise they
    are known bytes, and so is in both cases the rest of the pages.
    """

    def __init__(
        self, dtype: np.dtype[Any], shape: Sequence[int], *, at_end: bool, guard: bool = False
    ) -> None:
        bytes_ = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        pages = max(1, -(-bytes_ // _PAGE))
        self._inner = pages * _PAGE
        # Not closed by hand: arrays over it may be alive.
        self._map = mmap.mmap(-1, self._inner + 2 * _FENCE)
        self._whole = np.frombuffer(self._map, np.uint8)
        self._start = _FENCE + (self._inner - bytes_ if at_end else 0)
        self._bytes = bytes_
        self._guard = guard
        self._whole[:] = _CANARY
        raw = self._whole[self._start : self._start + bytes_]
        self.array: Array = raw.view(dtype).reshape(tuple(shape))
        if guard:
            self._protect(0, _FENCE, _NONE)
            self._protect(_FENCE + self._inner, _FENCE, _NONE)

    def fill(self, byte: int) -> None:
        """Every byte of the array."""
        self._whole[self._start : self._start + self._bytes] = byte

    def read_only(self) -> None:
        """From now on the process ends with SIGSEGV when something is written to the pages."""
        self._protect(_FENCE, self._inner, _READ)

    def damage(self) -> int | None:
        """The element beside the array that was written to, from its start; None: none was."""
        outside = self._whole != _CANARY if not self._guard else np.zeros(len(self._whole), bool)
        if self._guard:
            inner = slice(_FENCE, _FENCE + self._inner)
            outside[inner] = self._whole[inner] != _CANARY
        outside[self._start : self._start + self._bytes] = False
        if not outside.any():
            return None
        places = np.flatnonzero(outside) - self._start
        behind = places[places >= 0]  # what lies behind comes first: that is the usual mistake
        return int(behind[0] if len(behind) else places[-1]) // max(self.array.dtype.itemsize, 1)

    def _protect(self, offset: int, count: int, rights: int) -> None:
        address = self._whole.ctypes.data + offset
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        if protect(ctypes.c_void_p(address), ctypes.c_size_t(count), rights) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
