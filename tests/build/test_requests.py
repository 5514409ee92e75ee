"""What is refused before any library is asked."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import onnx
import pytest

import zerolane as zl
from tests.build import models
from tests.models import small
from tests.python.messages import assert_three_parts
from zerolane.builder.options import merge
from zerolane.builder.profiles import read_profiles

INPUTS = {"x": (None, 3), "fixed": (2, 2), "any": (None,)}
WHOLE = {"x": (1, 3), "any": (4,)}


@pytest.mark.parametrize(
    ("shapes", "error", "subject"),
    [
        ({"x": (1, 3)}, zl.InvalidArgument, "any"),
        (None, zl.InvalidArgument, "x"),
        (WHOLE | {"q": (1,)}, zl.InvalidArgument, "q"),
        (WHOLE | {"x": (1, 3, 1)}, zl.ShapeMismatch, "x"),
        (WHOLE | {"x": (1, 4)}, zl.ShapeMismatch, "x"),
        (WHOLE | {"fixed": (2, 3)}, zl.ShapeMismatch, "fixed"),
        (WHOLE | {"x": ((2, 3), (1, 3), (4, 3))}, zl.ShapeMismatch, "x"),
        (WHOLE | {"x": ((1, 3), (4, 3), (2, 3))}, zl.ShapeMismatch, "x"),
        (WHOLE | {"any": ((1,), (2, 2), (3,))}, zl.ShapeMismatch, "any"),
        (WHOLE | {"x": (-1, 3)}, zl.ShapeMismatch, "x"),
        (WHOLE | {"x": (2**31, 3)}, zl.ShapeMismatch, "x"),
        (WHOLE | {"x": (2**80, 3)}, zl.ShapeMismatch, "x"),
        (WHOLE | {"x": ((1, 3), (2, 3))}, zl.InvalidArgument, "x"),
        (WHOLE | {"x": (1.5, 3)}, zl.InvalidArgument, "x"),
        (WHOLE | {"x": (True, 3)}, zl.InvalidArgument, "x"),
        (WHOLE | {"x": "1x3"}, zl.InvalidArgument, "x"),
        (WHOLE | {"x": 3}, zl.InvalidArgument, "x"),
        (WHOLE | {"x": ((), (), ())}, zl.ShapeMismatch, "x"),
        ([WHOLE], zl.InvalidArgument, "shapes"),
    ],
)
def test_wrong_shapes(shapes: Any, error: type[zl.Error], subject: str) -> None:
    with pytest.raises(error) as caught:
        read_profiles(INPUTS, shapes, None)
    assert caught.value.subject == subject
    assert_three_parts(str(caught.value))


def test_right_shapes() -> None:
    (profile,) = read_profiles(INPUTS, {"any": (4,), "x": ((0, 3), [2, 3], (9, 3))}, None)
    assert profile == {"x": ((0, 3), (2, 3), (9, 3)), "any": ((4,), (4,), (4,))}
    assert list(profile) == ["x", "any"], "in the model's order, so that equal requests are equal"
    assert read_profiles({"x": (2, 2)}, None, None) == ()
    assert len(read_profiles(INPUTS, None, [WHOLE, WHOLE])) == 2


def test_shapes_in_other_numbers_and_lists() -> None:
    import numpy as np

    for given in ((np.int64(2), 3), [2, np.int32(3)], [[2, 3]], ([2, 3],) * 3):
        assert read_profiles({"x": (None, 3)}, {"x": given}, None) == ({"x": ((2, 3),) * 3},)  # type: ignore[dict-item]
    for refused in ((np.True_, 3), (np.float64(2), 3)):
        with pytest.raises(zl.InvalidArgument):
            read_profiles({"x": (None, 3)}, {"x": refused}, None)  # type: ignore[dict-item]
    assert read_profiles({"s": ()}, {"s": ()}, None) == ({"s": ((), (), ())},)


@pytest.mark.parametrize("shapes", [None, {"x": (2, 3)}, {"x": ((1, 3), (2, 3), (4, 3))}])
def test_an_input_without_a_rank(shapes: Any) -> None:
    """The parser takes it for a scalar, and then complains of the profile."""
    model = onnx.load_from_string(models.relu())
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(zl.Unsupported, match="how many dimensions") as caught:
        zl.build(model.SerializeToString(), shapes=shapes)
    assert_three_parts(str(caught.value))
    assert caught.value.subject == "x"


class Nameless:
    def __fspath__(self) -> str:
        raise RuntimeError("no name")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("isolate", None),
        ("isolate", "no"),
        ("progress", None),
        ("progress", 1),
        ("cache", None),
        ("cache", 0),
        ("cache", ""),
        ("cache", b"folder"),
        ("cache", "a\0b"),
        ("cache", "a\ud800"),
        ("cache", Nameless()),
        ("model", None),
        ("model", Nameless()),
        ("model", "a\0b"),
        ("model", ""),
    ],
)
def test_wrong_arguments(name: str, value: Any) -> None:
    given: Any = {"model": models.relu()} | {name: value}
    with pytest.raises(zl.InvalidArgument) as caught:
        zl.build(**given)
    assert caught.value.subject == name
    assert_three_parts(str(caught.value))


def test_a_model_file_beyond_its_format(tmp_path: Path) -> None:
    """Parsers take more than 2 GB for nothing at all; a field of zeros makes the file that long."""
    path = tmp_path / "long.onnx"
    size = 2200 << 20
    length = bytes((size >> 7 * i) & 127 | (128 if i < 4 else 0) for i in range(5))
    with open(path, "wb") as file:
        file.write(models.relu() + b"\xa2\x06" + length)
        file.truncate(file.tell() + size)
    with pytest.raises(zl.InvalidModel, match="external data") as caught:
        zl.build(path)
    assert_three_parts(str(caught.value))


@pytest.mark.parametrize("profiles", [[], "x", [WHOLE, 3], [WHOLE, {}]])
def test_wrong_profiles(profiles: Any) -> None:
    with pytest.raises(zl.InvalidArgument) as caught:
        read_profiles(INPUTS, None, profiles)
    assert_three_parts(str(caught.value))


def test_shapes_and_profiles() -> None:
    with pytest.raises(zl.InvalidArgument, match="both"):
        read_profiles(INPUTS, WHOLE, [WHOLE])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimization_level", 6),
        ("optimization_level", True),
        ("memory_pools", {"workspace": -1}),
        ("memory_pools", {"attic": 1}),
        ("memory_pools", {"workspace": 2**63}),
        ("compute_capabilities", ["9.9"]),
        ("compute_capabilities", "8.9"),
        ("compute_capabilities", ["8.9", "8.9"]),
        ("compute_capabilities", ["8.9", "current"]),
        ("compute_capabilities", [89]),
        ("hardware_compatibility", "all"),
        ("version_compatible", 1),
        ("exclude_lean_runtime", True),
        ("refit", 1),
        ("refit", "some"),
        ("tf32", 1),
        ("tiling_level", 4),
        ("avg_timing_iterations", 0),
        ("max_aux_streams", -1),
        ("timing_cache", ""),
        ("timing_cache", 3),
        ("profiling_verbosity", "all"),
        ("log_level", "loud"),
        ("precision_keep", "Softmax"),
        ("timeout_s", 0),
        ("timeout_s", float("nan")),
        ("timeout_s", "1"),
    ],
)
def test_wrong_options(name: str, value: Any) -> None:
    given: Any = {name: value}
    with pytest.raises(zl.InvalidArgument) as caught:
        merge(None, given)
    assert caught.value.subject == name
    assert_three_parts(str(caught.value))


def test_an_unknown_option() -> None:
    with pytest.raises(zl.InvalidArgument, match="did you mean 'optimization_level'"):
        zl.build(models.relu(), optimisation_level=3)  # type: ignore[call-arg]
    with pytest.raises(zl.InvalidArgument):
        zl.build(models.relu(), options={"refit": True})  # type: ignore[arg-type]


def test_fields_go_over_options() -> None:
    options = zl.BuildOptions(refit=True, optimization_level=2)
    merged = merge(options, {"optimization_level": 4})
    assert (merged.refit, merged.optimization_level) == (True, 4)
    assert merge(options, {}) is options


def test_what_the_plan_depends_on_is_part_of_the_key() -> None:
    told = zl.BuildOptions(log_level="verbose", timeout_s=3, compute_capabilities=["8.9"])
    assert told.plan_flags() == {}
    assert zl.BuildOptions(refit="identical", memory_pools={"workspace": 1}).plan_flags() == {
        "refit": "identical",
        "memory_pools": {"workspace": 1},
    }


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (b"", zl.InvalidModel),
        (b"not a model" * 20, zl.InvalidModel),
        (models.relu()[:50], zl.InvalidModel),
        (onnx.ModelProto(ir_version=8).SerializeToString(), zl.InvalidModel),
        (models.model([], [], []).SerializeToString(), zl.InvalidModel),
        ("no/such.onnx", zl.NotFound),
        ("/", zl.NotFound),
        (3, zl.InvalidArgument),
        (None, zl.InvalidArgument),
    ],
)
@pytest.mark.parametrize("isolate", [True, False])
def test_no_model(given: Any, error: type[zl.Error], isolate: bool) -> None:
    with pytest.raises(error) as caught:
        zl.build(given, isolate=isolate)
    assert_three_parts(str(caught.value))


def test_choices() -> None:
    for changes in ({"backend": "trt"}, {"precision": "int8"}, {"cache": 3}, {"cache": ""}):
        given: Any = changes
        with pytest.raises(zl.InvalidArgument) as caught:
            zl.build(models.relu(), **given)
        assert caught.value.subject == next(iter(changes))
        assert_three_parts(str(caught.value))
    with pytest.raises(zl.Unsupported, match="times nothing"):
        zl.build(models.relu(), timing_cache="somewhere")


def external_model(folder: Path, location: str) -> bytes:
    """A model whose one weight says that it lies at `location`."""
    weight = onnx.TensorProto(
        name="w", data_type=1, dims=[3], data_location=onnx.TensorProto.EXTERNAL
    )
    weight.external_data.add(key="location", value=location)
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"], name="add")
    made = models.model(
        [node], [models.tensor("x", [2, 3])], [models.tensor("y", [2, 3])], (weight,)
    )
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    return bytes(made.SerializeToString())


def test_missing_external_data(tmp_path: Path) -> None:
    content = external_model(tmp_path, "weights.bin")
    with pytest.raises(zl.NotFound, match=r"weights\.bin") as caught:
        zl.build(tmp_path / "model.onnx")
    assert_three_parts(str(caught.value))
    with pytest.raises(zl.InvalidArgument, match="folder="):
        zl.build(content)
    with pytest.raises(zl.NotFound):
        zl.build(content, folder=tmp_path)
    with pytest.raises(zl.InvalidArgument, match="own folder"):
        zl.build(tmp_path / "model.onnx", folder=tmp_path)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b", ""])
def test_external_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    external_model(tmp_path, location)
    with pytest.raises(zl.InvalidModel, match="own folder"):
        zl.build(tmp_path / "model.onnx")


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_a_missing_library(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = {"tensorrt": "ZEROLANE_TENSORRT", "tensorrt-rtx": "ZEROLANE_TENSORRT_RTX"}[backend]
    monkeypatch.setenv(variable, str(tmp_path / "libnothing.so.1"))
    with pytest.raises(zl.Unavailable) as caught:
        zl.build(models.relu(), backend=backend)
    assert_three_parts(str(caught.value))
    monkeypatch.setenv(variable, str(tmp_path))  # a folder that holds none
    with pytest.raises(zl.Unavailable, match=rf"pip install 'zerolane\[{backend}\]'"):
        zl.build(models.relu(), backend=backend)


def test_errors_travel_between_processes() -> None:
    crashed = zl.BackendCrashed("a: b; c", "reading node x")
    again = pickle.loads(pickle.dumps(crashed))
    assert (type(again), str(again), again.subject) == (
        zl.BackendCrashed,
        "a: b; c",
        crashed.subject,
    )
    assert isinstance(again, zl.BackendError)
    assert again.code == "backend_crashed"


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.onnx").write_text("These are not the bytes you are looking for.")
    with pytest.raises(zl.InvalidModel, match=r"building notes\.onnx: ") as caught:
        zl.build(tmp_path / "notes.onnx")
    assert_three_parts(str(caught.value))
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"\x89ZLE\r\n\x1a\n" + bytes(200))
    with pytest.raises(zl.InvalidModel, match=r"model\.engine: it is an engine file") as caught:
        zl.build(engine)
    assert_three_parts(str(caught.value))


def test_text_that_is_no_utf8() -> None:
    model = onnx.load_from_string(models.relu())
    model.producer_name = "a producer"
    content = model.SerializeToString().replace(b"a producer", b"\xff producer")
    with pytest.raises(zl.InvalidModel, match="UTF-8") as caught:
        zl.build(content)
    assert_three_parts(str(caught.value))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (small.string_normalizer, r"input '\w+' is a tensor of strings"),
        (small.sequence_input, r"input '\w+' is a sequence"),
        (small.sequence_output, r"output '\w+' is a sequence"),
        (small.map_input, r"input '\w+' is a map"),
        (small.optional_input, r"input '\w+' is a optional"),
    ],
)
def test_what_tensorrt_has_not_is_named(make: Any, found: str) -> None:
    """The parser would blame some node that comes across it."""
    with pytest.raises(zl.Unsupported, match=found) as caught:
        zl.build(make().SerializeToString())
    assert_three_parts(str(caught.value))
    assert repr(caught.value.subject) in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"hardware_compatibility": "ampere+"},
        {"hardware_compatibility": "same_compute_capability"},
        {"version_compatible": True},
        {"timing_cache": "x"},
        {"editable_timing": True},
        {"reproducible_timing": True},
    ],
    ids=str,
)
def test_options_that_tensorrt_rtx_has_not(fields: Any) -> None:
    with pytest.raises(zl.Unsupported) as caught:
        zl.Build(models.relu(), **fields)
    assert caught.value.subject == next(iter(fields))
    assert_three_parts(str(caught.value))
    zl.Build(models.relu(), backend="tensorrt", **fields)
