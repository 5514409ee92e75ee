"""Tabular data: a random forest on scikit-learn's wine table (UCI)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .common import onnxruntime_runner, save_case


def make(folder: Path) -> None:
    """Raises AssertionError if ONNX Runtime and scikit-learn disagree on a held-back row."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_wine
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import train_test_split

    table, kinds = load_wine(return_X_y=True)
    train, test, train_kinds, _ = train_test_split(
        table.astype(np.float32), kinds, random_state=0, stratify=kinds
    )
    forest = RandomForestClassifier(60, random_state=0).fit(train, train_kinds)
    model = to_onnx(
        forest,
        train[:1],
        target_opset={"": 18, "ai.onnx.ml": 3},
        options={"zipmap": False},
    )
    path = folder / "wine_forest.onnx"
    path.write_bytes(model.SerializeToString())

    outputs = onnxruntime_runner(path)({"X": test})
    np.testing.assert_array_equal(outputs["label"], forest.predict(test))
    save_case(folder, "wine_forest", X=test, **outputs)
