"""ONNX Runtime's own optimized model, which fits one machine and one release."""

from __future__ import annotations

import platform
from pathlib import Path

from zerolane import model_file as files
from zerolane._lazy import require
from zerolane.errors import Unsupported
from zerolane.optimize.provenance import stamp

BOUND_TO = "zerolane.bound_to"
"""Key in the metadata of a file that is for one machine and one release of ONNX Runtime."""


def offline(model: Path, output: Path, source: files.Loaded, doing: str) -> str:
    """Have ONNX Runtime write `model` as its CPU provider would run it; a sentence about it.

    The file may hold operators of the domain com.microsoft, and layouts that fit this processor: it
    says in its metadata what it is bound to, and is to be loaded with graph_level="none".
    """
    ort = require("onnxruntime", "cpu", f"{doing}: writing ONNX Runtime's optimized model")
    with files.replacing(output, source.files, doing) as path:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        made = path.with_name("made.onnx")
        options.optimized_model_filepath = str(made)
        if source.external:
            options.add_session_config_entry(
                "session.optimized_model_external_initializers_file_name", "made.onnx.data"
            )
        try:
            ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # what its C++ side raises
            raise Unsupported(
                f"{doing}: ONNX Runtime {ort.__version__} does not write its optimized model "
                f"({str(error).splitlines()[0]}), expected a model that it loads; leave "
                "onnxruntime_offline out",
                str(output),
            ) from error
        loaded = files.read(made, doing)
        bound = f"onnxruntime {ort.__version__}, {platform.machine()}, {_processor()}"
        entry = loaded.model.metadata_props.add(key=BOUND_TO)
        entry.value = bound
        stamp(loaded.model, "onnxruntime_offline", {}, source, tools={"onnxruntime"})
        count = len([n for n in loaded.model.graph.node if n.op_type != "Constant"])
        files.write(loaded.model, loaded.payloads, path, external=source.external)
        made.unlink()
        made.with_name("made.onnx.data").unlink(missing_ok=True)
    return (
        f"{output.name}: {count} nodes as ONNX Runtime runs them, bound to {bound}; load it with "
        'graph_level="none"'
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
