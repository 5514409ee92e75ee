"""The slow half of array conversion: what the native fast path does not take as it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zerolane.errors import InvalidArgument, OutOfMemory, Unsupported

_EXTENSION_TYPES = frozenset(
    {
        "bfloat16",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
    }
)
_PACKED = frozenset({"int4", "uint4", "int2", "uint2", "float4_e2m1fn"})


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of an element type; `ml_dtypes` brings those that NumPy lacks."""
    if name in _PACKED:
        raise Unsupported(
            f"making an array: NumPy has no packed {name} array; "
            "cast to int8 or float32 inside the model",
            name,
        )
    if name in _EXTENSION_TYPES:
        try:
            import ml_dtypes
        except ImportError:
            raise Unsupported(
                f"making an array: NumPy has no {name}; pip install ml_dtypes, "
                "or pass torch tensors, which have it",
                name,
            ) from None
        extension: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return extension
    return np.dtype(name)


def dtype_of_typestr(typestr: str, what: str, subject: str) -> str:
    """The name of an array interface's element type, of native byte order."""
    dtype = np.dtype(typestr)
    if not dtype.isnative:
        raise InvalidArgument(
            f"reading {what}: the array's dtype is {typestr}, which is byte-swapped; convert it",
            subject,
        )
    return dtype.name


def usable(
    x: object, dtype: str, copy: bool, writable: bool, what: str, subject: str
) -> np.ndarray[Any, Any]:
    """A row-major, aligned array of native byte order over `x`, or with its values if `copy`.

    Python scalars, lists and buffers become arrays of `dtype`; an array keeps its own.
    """
    if type(x).__module__.startswith("numpy.ma"):
        raise Unsupported(
            f"reading {what}: a masked array was given, and the mask would be lost; "
            "give .filled(value)",
            subject,
        )
    is_array = isinstance(x, np.ndarray)
    if hasattr(x, "__dlpack__") and not is_array and not isinstance(x, np.generic):
        try:
            array = np.from_dlpack(x)
        except (RuntimeError, BufferError, TypeError, ValueError) as error:
            raise InvalidArgument(
                f"reading {what}: its memory cannot be used as it is ({error}); "
                "give a dense row-major array (for torch: .contiguous())",
                subject,
            ) from error
    elif is_array:
        array = np.asarray(x)
    else:
        array = _from_python(x, dtype, what, subject) if copy else _from_buffer(x, what, subject)
    plain = array.dtype.kind not in "SUOVMm" or array.dtype.name in _EXTENSION_TYPES
    if array.dtype.hasobject or not plain:
        raise InvalidArgument(
            f"reading {what}: the array's dtype is {array.dtype}, expected {dtype}; convert it",
            subject,
        )
    if array.ndim > 32:
        raise Unsupported(
            f"reading {what}: its rank is {array.ndim}, at most 32 is supported; merge dimensions",
            subject,
        )
    faults = []
    if not array.flags.c_contiguous:
        faults.append("not row-major contiguous")
    if not array.flags.aligned:
        faults.append("misaligned")
    if not array.dtype.isnative:
        faults.append("byte-swapped")
    if writable and not array.flags.writeable:
        faults.append("read-only")
    if not faults:
        return np.asarray(array)
    if writable or not copy:
        raise InvalidArgument(
            f"binding {what}: the array is {' and '.join(faults)}, and it was to be used in place; "
            "give np.ascontiguousarray(x)" + (", writable" if writable else ""),
            subject,
        )
    try:
        return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", subok=False)
    except MemoryError as error:
        raise OutOfMemory(
            f"copying {what}: its {array.nbytes} bytes could not be had ({error}); "
            "give a row-major array, which is not copied",
            subject,
        ) from error


def _from_buffer(x: object, what: str, subject: str) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(memoryview(x))  # type: ignore[arg-type]
    except (TypeError, ValueError, NotImplementedError, BufferError) as error:
        raise InvalidArgument(
            f"binding {what}: a {type(x).__name__} was given, memory to use in place is needed; "
            "give an array",
            subject,
        ) from error


def _from_python(x: object, dtype: str, what: str, subject: str) -> np.ndarray[Any, Any]:
    wanted = numpy_dtype(dtype)
    try:
        given = np.asarray(x)
        if given.dtype.hasobject:
            raise TypeError(f"a {type(x).__name__} has no plain array form")
        if not isinstance(x, np.generic) and given.dtype != wanted:
            # Python numbers have no width of their own: they take the model's, if nothing is lost.
            if not np.can_cast(given.dtype, wanted, "same_kind") and not (
                given.dtype.kind in "iu" and wanted.kind in "iufc"
            ):
                raise TypeError(f"values of kind {given.dtype} do not fit")
            cast = given.astype(wanted)
            if given.dtype.kind in "iu" and not np.array_equal(cast, given):
                raise OverflowError("a value does not fit")
            given = cast
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgument(
            f"reading {what}: a {type(x).__name__} was given ({error}), expected an array of "
            f"{dtype}; give np.asarray(x, dtype={dtype!r})",
            subject,
        ) from error
    return given


def split_strings(x: object, what: str, subject: str) -> tuple[list[int], list[bytes]]:
    """Shape and UTF-8 items of a str, bytes or object array, or of nested lists of str."""
    # Lists as objects: NumPy's own string dtype drops NUL characters at the end.
    array = np.asarray(x, dtype=None if hasattr(x, "dtype") else object)
    if array.dtype.kind not in "USOT" and array.size > 0:
        raise InvalidArgument(
            f"reading {what}: dtype is {array.dtype}, expected strings; "
            "give an array of str or a list of str",
            subject,
        )
    items: list[bytes] = []
    for item in array.ravel().tolist():
        if isinstance(item, str):
            try:
                items.append(item.encode("utf-8", "surrogateescape"))
            except UnicodeEncodeError as error:
                raise InvalidArgument(
                    f"reading {what}: {item!r:.60} has no UTF-8 form ({error.reason}), "
                    "expected text; replace its lone surrogates",
                    subject,
                ) from error
        elif isinstance(item, bytes):
            items.append(item)
        else:
            raise InvalidArgument(
                f"reading {what}: an element is a {type(item).__name__}, expected str; "
                "convert the elements",
                subject,
            )
    return list(array.shape), items


def string_array(items: list[str], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Strings as an object array, the form in which results come too."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)


def split_map(
    x: object, dtype: str, type_text: str, what: str, subject: str
) -> tuple[Sequence[Any], object, object]:
    """Keys, values and the first key of a dict."""
    if not isinstance(x, dict):
        raise InvalidArgument(
            f"reading {what}: a {type(x).__name__} was given, the model has a {type_text}; "
            "give a dict",
            subject,
        )
    text_keys = "map(string" in type_text
    wrong = [key for key in x if isinstance(key, str) != text_keys]
    if wrong:
        raise InvalidArgument(
            f"reading {what}: key {wrong[0]!r} does not fit {type_text}; convert the keys", subject
        )
    keys = [k.encode() if isinstance(k, str) else int(k) for k in x]
    values: object = list(x.values())
    if dtype != "string":
        for value in x.values():
            if not isinstance(value, int | float | np.generic):
                raise InvalidArgument(
                    f"reading {what}: a value is {value!r:.60}, the model has a {type_text}; "
                    "give numbers",
                    subject,
                )
        values = np.asarray(values, dtype=numpy_dtype(dtype))
    return keys, values, "" if text_keys else 0


def join_map(keys: Sequence[Any], values: Any) -> dict[Any, Any]:
    """A dict of plain Python values from keys and an array with an element a key."""
    return dict(zip(keys, values.tolist(), strict=True))


def array_maker(kind: type) -> Callable[[Any], object] | None:
    """What turns a native tensor into the kind of array that `kind` is; None for NumPy."""
    package = kind.__module__.partition(".")[0]
    if package == "torch":
        torch = sys.modules["torch"]
        return torch.from_dlpack  # type: ignore[no-any-return]
    if package in ("jax", "jaxlib"):
        import jax.dlpack

        return jax.dlpack.from_dlpack  # type: ignore[no-any-return]
    if package == "cupy":
        return sys.modules["cupy"].from_dlpack  # type: ignore[no-any-return]
    return None
