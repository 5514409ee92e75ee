"""Keras models, TensorFlow SavedModels and TFLite files, through tf2onnx."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from zerolane._lazy import require
from zerolane.converters.origin import Arrays, Dynamic, Wishes, array, named
from zerolane.converters.quiet import quiet
from zerolane.errors import InvalidModel, Unsupported

_EXTRA = "tensorflow"
_OPSET = 17
_ROWS = 3  # of made-up samples
_SIGNATURE = "serving_default"


class _TensorFlow:
    """What the three kinds share: a function of named inputs, and a signature."""

    framework = "TensorFlow"

    def __init__(self, doing: str) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        self._tf = require("tensorflow", _EXTRA, doing)
        self._tf2onnx = require("tf2onnx", _EXTRA, doing)
        self.doing = doing
        self.versions = {
            "tensorflow": str(self._tf.__version__),
            "tf2onnx": str(self._tf2onnx.__version__),
        }
        self.sample: Arrays = {}
        self._specs: dict[str, Any] = {}

    def _take(self, specs: dict[str, Any], sample: Any) -> None:
        self._specs = specs
        if sample is None:
            self.sample = {name: _made_up(spec) for name, spec in specs.items()}
        else:
            self.sample = named(sample, list(specs), self.doing)

    def free_axes(self) -> Dynamic | None:
        free: dict[str, dict[int, str]] = {}
        for name, spec in self._specs.items():
            axes = [i for i, d in enumerate(spec.shape) if d is None]
            free[name] = {i: "N" if i == 0 else f"{name}_{i}" for i in axes}
        return free

    def _exported(self, function: Any, wishes: Wishes) -> ModelProto:
        tf = self._tf
        signature = []
        for name, value in wishes.sample.items():
            axes = wishes.dynamic.get(name, {})
            shape = [None if i in axes else d for i, d in enumerate(value.shape)]
            signature.append(tf.TensorSpec(shape, tf.as_dtype(value.dtype), name=name))
        traced = tf.function(function, input_signature=signature)
        with self._explained(), quiet("tf2onnx"):
            made, _ = self._tf2onnx.convert.from_function(
                traced, input_signature=signature, opset=wishes.opset or _OPSET
            )
        return made  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # tf2onnx and TensorFlow raise what they like
            tools = " with ".join(f"{name} {version}" for name, version in self.versions.items())
            lines = str(error).strip().splitlines()
            raise Unsupported(
                f"{self.doing}: {tools} fail ({type(error).__name__}: "
                f"{lines[0] if lines else 'no message'}), expected a model that tf2onnx converts; "
                "tensorflow 2.21 with tf2onnx 1.17 is known to work",
                self.framework,
            ) from error


class Keras(_TensorFlow):
    """A keras.Model (Keras 3 with TensorFlow's backend), or its .keras or .h5 file.

    tf2onnx's own `from_keras` fails with Keras 3 (KeyError: 'keras_tensor_4'), so the model is
    traced as a function.
    """

    framework = "Keras"

    def __init__(self, model: Any, sample: Any, doing: str) -> None:
        super().__init__(doing)
        keras = require("keras", _EXTRA, doing)
        self.versions["keras"] = str(keras.__version__)
        if isinstance(model, Path):
            try:
                model = keras.models.load_model(model, compile=False)
            except Exception as error:  # of zip, h5py and Keras
                raise InvalidModel(
                    f"{doing}: Keras {keras.__version__} does not read it ({error}), expected a "
                    "file of this release; save it again with model.save",
                    str(model),
                ) from error
        self._model = model
        tf = self._tf
        specs = {
            t.name.split(":")[0]: tf.TensorSpec(t.shape, t.dtype, name=t.name.split(":")[0])
            for t in model.inputs
        }
        self._take(specs, sample)

    def _call(self, *values: Any) -> Any:
        return self._model(list(values) if len(values) > 1 else values[0], training=False)

    def export(self, wishes: Wishes) -> ModelProto:
        return self._exported(self._call, wishes)

    def run(self, inputs: Arrays) -> list[Any]:
        made = self._call(*(self._tf.constant(v) for v in inputs.values()))
        return [array(leaf) for leaf in self._tf.nest.flatten(made)]


class SavedModel(_TensorFlow):
    """A folder that tf.saved_model.save or model.export wrote, by its default signature."""

    framework = "TensorFlow SavedModel"

    def __init__(self, path: Path, sample: Any, doing: str) -> None:
        super().__init__(doing)
        with self._explained():
            self._loaded = self._tf.saved_model.load(str(path))
        signatures = self._loaded.signatures
        if not signatures:
            raise InvalidModel(
                f"{doing}: it has no signature, expected {_SIGNATURE!r}; save it with "
                "model.export, or give signatures= to tf.saved_model.save",
                str(path),
            )
        chosen = _SIGNATURE if _SIGNATURE in signatures else next(iter(signatures))
        self._function = signatures[chosen]
        self._take(dict(self._function.structured_input_signature[1]), sample)

    def _call(self, *values: Any) -> Any:
        return self._function(**dict(zip(self._specs, values, strict=True)))

    def export(self, wishes: Wishes) -> ModelProto:
        return self._exported(self._call, wishes)

    def run(self, inputs: Arrays) -> list[Any]:
        made = self._call(*(self._tf.constant(inputs[name]) for name in self._specs))
        return [array(leaf) for leaf in self._tf.nest.flatten(made)]


class TfLite(_TensorFlow):
    """A .tflite file. Its shapes are fixed but for dimensions that its signature leaves free."""

    framework = "TFLite"

    def __init__(self, path: Path, sample: Any, doing: str) -> None:
        super().__init__(doing)
        self._path = path
        with self._explained(), quiet("tf2onnx"):
            self._interpreter = self._tf.lite.Interpreter(str(path))
        tf = self._tf
        self._details = self._interpreter.get_input_details()
        specs = {}
        for d in self._details:
            shape = [None if s == -1 else int(s) for s in d["shape_signature"]]
            specs[d["name"]] = tf.TensorSpec(shape, tf.as_dtype(d["dtype"]), name=d["name"])
        self._take(specs, sample)

    def export(self, wishes: Wishes) -> ModelProto:
        with self._explained(), quiet("tf2onnx"):
            made, _ = self._tf2onnx.convert.from_tflite(
                str(self._path), opset=wishes.opset or _OPSET
            )
        return made  # type: ignore[no-any-return]

    def run(self, inputs: Arrays) -> list[Any]:
        interpreter = self._interpreter
        for detail in self._details:
            interpreter.resize_tensor_input(detail["index"], inputs[detail["name"]].shape)
        interpreter.allocate_tensors()
        for detail in self._details:
            interpreter.set_tensor(detail["index"], inputs[detail["name"]])
        interpreter.invoke()
        return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def _made_up(spec: Any) -> Any:
    shape = [_ROWS if d is None else d for d in spec.shape]
    dtype = np.dtype(spec.dtype.as_numpy_dtype if hasattr(spec.dtype, "as_numpy_dtype") else "f4")
    if dtype.kind == "f":
        return np.random.default_rng(0).standard_normal(shape).astype(dtype)
    return np.zeros(shape, dtype)
