"""scikit-learn estimators and pipelines, through skl2onnx."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto

from zerolane._lazy import require
from zerolane.converters.origin import Arrays, Dynamic, Wishes, array
from zerolane.errors import InvalidArgument, Unsupported

_EXTRA = "sklearn"
_OPSETS = {"": 18, "ai.onnx.ml": 3}  # what ONNX Runtime 1.19 and skl2onnx 1.18 both know


class ScikitLearn:
    """A fitted estimator. sample: rows as an array, or a data frame: then each column is an input.

    float64 becomes float32 in the ONNX model, the type that trees and linear models run fastest in;
    the estimator itself is run in the type it was given.
    """

    framework = "scikit-learn"

    def __init__(self, model: Any, sample: Any, doing: str) -> None:
        sklearn = require("sklearn", _EXTRA, doing)
        package = require("skl2onnx", _EXTRA, doing)
        self._package, self._model, self.doing = package, model, doing
        self.versions = {
            "scikit-learn": str(sklearn.__version__),
            "skl2onnx": str(package.__version__),
        }
        if sample is None:
            sample = self._made_up()
        self._columns = list(sample.columns) if hasattr(sample, "columns") else None
        if self._columns is not None:
            self.sample = {str(c): _column(sample[c].to_numpy()) for c in self._columns}
        else:
            rows = array(next(iter(sample.values())) if isinstance(sample, dict) else sample)
            name = next(iter(sample)) if isinstance(sample, dict) else "X"
            self.sample = {name: _narrow(rows)}
            self._dtype = rows.dtype

    def _made_up(self) -> Any:
        count = getattr(self._model, "n_features_in_", None)
        if count is None:
            raise InvalidArgument(
                f"{self.doing}: no sample was given and the estimator does not know how many "
                "columns it takes, expected some rows; give sample=, and fit the estimator first",
                "sample",
            )
        return np.random.default_rng(0).standard_normal((5, count))

    def free_axes(self) -> Dynamic | None:
        return {name: {0: "N"} for name in self.sample}

    def export(self, wishes: Wishes) -> ModelProto:
        types = self._package.common.data_types
        kinds = {"f": types.FloatTensorType, "i": types.Int64TensorType}
        initial = []
        for name, value in wishes.sample.items():
            kind = kinds.get(value.dtype.kind, types.StringTensorType)
            rows = None if 0 in wishes.dynamic.get(name, {}) else value.shape[0]
            initial.append((name, kind([rows, *value.shape[1:]])))
        options = {"zipmap": False} if hasattr(self._model, "predict_proba") else {}
        opsets = dict(_OPSETS)
        if wishes.opset is not None:
            opsets[""] = wishes.opset
        try:
            made: ModelProto = self._package.convert_sklearn(
                self._model,
                initial_types=initial,
                options={id(self._model): options} if options else None,
                target_opset=opsets,
            )
        except Exception as error:  # skl2onnx and the estimator raise what they like
            raise Unsupported(
                f"{self.doing}: skl2onnx {self.versions['skl2onnx']} does not convert it "
                f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}), "
                "expected a fitted estimator that it knows; see skl2onnx.supported_converters()",
                type(self._model).__name__,
            ) from error
        return made

    def run(self, inputs: Arrays) -> list[Any]:
        model, rows = self._model, self._table(inputs)
        if hasattr(model, "predict_proba"):
            return [array(model.predict(rows)), array(model.predict_proba(rows))]
        if hasattr(model, "predict"):
            return [array(model.predict(rows))]
        return [array(model.transform(rows))]

    def _table(self, inputs: Arrays) -> Any:
        if self._columns is None:
            return next(iter(inputs.values())).astype(self._dtype)
        frame = require("pandas", _EXTRA, self.doing).DataFrame
        return frame({c: inputs[str(c)].reshape(-1) for c in self._columns})


def _column(values: Any) -> Any:
    return _narrow(values).reshape(-1, 1)


def _narrow(values: Any) -> Any:
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    if values.dtype.kind in "iub":
        return values.astype(np.int64)
    return values.astype(object)
