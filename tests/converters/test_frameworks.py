"""Real frameworks, each where it is installed; continuous integration has none of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx", reason="models are written with onnx")

import numpy as np  # noqa: E402
from click.testing import CliRunner  # noqa: E402

import zerolane as zl  # noqa: E402
from tests.optimize.graphs import random  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from zerolane.cli.main import cli  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # what frameworks say of each other


# PyTorch


@pytest.fixture
def torch() -> Any:
    pytest.importorskip("onnxscript", reason="torch exports with it")
    return pytest.importorskip("torch", reason="the extra [torch] is not installed")


@pytest.fixture
def image_net(torch: Any) -> Any:
    class ImageNet(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(2, 4, 3)
            self.norm = torch.nn.BatchNorm2d(4)
            self.drop = torch.nn.Dropout(0.9)
            self.head = torch.nn.Linear(4, 5)

        def forward(self, image: Any, scale: Any) -> Any:
            mean = self.norm(self.conv(image)).mean((2, 3))
            return self.head(self.drop(mean)) * scale, mean.argmax(1)

    torch.manual_seed(0)
    return ImageNet()


def test_a_torch_module(image_net: Any, torch: Any, tmp_path: Path) -> None:
    """Two free dimensions; dropout and batch norm as in eval(), the module still as in train()."""
    before = {k: v.clone() for k, v in image_net.state_dict().items()}
    report = zl.convert(
        image_net,
        tmp_path / "m.onnx",
        sample=(torch.randn(1, 2, 8, 9), np.ones((1, 1), np.float32)),
        dynamic={"image": {0: "N", 3: "W"}, "scale": {0: "N"}},
        outputs=["logits", "best"],
    )
    assert image_net.training
    assert all(torch.equal(before[k], v) for k, v in image_net.state_dict().items())
    session = zl.load(tmp_path / "m.onnx")
    assert [(s.name, s.shape) for s in session.inputs] == [
        ("image", ("N", 2, 8, "W")),
        ("scale", ("N", 1)),
    ]
    assert [(s.name, s.shape) for s in session.outputs] == [
        ("logits", ("N", 5)),
        ("best", ("N",)),
    ]
    assert [check.shapes["image"] for check in report.checks] == [
        (2, 2, 8, 9),
        (1, 2, 8, 9),
        (5, 2, 8, 9),
        (2, 2, 8, 18),
    ]
    data = (tmp_path / "m.onnx").read_bytes()
    assert __file__.encode() not in data
    assert b"site-packages" not in data
    image = random(7, 2, 8, 11)
    with torch.no_grad():
        wanted = image_net.eval()(torch.from_numpy(image), torch.ones(7, 1))[0].numpy()
    got = session.run({"image": image, "scale": np.ones((7, 1), np.float32)})["logits"]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_a_torch_module_that_bakes_its_batch_in(torch: Any, tmp_path: Path) -> None:
    class Baked(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x.reshape(2, 12)

    with pytest.raises((zl.Unsupported, zl.optimize.AccuracyLost)) as caught:
        zl.convert(Baked(), tmp_path / "m.onnx", sample=torch.randn(2, 3, 4))
    assert_three_parts(str(caught.value))
    report = zl.convert(Baked(), tmp_path / "m.onnx", sample=torch.randn(2, 3, 4), dynamic={})
    assert report.inputs == ("x: FLOAT, 2x3x4",)
    with pytest.raises(zl.InvalidArgument, match="no sample") as caught:
        zl.convert(Baked(), tmp_path / "m.onnx")
    assert_three_parts(str(caught.value))


def test_an_exported_program_and_its_file(image_net: Any, torch: Any, tmp_path: Path) -> None:
    rows = torch.export.Dim("rows")
    program = torch.export.export(
        image_net.eval(),
        (torch.randn(3, 2, 8, 8), torch.ones(3, 1)),
        dynamic_shapes=({0: rows}, {0: rows}),
    )
    torch.export.save(program, tmp_path / "m.pt2")
    for source in (program, tmp_path / "m.pt2"):
        report = zl.convert(source, tmp_path / "m.onnx")
        assert [s.shape for s in zl.load(tmp_path / "m.onnx").inputs] == [
            ("N", 2, 8, 8),
            ("N", 1),
        ]
        assert len(report.checks) == 3
    with pytest.raises(zl.InvalidArgument, match="fixed in the source") as caught:
        zl.convert(program, tmp_path / "n.onnx", dynamic={"image": {3: "W"}})
    assert_three_parts(str(caught.value))
    (tmp_path / "bad.pt2").write_bytes(b"no program")
    with pytest.raises(zl.InvalidModel) as caught:
        zl.convert(tmp_path / "bad.pt2", tmp_path / "n.onnx")
    assert_three_parts(str(caught.value))


def test_the_verb_calls_a_function(
    torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_nets.py").write_text(
        "import torch\n\ndef make():\n    return torch.nn.Linear(4, 3), torch.randn(2, 4)\n"
    )
    args = ["convert", "my_nets:make", "m.onnx", "--json", "--dynamic", "input:0=rows"]
    told = json.loads(CliRunner().invoke(cli, args).stdout)
    assert told["inputs"] == ["input: FLOAT, rowsx4"]
    assert told["worst"] < 1e-5


# scikit-learn


@pytest.fixture
def sklearn() -> Any:
    pytest.importorskip("skl2onnx", reason="the extra [sklearn] is not installed")
    return pytest.importorskip("sklearn", reason="the extra [sklearn] is not installed")


def rows() -> tuple[Any, Any]:
    X = np.random.default_rng(0).standard_normal((60, 4))
    return X, (X[:, 0] + X[:, 1] > 0).astype(int)


def test_scikit_learn(sklearn: Any, tmp_path: Path) -> None:
    """A classifier gives arrays, no list of dicts; float64 becomes float32."""
    from sklearn.cluster import KMeans
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = rows()
    forest = make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0))
    for estimator, outputs in (
        (forest, [("label", ("N",)), ("probabilities", ("N", 2))]),
        (Ridge(), [("variable", ("N", 1))]),
        (KMeans(3, random_state=0, n_init=1), [("label", ("N",)), ("scores", ("N", 3))]),
        (StandardScaler(), [("variable", ("N", 4))]),
    ):
        estimator.fit(X, y)
        report = zl.convert(estimator, tmp_path / "m.onnx", sample=X[:7])
        session = zl.load(tmp_path / "m.onnx")
        assert [(s.name, s.shape) for s in session.outputs] == outputs
        assert [(s.name, s.dtype, s.shape) for s in session.inputs] == [("X", "float32", ("N", 4))]
        assert [check.shapes["X"][0] for check in report.checks] == [7, 1, 10]
    got = zl.load(tmp_path / "m.onnx").run({"X": X.astype(np.float32)})["variable"]
    np.testing.assert_allclose(got, estimator.transform(X), rtol=1e-4, atol=1e-5)
    assert zl.convert(estimator, tmp_path / "m.onnx").checks, "a sample is made up"


def test_a_table_with_columns_of_text(sklearn: Any, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = pandas.DataFrame({"colour": ["red", "blue", "red", "green"] * 5, "size": range(20)})
    encode = ColumnTransformer([("c", OneHotEncoder(), ["colour"])], remainder="passthrough")
    model = make_pipeline(encode, LogisticRegression()).fit(frame, [0, 1, 0, 1] * 5)
    report = zl.convert(model, tmp_path / "m.onnx", sample=frame)
    assert report.inputs == ("colour: STRING, Nx1", "size: INT64, Nx1")
    assert report.worst < 1e-5


def test_what_skl2onnx_does_not_know(sklearn: Any, tmp_path: Path) -> None:
    from sklearn.base import BaseEstimator
    from sklearn.linear_model import Ridge

    class Own(BaseEstimator):  # type: ignore[misc]
        n_features_in_ = 3

        def predict(self, X: Any) -> Any:
            return X[:, 0]

    with pytest.raises(zl.Unsupported, match="skl2onnx") as caught:
        zl.convert(Own(), tmp_path / "m.onnx")
    assert_three_parts(str(caught.value))
    with pytest.raises(zl.InvalidArgument, match="no sample") as argument:
        zl.convert(Ridge(), tmp_path / "m.onnx")
    assert_three_parts(str(argument.value))


# TensorFlow


@pytest.fixture
def keras_net() -> Any:
    pytest.importorskip("tf2onnx", reason="the extra [tensorflow] is not installed")
    pytest.importorskip("tensorflow", reason="the extra [tensorflow] is not installed")
    import keras

    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.layers.Input((8, 8, 2), name="image"),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(5),
        ]
    )


def test_tensorflow_in_all_its_forms(keras_net: Any, tmp_path: Path) -> None:
    import tensorflow as tf

    keras_net.save(tmp_path / "m.keras")
    keras_net.export(tmp_path / "saved", verbose=False)
    lite = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert()
    (tmp_path / "m.tflite").write_bytes(lite)
    image = random(3, 8, 8, 2)
    wanted = keras_net(image, training=False).numpy()
    for source in (keras_net, *(tmp_path / n for n in ("m.keras", "saved", "m.tflite"))):
        report = zl.convert(source, tmp_path / "m.onnx", outputs=["logits"])
        session = zl.load(tmp_path / "m.onnx")
        assert session.inputs[0].shape == ("N", 8, 8, 2)
        assert [(s.name, s.shape) for s in session.outputs] == [("logits", ("N", 5))]
        assert [next(iter(c.shapes.values()))[0] for c in report.checks] == [3, 1, 6]
        got = session.run({session.inputs[0].name: image})["logits"]
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_several_inputs_and_outputs_of_keras(keras_net: Any, tmp_path: Path) -> None:
    import keras

    a, b = keras.layers.Input((7,), name="a"), keras.layers.Input((7,), name="b")
    model = keras.Model([a, b], [keras.layers.Dense(3)(a + b), keras.layers.Dense(2)(a)])
    report = zl.convert(model, tmp_path / "m.onnx", outputs=["p", "q"])
    assert report.inputs == ("a: FLOAT, Nx7", "b: FLOAT, Nx7")
    assert report.outputs == ("p: FLOAT, Nx3", "q: FLOAT, Nx2")


def test_tensorflow_files_that_are_none(keras_net: Any, tmp_path: Path) -> None:
    for name in ("bad.keras", "bad.tflite"):
        (tmp_path / name).write_bytes(b"no model")
        with pytest.raises((zl.InvalidModel, zl.Unsupported)) as caught:
            zl.convert(tmp_path / name, tmp_path / "m.onnx")
        assert_three_parts(str(caught.value))
