"""INT8 convolutions on AMX tiles: the bits of ONNX Runtime's own, and everything else as it was."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

onnx = pytest.importorskip("onnx", reason="models are written with onnx")
ort = pytest.importorskip("onnxruntime", reason="results are compared with onnxruntime's")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import zerolane as zl  # noqa: E402
from tests import child  # noqa: E402


def has_tiles() -> bool:
    """Whether the CPU has AMX for bytes, and nothing in the environment goes without it."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return "amx_int8" in flags and os.environ.get("ZEROLANE_ISA") is None


needs_tiles = pytest.mark.skipif(not has_tiles(), reason="this CPU has no AMX, or it is off")


class Quantized:
    """A chain of quantized convolutions from `x` (float) to `y` (float)."""

    def __init__(self, shape: list[Any], seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = shape
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.value = "x"
        self.requantize(0.02, 128)

    def constant(self, array: NDArray[Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}_{op}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        return name

    def requantize(self, scale: float, zero: int, kind: Any = np.uint8) -> None:
        self.scale = np.float32(scale)
        pair = self.constant(np.asarray(self.scale)), self.constant(np.asarray(zero, kind))
        self.value = self.add(
            "DequantizeLinear", self.add("QuantizeLinear", self.value, *pair), *pair
        )

    def conv(
        self,
        ins: int,
        outs: int,
        kernel: tuple[int, ...] = (3, 3),
        *,
        bias: bool = True,
        relu: bool = True,
        weight_zero: int = 0,
        out: tuple[float, int] = (0.05, 0),
        group: int = 1,
        **attributes: Any,
    ) -> Quantized:
        integers = self.rng.integers(-127, 128, (outs, ins // group, *kernel), np.int8)
        scales = self.rng.uniform(0.001, 0.004, outs).astype(np.float32)
        zeros = np.full(outs, weight_zero, np.int8)
        w = self.add("DequantizeLinear", *map(self.constant, (integers, scales, zeros)), axis=0)
        operands = [self.value, w]
        if bias:
            values = self.rng.integers(-9000, 9000, outs, np.int32)
            parts = values, self.scale * scales, np.zeros(outs, np.int32)
            operands.append(self.add("DequantizeLinear", *map(self.constant, parts), axis=0))
        self.value = self.add("Conv", *operands, group=group, **attributes)
        if relu:
            self.value = self.add("Relu", self.value)
        self.requantize(*out)
        return self

    def model(self) -> Any:
        self.nodes[-1].output[0] = "y"
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            self.constants,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="here"
        )
        model.metadata_props.add(key="made", value="by hand")
        return model

    def bytes(self) -> bytes:
        data: bytes = self.model().SerializeToString()
        return data


def reference(model: bytes) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def sample(*shape: int, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def operators(tmp_path: Path, model: bytes, x: NDArray[Any], **options: Any) -> Counter[str]:
    """What runs, by the names of ONNX Runtime's profile."""
    session = zl.load(model, profile=str(tmp_path / "profile"), **options)
    session(x)
    events = json.loads(Path(session.end_profiling()).read_text())
    return Counter(
        event["args"]["op_name"]
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    )


NETS = {
    "plain": Quantized([1, 16, 9, 11]).conv(16, 32).conv(32, 24, (1, 1)),
    "one row of pixels": Quantized([1, 64, 1, 3]).conv(64, 40, (1, 1)),
    "batch": Quantized([5, 20, 7, 7]).conv(20, 64, (1, 1)).conv(64, 17, pads=[1, 1, 1, 1]),
    "strides": Quantized([2, 24, 23, 17])
    .conv(24, 48, pads=[1, 1, 1, 1], strides=[2, 2])
    .conv(48, 33, (1, 1), strides=[2, 2]),
    "dilations": Quantized([1, 12, 19, 20]).conv(
        12, 30, (3, 2), pads=[2, 0, 1, 3], dilations=[2, 3], strides=[1, 2]
    ),
    "few channels": Quantized([1, 3, 30, 30]).conv(
        3, 64, (7, 7), pads=[3, 3, 3, 3], strides=[2, 2]
    ),
    "no bias, zero point": Quantized([1, 70, 8, 8]).conv(
        70, 80, bias=False, relu=False, out=(0.07, 97)
    ),
    "one axis": Quantized([2, 32, 50])
    .conv(32, 40, (5,), pads=[2, 2])
    .conv(40, 20, (3,), strides=[2]),
    "saturated": Quantized([1, 32, 8, 8]).conv(32, 32, relu=False, out=(0.0005, 200)),
    "groups": Quantized([1, 16, 9, 9]).conv(16, 16, group=4).conv(16, 32),
    "zero points of weights": Quantized([1, 16, 9, 9]).conv(16, 16, weight_zero=3).conv(16, 32),
    "few filters": Quantized([1, 16, 9, 9]).conv(16, 4).conv(4, 16),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", NETS)
def test_the_same_bits(name: str, threads: int) -> None:
    model, shape = NETS[name].bytes(), NETS[name].shape
    session, wanted = zl.load(model, threads=threads), reference(model)
    for seed in range(3):
        x = sample(*shape, seed=seed) * (1 + seed)
        expected = wanted.run(None, {"x": x})[0]
        assert len(np.unique(expected)) > 1
        np.testing.assert_array_equal(session(x), expected)


@needs_tiles
@pytest.mark.parametrize(
    ("name", "tiles", "rest"),
    [
        ("plain", 2, 0),
        ("batch", 2, 0),
        ("strides", 2, 0),
        ("dilations", 1, 0),
        ("few channels", 1, 0),
        ("groups", 1, 1),
        ("zero points of weights", 1, 1),
        ("few filters", 1, 1),
    ],
)
def test_which_run_on_tiles(name: str, tiles: int, rest: int, tmp_path: Path) -> None:
    found = operators(tmp_path, NETS[name].bytes(), sample(*NETS[name].shape))
    assert (found["TileConv"], found["QLinearConv"]) == (tiles, rest)


@needs_tiles
def test_logs(caplog: pytest.LogCaptureFixture) -> None:
    """What the library warns of in a model is told; that it wrote one for this CPU is not."""
    model = NETS["groups"].model()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "unused"))
    with caplog.at_level(logging.INFO, "zerolane"):
        zl.load(model.SerializeToString())
    warned = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert any("unused" in message for message in warned)
    assert all("Serializing" not in message for message in warned)
    assert any("1 INT8 convolutions on AMX tiles" in each.getMessage() for each in caplog.records)


@needs_tiles
@pytest.mark.parametrize(
    "options",
    [
        {"graph_level": "extended"},
        {"graph_level": "none"},
        {"config": {"session.disable_quant_qdq": "1"}},
    ],
    ids=str,
)
def test_options_that_leave_them_to_onnxruntime(options: dict[str, Any], tmp_path: Path) -> None:
    x = sample(*NETS["plain"].shape)
    assert operators(tmp_path, NETS["plain"].bytes(), x, **options)["TileConv"] == 0


def test_a_file_of_the_optimized_model_is_onnxruntimes(tmp_path: Path) -> None:
    path = tmp_path / "optimized.onnx"
    zl.load(NETS["plain"].bytes(), config={"session.optimized_model_filepath": str(path)})
    domains = {node.domain for node in onnx.load(path).graph.node}
    assert not any(domain.startswith("zerolane") for domain in domains)
    reference(path.read_bytes())


def test_without_amx_the_same_bits(tmp_path: Path) -> None:
    x = sample(*NETS["strides"].shape)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "m.onnx").write_bytes(NETS["strides"].bytes())
    code = """
    import sys
    import numpy as np
    import zerolane as zl
    folder = sys.argv[1]
    session = zl.load(folder + "/m.onnx")
    np.save(folder + "/y.npy", session(np.load(folder + "/x.npy")))
    """
    child.run(code, tmp_path, env={"ZEROLANE_ISA": "avx512"})
    expected = reference(NETS["strides"].bytes()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
    np.testing.assert_array_equal(zl.load(tmp_path / "m.onnx")(x), expected)


def test_images_of_several_sizes() -> None:
    net = Quantized(["n", 16, "h", "w"]).conv(16, 32, pads=[1, 1, 1, 1], strides=[2, 2])
    model = net.conv(32, 20, (2, 3)).bytes()
    session, wanted = zl.load(model), reference(model)
    for shape in [(1, 16, 8, 8), (3, 16, 21, 9), (2, 16, 40, 33), (1, 16, 4, 6), (3, 16, 21, 9)]:
        x = sample(*shape)
        np.testing.assert_array_equal(session(x), wanted.run(None, {"x": x})[0])
    assert session(sample(0, 16, 8, 8)).shape == (0, 20, 3, 2)
    with pytest.raises(zl.Error):
        session(sample(1, 16, 1, 1))
    with pytest.raises(zl.Error):
        session(sample(1, 15, 8, 8))


def test_what_a_session_tells_is_of_the_model() -> None:
    model = Quantized(["n", 16, 9, "w"]).conv(16, 32).bytes()
    session, plain = zl.load(model), zl.load(model, graph_level="none")
    assert session.inputs == plain.inputs
    assert session.outputs == plain.outputs
    assert session.metadata == plain.metadata
    assert session.metadata["custom"] == {"made": "by hand"}


def test_free_dimensions() -> None:
    model = Quantized(["n", 16, 9, 9]).conv(16, 32).bytes()
    session = zl.load(model, free_dimensions={"n": 2})
    assert session.inputs[0].shape == (2, 16, 9, 9)
    x = sample(2, 16, 9, 9)
    np.testing.assert_array_equal(session(x), reference(model).run(None, {"x": x})[0])


def test_files_with_external_data(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(
        NETS["plain"].model(), path, save_as_external_data=True, location="m.bin", size_threshold=64
    )
    x = sample(*NETS["plain"].shape)
    expected = reference(NETS["plain"].bytes()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(zl.load(path)(x), expected)


def test_weights_of_two_convolutions() -> None:
    net = Quantized([1, 24, 9, 9]).conv(24, 24, pads=[1, 1, 1, 1]).conv(24, 24, pads=[1, 1, 1, 1])
    model = net.model()
    first, second = (node for node in model.graph.node if node.op_type == "Conv")
    second.input[1] = first.input[1]
    data = model.SerializeToString()
    x = sample(1, 24, 9, 9)
    np.testing.assert_array_equal(zl.load(data)(x), reference(data).run(None, {"x": x})[0])


def test_many_threads_on_one_session() -> None:
    model = (
        Quantized(["n", 32, 20, 20]).conv(32, 48, pads=[1, 1, 1, 1]).conv(48, 32, (1, 1)).bytes()
    )
    wanted = reference(model)
    rows = [sample(1 + seed % 3, 32, 20, 20, seed=seed) for seed in range(6)]
    expected = [wanted.run(None, {"x": x})[0] for x in rows]
    for threads in (1, 2):
        session = zl.load(model, threads=threads)
        start = threading.Barrier(len(rows))

        def body(index: int, session: zl.Session = session, start: Any = start) -> None:
            start.wait()
            for _ in range(20):
                np.testing.assert_array_equal(session(rows[index]), expected[index])

        with ThreadPoolExecutor(len(rows)) as pool:
            for future in [pool.submit(body, index) for index in range(len(rows))]:
                future.result(timeout=120)


def test_after_a_fork_and_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(NETS["batch"].bytes())
    code = """
    import os, pickle, sys
    import numpy as np
    import zerolane as zl
    x = np.ones((5, 20, 7, 7), np.float32)
    session = zl.load(sys.argv[1])
    expected = np.array(session(x))
    pid = os.fork()
    if pid == 0:
        same = np.array_equal(zl.load(sys.argv[1], threads=1)(x), expected)
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert np.array_equal(session(x), expected)
    """
    child.run(code, path)
    x = sample(5, 20, 7, 7)
    session = zl.load(path)
    again = pickle.loads(pickle.dumps(session))
    np.testing.assert_array_equal(again(x), session(x))


def test_a_damaged_model_is_told_as_ever() -> None:
    data = bytearray(NETS["plain"].bytes())
    with pytest.raises(zl.InvalidModel):
        zl.load(bytes(data[: len(data) // 2]))
    model = NETS["plain"].model()
    model.graph.node[-1].input[0] = "nowhere"
    with pytest.raises(zl.InvalidModel, match="nowhere"):
        zl.load(model.SerializeToString())
    model = NETS["plain"].model()
    model.graph.node.append(helper.make_node("Scale", ["y"], ["z"], domain="not.there"))
    with pytest.raises(zl.NotFound, match=r"not\.there::Scale"):
        zl.load(model.SerializeToString())


def test_no_file_stays_open() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    model = NETS["plain"].bytes()
    zl.load(model, threads=1)
    before = descriptors()
    sessions = [zl.load(model, threads=1) for _ in range(3)]
    assert descriptors() == before
    assert len(sessions) == 3


@needs_tiles
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler `cc` on PATH")
def test_runs_take_no_heap_memory_of_their_own(tmp_path: Path) -> None:
    """No more heap blocks in a bound call than ONNX Runtime's own kernels take."""
    native = pytest.importorskip("bench.native", reason="bench/ holds the counting library")
    path = tmp_path / "m.onnx"
    net = Quantized([2, 24, 23, 17]).conv(24, 48, pads=[1, 1, 1, 1], strides=[2, 2])
    path.write_bytes(net.conv(48, 33, (1, 1)).conv(33, 40, pads=[1, 1, 1, 1]).bytes())
    code = """
    import ctypes, sys
    import numpy as np
    import zerolane as zl
    taken = ctypes.CDLL(None).allocations_taken
    taken.restype = ctypes.c_long
    binding = zl.load(sys.argv[1], threads=1).bind(x=(2, 24, 23, 17), gil="hold")
    for count in (50, 200):
        before = taken()
        for _ in range(count):
            binding()
    print((taken() - before) / 200)
    """
    counter = {"LD_PRELOAD": str(native.allocation_counter()), "PYTHONMALLOC": "malloc"}
    with_tiles, without = (
        float(child.run(code, path, env=counter | {"ZEROLANE_ISA": isa})) for isa in ("", "avx512")
    )
    assert with_tiles <= without + 0.1
