"""TensorRT-RTX takes what the pass writes: parsed strongly typed, built without a GPU.

The parser runs in a process of its own, because a vendor library may crash.
"""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are converted with onnx")
if find_spec("tensorrt_rtx_bindings") is None:
    pytest.skip("the package tensorrt-rtx-cu13 is not installed", allow_module_level=True)

import zerolane as zl  # noqa: E402
from tests import child  # noqa: E402
from tests.models import large  # noqa: E402
from tests.models.task_checks import FOLDER, case_inputs  # noqa: E402
from tests.optimize import graphs, rewrites  # noqa: E402
from tests.optimize.test_operators import cases  # noqa: E402

NETWORKS = ("digits_mlp", "digits_cnn", "digit_det", "line_ctc", "stream_vad", "ttt_policy")
NAMES = {"fp16": "HALF", "bf16": "BF16"}
both = pytest.mark.parametrize("dtype", ["fp16", "bf16"])

JUDGE = """
import json, sys
import tensorrt_rtx_bindings as trt

class Quiet(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)
    def log(self, severity, message):
        pass

quiet = Quiet()
builder = trt.Builder(quiet)
for path in sys.argv[2:]:
    print("START", path, flush=True)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, quiet)
    told = {"path": path, "parsed": parser.parse_from_file(path), "bytes": 0, "error": ""}
    if not told["parsed"]:
        told["error"] = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
    told["inputs"] = [network.get_input(i).dtype.name for i in range(network.num_inputs)]
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    tensors = [l.get_output(i) for l in layers for i in range(l.num_outputs)]
    told["types"] = [t.dtype.name for t in tensors if t is not None]
    if told["parsed"] and sys.argv[1] == "build":
        config = builder.create_builder_config()
        profile = builder.create_optimization_profile()
        for i in range(network.num_inputs):
            tensor = network.get_input(i)
            if -1 in tuple(tensor.shape):
                shape = [64 if d == -1 and k > 1 else 2 if d == -1 else d
                         for k, d in enumerate(tensor.shape)]
                profile.set_shape(tensor.name, shape, shape, shape)
        config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        told["bytes"] = plan.nbytes if plan is not None else 0
    print("TOLD", json.dumps(told), flush=True)
    del parser, network
"""


def judge(what: str, *paths: Path) -> list[dict[str, Any]]:
    """What the library says to each file, in order: parsed, error, types, bytes of the plan."""
    process = child.start(JUDGE, what, *paths)
    out, err = process.communicate(timeout=300)
    last = out.splitlines()[-1] if out else "nothing"
    assert process.returncode == 0, f"the library ended the process after {last}: {err[-2000:]}"
    return [json.loads(line[5:]) for line in out.splitlines() if line.startswith("TOLD ")]


def convert(model: Any, dtype: str, path: Path, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return getattr(zl.optimize, dtype)(model, path, **options)


@both
@pytest.mark.parametrize("name", NETWORKS)
def test_trained_models_build(name: str, dtype: str, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    convert(FOLDER / f"{name}.onnx", dtype, out, samples=case_inputs(name))
    (told,) = judge("build", out)
    assert told["parsed"], told["error"]
    assert told["bytes"] > 10_000
    assert NAMES[dtype] not in told["inputs"]
    assert told["types"].count(NAMES[dtype]) > told["types"].count("FLOAT") or name == "stream_vad"


def test_what_the_graph_passes_write_builds(tmp_path: Path) -> None:
    """Trained models, then one whose batch was fixed and is free, in half precision too."""
    pytest.importorskip("onnxslim")
    paths = []
    for name in NETWORKS:
        paths.append(tmp_path / f"{name}.onnx")
        source = FOLDER / f"{name}.onnx"
        assert not zl.optimize.graph(source, paths[-1], samples=case_inputs(name)).refused
    for make in (rewrites.image_net, rewrites.attention_net):
        paths.append(tmp_path / f"{make.__name__}.onnx")
        zl.optimize.graph(make(), paths[-1], batch="N")
        paths.append(tmp_path / f"{make.__name__}16.onnx")
        convert(paths[-2], "fp16", paths[-1])
    for told in judge("build", *paths):
        assert told["parsed"], told["error"]
        assert told["bytes"] > 5_000


@both
def test_a_transformer_builds(dtype: str, tmp_path: Path) -> None:
    ones = np.ones((2, 12), np.int64)
    report = convert(
        large.text_embed(),
        dtype,
        tmp_path / "m.onnx",
        samples={"input_ids": ones, "attention_mask": ones},
    )
    (told,) = judge("build", tmp_path / "m.onnx")
    assert told["parsed"], told["error"]
    assert told["bytes"] > 0.9 * report.bytes_after
    assert told["types"].count(NAMES[dtype]) > 60


@both
@pytest.mark.parametrize("architecture", ["resnet50", "squeezenet"])
def test_light_architectures_build(architecture: str, dtype: str, tmp_path: Path) -> None:
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    source = folder / f"light_{architecture}.onnx"
    if not source.exists():
        pytest.skip("this release of onnx does not ship its light models")
    convert(source, dtype, tmp_path / "m.onnx", verify=False)
    graphs.assert_tidy(onnx.load(tmp_path / "m.onnx"))
    (told,) = judge("build", tmp_path / "m.onnx")
    assert told["parsed"], told["error"]
    assert told["bytes"] > 10_000


@both
def test_control_flow_functions_and_quantized_models(dtype: str, tmp_path: Path) -> None:
    paths = []
    for make in (
        graphs.if_model,
        graphs.loop_model,
        graphs.scan_model,
        graphs.function_model,
        graphs.quantized_model,
    ):
        for keep_io in (True, False):
            paths.append(tmp_path / f"{make.__name__}{keep_io}.onnx")
            convert(make(), dtype, paths[-1], verify=False, keep_io=keep_io)
    told = judge("parse", *paths)
    assert len(told) == len(paths)
    assert [(t["path"], t["error"]) for t in told if not t["parsed"]] == []
    assert all(NAMES[dtype] in t["types"] for t in told)


@both
def test_every_operator_that_it_takes_in_float32(dtype: str, tmp_path: Path) -> None:
    """An operator that parses in float32 parses after the pass too: converted, or kept."""
    pairs = []
    for name, model, inputs in cases():
        pairs.append((tmp_path / f"{name}.onnx", tmp_path / f"{name}.{dtype}.onnx"))
        onnx.save(model, pairs[-1][0])
        convert(model, dtype, pairs[-1][1], verify=False, samples=inputs)
    originals = judge("parse", *(a for a, _ in pairs))
    results = judge("parse", *(b for _, b in pairs))
    taken = [
        (result["path"], result["error"])
        for original, result in zip(originals, results, strict=True)
        if original["parsed"] and not result["parsed"]
    ]
    assert taken == []
    assert sum(t["parsed"] for t in results) > 90
