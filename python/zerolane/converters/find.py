"""Which framework a source belongs to."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from zerolane.converters.origin import Origin
from zerolane.errors import InvalidArgument, NotFound

_KNOWN = (
    "a torch.nn.Module, an ExportedProgram or a .pt2 file, a scikit-learn estimator, a keras.Model "
    "or its .keras or .h5 file, the folder of a SavedModel, a .tflite file"
)


def find(source: Any, sample: Any) -> tuple[Origin, str, str]:
    """The adapter, the source's name, and the beginning of messages about it.

    A framework that is not imported yet cannot have made an object, so none is imported to find out
    that an object is not its own.
    """
    if isinstance(source, str | os.PathLike):
        return _find_path(Path(os.fspath(source)), sample)
    name = type(source).__name__
    doing = f"converting a {name}"
    torch, sklearn, keras = (sys.modules.get(m) for m in ("torch", "sklearn.base", "keras"))
    if torch is not None and isinstance(source, torch.nn.Module | torch.export.ExportedProgram):
        from zerolane.converters.pytorch import PyTorch

        return PyTorch(source, sample, doing), name, doing
    if keras is not None and isinstance(source, keras.Model):
        from zerolane.converters.tensorflow import Keras

        return Keras(source, sample, doing), name, doing
    if sklearn is not None and isinstance(source, sklearn.BaseEstimator):
        from zerolane.converters.scikit import ScikitLearn

        return ScikitLearn(source, sample, doing), name, doing
    raise InvalidArgument(
        f"converting a model: a {type(source).__module__}.{name} was given, expected {_KNOWN}; "
        "convert it with its framework's own tools",
        name,
    )


def _find_path(path: Path, sample: Any) -> tuple[Origin, str, str]:
    name, doing = path.name, f"converting {path.name}"
    if not path.exists():
        raise NotFound(
            f"{doing}: there is nothing at {str(path)!r} (in {os.getcwd()!r}), expected {_KNOWN}; "
            "check the path",
            str(path),
        )
    kind = path.suffix.lower()
    if kind == ".pt2":
        from zerolane.converters.pytorch import PyTorch, load_program

        return PyTorch(load_program(path, doing), sample, doing), name, doing
    if kind in (".keras", ".h5", ".hdf5"):
        from zerolane.converters.tensorflow import Keras

        return Keras(path, sample, doing), name, doing
    if kind == ".tflite":
        from zerolane.converters.tensorflow import TfLite

        return TfLite(path, sample, doing), name, doing
    if (path / "saved_model.pb").is_file():
        from zerolane.converters.tensorflow import SavedModel

        return SavedModel(path, sample, doing), name, doing
    what = "a folder without saved_model.pb" if path.is_dir() else f"a {kind or 'nameless'} file"
    hint = "it is ONNX already: zl.load takes it" if kind == ".onnx" else "convert the model itself"
    if kind in (".pt", ".pth", ".pkl", ".joblib"):
        hint = "such files hold Python objects: load it yourself, and give the object"
    raise InvalidArgument(f"{doing}: it is {what}, expected {_KNOWN}; {hint}", str(path))
