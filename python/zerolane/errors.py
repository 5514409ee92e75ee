"""The exceptions of zerolane.

Every one is a `zerolane.Error` with two attributes: `code` (a short name, equal for equal failures)
and `subject` (the tensor, option, file or library it is about, or ""). Each also derives from the
built-in exception that fits, so `except ValueError` and the like keep working. Messages have three
parts: what was being done, what was found against what was expected, what to do.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar


class Error(Exception):
    """Base of all errors that zerolane raises on purpose."""

    code: ClassVar[str] = "internal"
    subject: str

    def __init__(self, message: str, subject: str = "") -> None:
        super().__init__(message)
        self.subject = subject

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.subject)


class InvalidArgument(Error, ValueError):
    """A name, dtype, option or value does not fit."""

    code = "invalid_argument"


class ShapeMismatch(InvalidArgument):
    """A rank or a dimension does not fit."""

    code = "shape_mismatch"


class Unsupported(Error, NotImplementedError):
    """A valid request that this backend, release or platform cannot do."""

    code = "unsupported"


class NotFound(Error, FileNotFoundError):
    """A file or folder is not there or cannot be read."""

    code = "not_found"

    def __str__(self) -> str:
        return str(self.args[0])


class Unavailable(Error, ImportError):
    """A library, provider or service is missing, too old or not usable here."""

    code = "unavailable"


class OutOfMemory(Error, MemoryError):
    """Host or device memory ran out."""

    code = "out_of_memory"


class DeadlineExceeded(Error, TimeoutError):
    """The deadline passed before the work was done."""

    code = "deadline_exceeded"

    def __str__(self) -> str:
        return str(self.args[0])


class Cancelled(Error, RuntimeError):
    """The work was cancelled by the caller."""

    code = "cancelled"


class InvalidModel(Error, ValueError):
    """The model file is damaged, not a model, or not valid."""

    code = "invalid_model"


class BackendError(Error, RuntimeError):
    """The vendor library failed."""

    code = "backend"


class BackendCrashed(BackendError):
    """The vendor library crashed, in a process of its own; this one is unharmed."""

    code = "backend_crashed"


class ContractBroken(Error, RuntimeError):
    """A `zl.Contract` was not kept while warming up: measured_ms was found, promised_ms said."""

    code = "contract_broken"
    measured_ms: float
    promised_ms: float

    def __init__(
        self, message: str, subject: str = "", *, measured_ms: float = 0, promised_ms: float = 0
    ) -> None:
        super().__init__(message, subject)
        self.measured_ms = measured_ms
        self.promised_ms = promised_ms

    def __reduce__(self) -> tuple[Any, ...]:
        return (*super().__reduce__(), vars(self))


class DeviceError(Error, RuntimeError):
    """A device or its memory cannot be used as asked."""

    code = "device"


class InternalError(Error, RuntimeError):
    """A fault of zerolane itself; please report it."""

    code = "internal"


_BY_CODE: dict[str, type[Error]] = {
    cls.code: cls
    for cls in (
        InvalidArgument,
        ShapeMismatch,
        Unsupported,
        NotFound,
        Unavailable,
        OutOfMemory,
        DeadlineExceeded,
        Cancelled,
        InvalidModel,
        BackendError,
        BackendCrashed,
        ContractBroken,
        DeviceError,
        InternalError,
    )
}


def from_native(code: str, message: str, subject: str) -> Error:
    """The exception for an error of the native core."""
    return _BY_CODE.get(code, InternalError)(message, subject)
