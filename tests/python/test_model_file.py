"""Reading and writing: external data, bad files, nothing torn, nothing overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are converted with onnx")

import zerolane as zl  # noqa: E402
from tests import child  # noqa: E402
from tests.models import large, small  # noqa: E402
from tests.optimize import graphs  # noqa: E402
from tests.optimize.graphs import FLOAT16, node, random  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from zerolane import model_file as files  # noqa: E402


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_external_data(dtype: str, tmp_path: Path) -> None:
    source = small.external_data(tmp_path)
    before = snapshot(tmp_path)
    out = tmp_path / "out" / "m.onnx"
    out.parent.mkdir()
    report = getattr(zl.optimize, dtype)(source, out, tolerance=0.01)
    assert {name: data for name, data in snapshot(tmp_path).items() if name in before} == before
    assert sorted(p.name for p in out.parent.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert report.bytes_before == sum(len(data) for data in before.values())
    assert report.bytes_after == sum(p.stat().st_size for p in out.parent.iterdir())
    assert report.bytes_after < 0.6 * report.bytes_before
    graphs.assert_tidy(onnx.load(out))
    light = onnx.load(out, load_external_data=False)
    assert all(t.external_data for t in light.graph.initializer)
    if dtype == "fp16":
        x = random(3, 64)
        y = zl.load(out).run({"x": x})["y"]
        assert np.abs(y - np.roll(x, 1, -1)).max() < 0.002


def test_external_data_only_where_wanted(tmp_path: Path) -> None:
    source = small.external_data(tmp_path)
    inside, beside = tmp_path / "inside.onnx", tmp_path / "beside.onnx"
    zl.optimize.fp16(source, inside, external=False)
    assert not files.data_file(inside).exists()
    zl.optimize.fp16(inside, beside, external=True)
    assert files.data_file(beside).exists()
    one, other = onnx.load(beside), onnx.load(inside)
    assert list(one.graph.node) == list(other.graph.node)
    for a, b in zip(one.graph.initializer, other.graph.initializer, strict=True):
        assert np.array_equal(onnx.numpy_helper.to_array(a), onnx.numpy_helper.to_array(b))


def test_paths_bytes_and_protos_give_the_same(tmp_path: Path) -> None:
    model = small.control_policy()
    onnx.save(model, tmp_path / "model.onnx")
    results = []
    for number, source in enumerate(
        (tmp_path / "model.onnx", str(tmp_path / "model.onnx"), model.SerializeToString(), model)
    ):
        zl.optimize.fp16(source, tmp_path / f"{number}.onnx")
        results.append((tmp_path / f"{number}.onnx").read_bytes())
    assert len(set(results)) == 1
    assert model == small.control_policy()


def test_beyond_two_gigabytes_weights_go_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is lowered for this: the path is the one that a larger model takes."""
    monkeypatch.setattr(files, "MOST_PROTO_BYTES", 100_000)
    report = zl.optimize.fp16(large.text_embed(), tmp_path / "m.onnx", verify=False)
    assert files.data_file(tmp_path / "m.onnx").stat().st_size > 10_000_000
    assert report.bytes_after < 0.51 * report.bytes_before
    graphs.assert_tidy(onnx.load(tmp_path / "m.onnx"))


def test_a_model_beyond_two_gigabytes(tmp_path: Path) -> None:
    """Sparse on disk: 2.2 GB of zeros as weights, which no protobuf could hold."""
    if not os.environ.get("ZEROLANE_TEST_LARGE"):
        pytest.skip("half a minute and 4 GB of disk: set ZEROLANE_TEST_LARGE=1")
    rows, columns = 140_000, 4_000
    model = graphs.model(
        [node("Gather", ["w", "i"], ["h"]), node("Relu", ["h"], ["y"])],
        {"i": [2]},
        {"y": [2, columns]},
        types={"i": onnx.TensorProto.INT64},
    )
    weight = model.graph.initializer.add(name="w", data_type=1, dims=[rows, columns])
    weight.data_location = onnx.TensorProto.EXTERNAL
    size = rows * columns * 4
    for key, value in (("location", "w.bin"), ("offset", "0"), ("length", str(size))):
        weight.external_data.add(key=key, value=value)
    onnx.save(model, tmp_path / "big.onnx")
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(size)
        file.seek(4 * columns)
        file.write(random(columns).tobytes())
    free = os.statvfs(tmp_path)
    if free.f_bavail * free.f_frsize < 4 * size:
        pytest.skip("too little room in the temporary folder for a model of 2.2 GB")
    report = zl.optimize.fp16(tmp_path / "big.onnx", tmp_path / "out.onnx", verify=False)
    assert report.bytes_before > 2**31
    assert report.bytes_after < 0.51 * report.bytes_before
    (tmp_path / "w.bin").unlink()
    y = zl.load(tmp_path / "out.onnx").run({"i": np.array([0, 1])})["y"]
    wanted = np.maximum([np.zeros(columns), random(columns)], 0)
    assert np.abs(y - wanted).max() < 0.002


@pytest.mark.parametrize("target", ["model.onnx", "weights.bin", "link.onnx", "./model.onnx"])
def test_the_original_is_never_overwritten(target: str, tmp_path: Path) -> None:
    source = small.external_data(tmp_path)
    (tmp_path / "link.onnx").symlink_to(source)
    before = snapshot(tmp_path)
    with pytest.raises(zl.InvalidArgument, match="overwrite") as caught:
        zl.optimize.fp16(source, tmp_path / target)
    assert_three_parts(str(caught.value))
    assert snapshot(tmp_path) == before


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        zl.optimize.fp16(small.matmul_chain(1, 8), pipe, verify=False)
        onnx.load_model_from_string(os.read(reader, 1 << 16))
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_weights_named_as_the_output_would_be_are_safe(tmp_path: Path) -> None:
    onnx.save(
        small.matmul_chain(1, 64),
        tmp_path / "in.onnx",
        save_as_external_data=True,
        location="out.onnx.data",
        size_threshold=0,
    )
    before = snapshot(tmp_path)
    with pytest.raises(zl.InvalidArgument, match="overwrite"):
        zl.optimize.fp16(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert snapshot(tmp_path) == before


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "m.onnx"
    out.write_bytes(b"as it was")

    def full(*args: object, **kwargs: object) -> int:
        (tmp_path / next(p.name for p in tmp_path.iterdir() if p.is_dir()) / "x").write_bytes(b"1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(zl.InvalidArgument, match="No space left") as caught:
        zl.optimize.fp16(small.control_policy(), out)
    assert_three_parts(str(caught.value))
    assert snapshot(tmp_path) == {"m.onnx": b"as it was"}
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_folders_that_take_no_files(tmp_path: Path) -> None:
    with pytest.raises(zl.InvalidArgument, match="cannot be written") as caught:
        zl.optimize.fp16(small.control_policy(), tmp_path / "absent" / "m.onnx")
    assert_three_parts(str(caught.value))
    if os.geteuid() == 0:
        return  # root may write anywhere
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(zl.InvalidArgument, match="cannot be written"):
            zl.optimize.fp16(small.control_policy(), tmp_path / "m.onnx")
    finally:
        tmp_path.chmod(0o700)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "text.onnx").write_bytes(b"this is no model at all")
    (tmp_path / "torn.onnx").write_bytes(small.control_policy().SerializeToString()[:5000])
    for name, kind in (
        ("absent.onnx", zl.NotFound),
        ("empty.onnx", zl.InvalidModel),
        ("text.onnx", zl.InvalidModel),
        ("torn.onnx", zl.InvalidModel),
        (".", zl.NotFound),
    ):
        with pytest.raises(kind) as caught:
            zl.optimize.fp16(tmp_path / name, tmp_path / "out.onnx")
        assert_three_parts(str(caught.value))
    with pytest.raises(zl.InvalidArgument, match="int was given"):
        zl.optimize.fp16(3, tmp_path / "out.onnx")  # type: ignore[arg-type]
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"location": "absent.bin"}, zl.NotFound, "no file"),
        ({"location": "../secret.bin"}, zl.InvalidModel, "outside"),
        ({"location": "/etc/hostname"}, zl.InvalidModel, "outside"),
        ({"length": "99999999"}, zl.InvalidModel, "the file has"),
        ({"offset": "-8"}, zl.InvalidModel, "the file has"),
        ({"offset": "many"}, zl.InvalidModel, "the file has"),
    ],
)
def test_external_data_that_is_wrong(
    changes: dict[str, str], kind: type[zl.Error], says: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(64 * 64 * 4))
    path = small.external_data(folder)
    model = onnx.load(path, load_external_data=False)
    tensor = model.graph.initializer[0]
    told = {e.key: e.value for e in tensor.external_data} | changes
    del tensor.external_data[:]
    for key, value in told.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(kind, match=says) as caught:
        zl.optimize.fp16(path, tmp_path / "out.onnx")
    assert_three_parts(str(caught.value))


def test_external_data_needs_a_folder(tmp_path: Path) -> None:
    data = small.external_data(tmp_path).read_bytes()
    with pytest.raises(zl.InvalidArgument, match="give the path") as caught:
        zl.optimize.fp16(data, tmp_path / "out.onnx")
    assert_three_parts(str(caught.value))


def test_a_tensor_that_lies_about_its_size(tmp_path: Path) -> None:
    model = small.control_policy()
    model.graph.initializer[0].dims[0] = 65
    with pytest.raises(zl.InvalidModel) as caught:
        zl.optimize.fp16(model, tmp_path / "out.onnx")
    assert_three_parts(str(caught.value))


def test_without_onnx_the_error_names_the_extra(tmp_path: Path) -> None:
    code = """
    import sys
    sys.modules["onnx"] = None
    import zerolane as zl
    try:
        zl.optimize.fp16("a.onnx", "b.onnx")
    except zl.Unavailable as error:
        print(error)
    """
    told = child.run(code)
    assert "zerolane[onnx]" in told
    assert_three_parts(told)


def test_looking_at_optimize_imports_no_onnx() -> None:
    code = """
    import sys
    import zerolane as zl
    zl.optimize.fp16, zl.optimize.PrecisionReport
    print(*sorted(set(sys.modules) & {"onnx", "numpy", "google"}))
    """
    assert child.run(code).split() == []


def test_rounding_is_that_of_numpy_and_stays_finite() -> None:
    from zerolane.optimize.precision.rounding import Constants, from_bits, narrow_bits

    rng = np.random.default_rng(0)
    values = rng.standard_normal(10_000, np.float32) * np.exp2(rng.integers(-30, 15, 10_000))
    values = np.concatenate(
        [values, [0, -0.0, np.inf, -np.inf, 65519, 65520, 1e30, -1e30, 3.4028235e38]]
    ).astype(np.float32)
    counts = Constants()
    half = from_bits(narrow_bits(values, "float16", counts), "float16")
    with np.errstate(over="ignore"):
        plain = values.astype(np.float16).astype(np.float32)
    fits = np.isfinite(plain) | np.isinf(values)
    assert np.array_equal(half[fits], plain[fits])
    assert np.abs(half[~fits]).tolist() == [65504] * 4
    assert counts.saturated == 4
    assert counts.flushed == ((plain == 0) & (values != 0)).sum() > 0
    tiny = (np.abs(plain) < 2**-14) & (plain != 0)
    assert counts.subnormal == tiny.sum() > 0
    assert counts.values == values.size

    ml_dtypes = pytest.importorskip("ml_dtypes", reason="the reference for bfloat16")
    brain = from_bits(narrow_bits(values, "bfloat16", Constants()), "bfloat16")
    with np.errstate(over="ignore"):
        plain = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    fits = np.isfinite(plain) | np.isinf(values)
    assert np.array_equal(brain[fits], plain[fits])
    assert np.isfinite(brain[~fits]).all()
    assert np.isnan(
        from_bits(narrow_bits(np.float32([np.nan]), "bfloat16", Constants()), "bfloat16")
    )
    assert FLOAT16 == onnx.TensorProto.FLOAT16


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_damaged_models_are_refused_or_converted(dtype: str, tmp_path: Path) -> None:
    """Typed errors only, and never a result that onnx refuses. In a child: onnx is C++."""
    code = """
    import sys, warnings
    warnings.simplefilter("ignore")
    import zerolane as zl
    from tests.fuzz import mutate
    dtype, out, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    refused = converted = 0
    for number in range(first, last):
        what, content = mutate.case(number)
        if len(content) > 3_000_000:
            continue
        try:
            getattr(zl.optimize, dtype)(content, out, verify=False)
            converted += 1
        except (zl.InvalidModel, zl.InvalidArgument, zl.Unsupported) as error:
            assert ": " in str(error) and "; " in str(error), error
            refused += 1
        except BaseException as error:
            raise AssertionError(f"case {number}, {what}") from error
    print(refused, converted)
    """
    told = child.run(code, dtype, tmp_path / "m.onnx", 0, 400, timeout=300)
    refused, converted = map(int, told.split())
    assert refused > 100
    assert converted > 80
