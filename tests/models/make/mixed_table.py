"""Tabular data with a string column: one-hot, scaling and logistic regression in one graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .common import onnxruntime_runner, save_case

ROWS = 2000
TRAIN_ROWS = 1500


def verdict(colour: NDArray[Any], weight: NDArray[np.float32]) -> NDArray[np.str_]:
    """The rule to learn: blue is checked; of the rest, a red one is kept when light."""
    kept = np.where((weight > 5) ^ (colour == "red"), "keep", "drop")
    return np.where(colour == "blue", "check", kept)


def make(folder: Path) -> None:
    """Raises AssertionError if ONNX Runtime and scikit-learn disagree on a held-back row."""
    import pandas as pd
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rng = np.random.RandomState(0)
    colour = rng.choice(["red", "green", "blue"], ROWS)
    weight = rng.rand(ROWS).astype(np.float32) * 10
    red_weight = weight * (colour == "red")
    table = pd.DataFrame({"colour": colour, "weight": weight, "red_weight": red_weight})
    train, test = table[:TRAIN_ROWS], table[TRAIN_ROWS:]

    columns = ColumnTransformer(
        [
            ("colour", OneHotEncoder(handle_unknown="ignore"), ["colour"]),
            ("numbers", StandardScaler(), ["weight", "red_weight"]),
        ]
    )
    pipeline = make_pipeline(columns, LogisticRegression(C=100, max_iter=2000))
    pipeline.fit(train, verdict(colour, weight)[:TRAIN_ROWS])
    model = to_onnx(
        pipeline,
        initial_types=[
            ("colour", StringTensorType([None, 1])),
            ("weight", FloatTensorType([None, 1])),
            ("red_weight", FloatTensorType([None, 1])),
        ],
        target_opset={"": 18, "ai.onnx.ml": 3},
        options={id(pipeline): {"zipmap": False}},
    )
    path = folder / "mixed_table.onnx"
    path.write_bytes(model.SerializeToString())

    rows = {
        "colour": colour[TRAIN_ROWS:],
        "weight": weight[TRAIN_ROWS:],
        "red_weight": red_weight[TRAIN_ROWS:].astype(np.float32),
    }
    inputs = {name: column[:, None] for name, column in rows.items()}
    inputs["colour"] = inputs["colour"].astype(object)
    outputs = onnxruntime_runner(path)(inputs)
    np.testing.assert_array_equal(outputs["label"], pipeline.predict(test))
    outputs["label"] = outputs["label"].astype(np.str_)
    save_case(folder, "mixed_table", **rows, **outputs)
