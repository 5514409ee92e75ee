"""Samples of a model's inputs, for calibration, verification and search: one form for all passes.

A sample is one run: an array for each input, batched as the model takes it. What is given may be
an array (one sample of a model with one input), a dict of arrays by input name (one sample), a
sequence or an iterator of those, an .npy or .npz file (one sample), or a folder of such files,
which are taken in the order of their names and read anew on each pass, so that they need not fit
into memory together. Arrays in an .npz that are named like no input (labels, say) are passed over.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zerolane._arrays import usable
from zerolane.errors import InvalidArgument, NotFound, ShapeMismatch

if TYPE_CHECKING:
    from zerolane.types import TensorSpec

Sample = Mapping[str, Any]
Samples = Any  # array | Sample | Iterable[array | Sample] | str | os.PathLike[str] | SampleSet
Arrays = dict[str, NDArray[Any]]

_KINDS = (".npy", ".npz")


class SampleSet:
    """Checked samples: has a length and may be gone through again and again.

    Each sample comes as a dict of row-major NumPy arrays that the model takes as they are.
    """

    def __init__(
        self, rows: Sequence[Any], specs: Mapping[str, TensorSpec], required: int, finite: bool
    ) -> None:
        self._rows = rows
        self._specs = specs
        self._required = [*specs][:required]
        self._finite = finite

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Arrays]:
        for index in range(len(self._rows)):
            yield self[index]

    def __getitem__(self, index: int) -> Arrays:
        row = self._rows[index]
        if isinstance(row, Path):
            return self._checked(_read(row, self._specs, self._required), f"sample {row.name}")
        return self._checked(row, f"sample {index}")

    def _checked(self, row: object, which: str) -> Arrays:
        if not isinstance(row, Mapping):
            row = {self._only(row, which): row}
        for name in row:
            if name not in self._specs:
                raise InvalidArgument(
                    f"reading {which}: it has a value for {name!r}, the model's inputs are "
                    f"{[*self._specs]}; check the name",
                    str(name),
                )
        for name in self._required:
            if name not in row:
                raise InvalidArgument(
                    f"reading {which}: it has values for {[*row]}, the model needs one for "
                    f"{name!r} too; add it",
                    name,
                )
        sizes: dict[str, tuple[str, int]] = {}
        arrays = {
            name: self._array(value, self._specs[name], f"{which}, input {name!r}", sizes)
            for name, value in row.items()
        }
        if arrays and not any(array.size for array in arrays.values()):
            shapes = ", ".join(f"{name!r} {list(a.shape)}" for name, a in arrays.items())
            raise InvalidArgument(
                f"reading {which}: it has no values ({shapes}), expected some; leave it out",
                which,
            )
        return arrays

    def _only(self, row: object, which: str) -> str:
        if len(self._required) == 1:
            return self._required[0]
        raise InvalidArgument(
            f"reading {which}: a {type(row).__name__} was given, the model needs values for "
            f"{self._required}; give a dict of arrays by input name",
            which,
        )

    def _array(
        self, value: object, spec: TensorSpec, what: str, sizes: dict[str, tuple[str, int]]
    ) -> NDArray[Any]:
        if not spec.type.startswith("tensor("):
            raise InvalidArgument(
                f"reading {what}: it is a {spec.type} in the model, samples are made of tensors "
                "only; cut the model behind it",
                spec.name,
            )
        if spec.dtype == "string":
            array = np.asarray(value, dtype=object)
        else:
            array = usable(value, spec.dtype, True, False, what, spec.name)
            if array.dtype.name != spec.dtype:
                raise InvalidArgument(
                    f"reading {what}: its dtype is {array.dtype.name}, expected {spec.dtype}; give "
                    f"x.astype({spec.dtype!r}), with the scaling that the model was trained with",
                    spec.name,
                )
        _fit(array.shape, spec, what, sizes)
        if self._finite and array.dtype.kind in "fcV":
            wrong = array.size - int(np.count_nonzero(np.isfinite(array)))
            if wrong:
                raise InvalidArgument(
                    f"reading {what}: {wrong:,} of {array.size:,} values are NaN or infinite, "
                    "expected finite ones; leave the sample out or repair it",
                    spec.name,
                )
        return array


def read_samples(
    samples: Samples,
    inputs: Sequence[TensorSpec],
    optional_inputs: Sequence[TensorSpec] = (),
    *,
    doing: str = "reading samples",
    finite: bool = True,
) -> SampleSet:
    """The samples, with the first one checked; the others are checked when they are reached.

    samples: see the top of this module. Those of an iterator are kept in memory.
    inputs, optional_inputs: of the model, as a `zl.Session` has them.
    doing: begins the message of an error.
    finite: refuse NaN and infinities.
    Names, dtypes, ranks and shapes must fit the model, and dimensions of one name must agree.
    Raises InvalidArgument, ShapeMismatch, NotFound.
    """
    if isinstance(samples, SampleSet):
        return samples
    rows = _rows(samples, doing)
    if not rows:
        raise InvalidArgument(
            f"{doing}: no sample was given, expected at least one; give real inputs of the model",
            "samples",
        )
    specs = {spec.name: spec for spec in (*inputs, *optional_inputs)}
    made = SampleSet(rows, specs, len(inputs), finite)
    made[0]
    return made


def _rows(samples: object, doing: str) -> Sequence[Any]:
    if isinstance(samples, str | os.PathLike):
        return _files(Path(os.fspath(samples)), doing)
    if isinstance(samples, Mapping) or _is_array(samples):
        return [samples]
    if isinstance(samples, Iterable) and not isinstance(samples, bytes | bytearray):
        return samples if isinstance(samples, list | tuple) else [*samples]
    raise InvalidArgument(
        f"{doing}: samples are a {type(samples).__name__}, expected an array, a dict of arrays, "
        "several of those, or the path of an .npy, an .npz or a folder of them; give one of these",
        "samples",
    )


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray | np.generic) or hasattr(value, "__dlpack__")


def _files(path: Path, doing: str) -> Sequence[Path]:
    if path.is_dir():
        found = sorted(f for f in path.iterdir() if f.suffix.lower() in _KINDS and f.is_file())
        if not found:
            raise InvalidArgument(
                f"{doing}: there is no .npy and no .npz in the folder {str(path)!r}, expected one "
                "file a sample; np.savez writes such files",
                str(path),
            )
        return found
    if not path.is_file():
        raise NotFound(
            f"{doing}: there is nothing at {str(path)!r} (in {os.getcwd()!r}), expected an .npy, "
            "an .npz or a folder of them; check the path",
            str(path),
        )
    if path.suffix.lower() not in _KINDS:
        raise InvalidArgument(
            f"{doing}: {path.name!r} is no .npy and no .npz; write it with np.savez", str(path)
        )
    return [path]


def _read(path: Path, specs: Mapping[str, TensorSpec], required: Sequence[str]) -> object:
    try:
        with path.open("rb") as opened:  # np.load leaves open what it cannot read
            file = np.load(opened, allow_pickle=False)
            if isinstance(file, np.ndarray):
                return file
            names = [name for name in file.files if name in specs]
            if not names and len(file.files) == 1 and len(required) == 1:
                return file[file.files[0]]
            found = {name: file[name] for name in names}
            missing = [name for name in required if name not in found]
            if missing:
                raise InvalidArgument(
                    f"reading sample {path.name}: its arrays are {file.files}, the model needs "
                    f"{missing[0]!r}; name the arrays like the inputs {[*specs]}",
                    missing[0],
                )
            return found
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(
            f"reading sample {str(path)!r}: it cannot be read ({type(error).__name__}: {error}), "
            "expected what np.save or np.savez writes; write it again",
            str(path),
        ) from error


def _fit(
    shape: tuple[int, ...], spec: TensorSpec, what: str, sizes: dict[str, tuple[str, int]]
) -> None:
    """Raises ShapeMismatch; `sizes` gathers what named dimensions are in this sample."""
    if spec.shape is None:
        return
    fits = len(shape) == len(spec.shape) and all(
        not isinstance(want, int) or want == got
        for want, got in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        wanted = ["?" if d is None else d for d in spec.shape]
        advice = "give arrays of that shape"
        if len(shape) == len(spec.shape) - 1:
            advice = "add the batch axis: x[None]"
        elif len(shape) == len(spec.shape) and spec.shape[0] == 1 and shape[0] > 1:
            advice = "give one sample a run: list(x[:, None])"
        raise ShapeMismatch(
            f"reading {what}: its shape is {[*shape]}, expected {wanted}; {advice}", spec.name
        )
    for want, got in zip(spec.shape, shape, strict=True):
        if isinstance(want, str):
            name, size = sizes.setdefault(want, (spec.name, got))
            if size != got:
                raise ShapeMismatch(
                    f"reading {what}: its dimension {want!r} is {got}, in {name!r} it is {size}; "
                    "give arrays that agree",
                    spec.name,
                )
