# SPDX-License-Identifier: Apache-2.0
"""torch on the same model, eager and as a CUDA graph: the file becomes straight-line Python."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.environment import package_version
from bench.rivals.contract import Feed, Form, Unsupported

ELEMENTWISE = {"Relu": "F.relu", "Tanh": "torch.tanh", "Sigmoid": "torch.sigmoid"}
BINARY = {"Add": "+", "Mul": "*", "Sub": "-", "MatMul": "@"}


class Translation:
    """A function of torch tensors that computes an ONNX graph; raises Unsupported for other ops."""

    def __init__(self, path: Path) -> None:
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(path).graph
        self.weights = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.inputs = [i.name for i in graph.input if i.name not in self.weights]
        self.outputs = [o.name for o in graph.output]
        self._names: dict[str, str] = {}
        lines = [self._line(node, onnx.helper, numpy_helper) for node in graph.node]
        head = f"def forward({', '.join(self._name(n) for n in self.inputs)}):"
        tail = f"    return ({', '.join(self._name(n) for n in self.outputs)},)"
        self.source = "\n".join([head, *(f"    {line}" for line in lines if line), tail])

    def function(self, device: str) -> Callable[..., tuple[Any, ...]]:
        import torch
        import torch.nn.functional as functional

        names: dict[str, Any] = {"torch": torch, "F": functional}
        for name, array in self.weights.items():
            names[self._name(name)] = torch.from_numpy(np.array(array)).to(device)
        exec(compile(self.source, "<from onnx>", "exec"), names)
        found: Callable[..., tuple[Any, ...]] = names["forward"]
        return found

    def _name(self, value: str) -> str:
        return self._names.setdefault(value, f"v{len(self._names)}")

    def _constant(self, value: str) -> list[int]:
        if value not in self.weights:
            raise Unsupported("torch: a shape or axis that is computed is not translated")
        return [int(v) for v in np.atleast_1d(self.weights[value])]

    def _line(self, node: Any, helper: Any, numpy_helper: Any) -> str:
        a = {x.name: helper.get_attribute_value(x) for x in node.attribute}
        if node.op_type == "Constant":
            self.weights[node.output[0]] = numpy_helper.to_array(a["value"])
            return ""
        x = [self._name(n) for n in node.input if n]
        return f"{self._name(node.output[0])} = {self._expression(node, a, x)}"

    def _expression(self, node: Any, a: dict[str, Any], x: list[str]) -> str:
        op = node.op_type
        if op in ELEMENTWISE:
            return f"{ELEMENTWISE[op]}({x[0]})"
        if op in BINARY:
            return f"{x[0]} {BINARY[op]} {x[1]}"
        if op == "Identity":
            return x[0]
        if op == "Conv":
            bias = x[2] if len(x) > 2 else "None"
            pads = self._pads(a)
            strides, dilations = (
                a.get("strides", [1] * len(pads)),
                a.get("dilations", [1] * len(pads)),
            )
            function = {1: "F.conv1d", 2: "F.conv2d"}.get(len(pads))
            if function is None:
                raise Unsupported("torch: a convolution of this rank is not translated")
            return (
                f"{function}({x[0]}, {x[1]}, {bias}, {tuple(strides)}, {pads}, "
                f"{tuple(dilations)}, {a.get('group', 1)})"
            )
        if op == "MaxPool" and not a.get("ceil_mode"):
            kernel = a["kernel_shape"]
            strides = tuple(a.get("strides", [1] * len(kernel)))
            return f"F.max_pool{len(kernel)}d({x[0]}, {tuple(kernel)}, {strides}, {self._pads(a)})"
        if op == "GlobalAveragePool":
            return f"{x[0]}.mean((2, 3), keepdim=True)"
        if op == "ReduceMean":
            axes = self._constant(node.input[1]) if len(node.input) > 1 else list(a["axes"])
            return f"{x[0]}.mean({tuple(axes)}, keepdim={bool(a.get('keepdims', 1))})"
        if op == "Flatten":
            return f"{x[0]}.flatten({a.get('axis', 1)})"
        if op == "Reshape":
            shape = self._constant(node.input[1])
            if a.get("allowzero") and 0 in shape:
                raise Unsupported("torch: a reshape to nothing is not translated")
            sizes = [f"{x[0]}.shape[{i}]" if d == 0 else str(d) for i, d in enumerate(shape)]
            return f"{x[0]}.reshape({', '.join(sizes)})"
        if op == "Squeeze":
            axes = self._constant(node.input[1]) if len(node.input) > 1 else list(a["axes"])
            return f"{x[0]}.squeeze({tuple(axes)})"
        if op == "Transpose":
            return f"{x[0]}.permute({tuple(a['perm'])})"
        if op == "LogSoftmax":
            return f"F.log_softmax({x[0]}, {a.get('axis', -1)})"
        if (
            op == "Gemm"
            and a.get("alpha", 1.0) == a.get("beta", 1.0) == 1.0
            and not a.get("transA")
        ):
            right = f"{x[1]}.t()" if a.get("transB") else x[1]
            return f"torch.addmm({x[2]}, {x[0]}, {right})" if len(x) > 2 else f"{x[0]} @ {right}"
        raise Unsupported(f"torch: {op} is not translated")

    @staticmethod
    def _pads(a: dict[str, Any]) -> tuple[int, ...]:
        pads = list(a.get("pads", [0] * 2 * len(a["kernel_shape"])))
        half = len(pads) // 2
        padding = a.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"")
        if padding or pads[:half] != pads[half:]:
            raise Unsupported("torch: uneven padding is not translated")
        return tuple(pads[:half])


class TorchHandle:
    def __init__(self, path: Path) -> None:
        import torch

        if not torch.cuda.is_available():
            raise ImportError("this torch has no CUDA")
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        self._torch = torch
        self._translation = Translation(path)
        self._forward = self._translation.function("cuda")

    def form(self, kind: str, inputs: Feed, wanted: Feed) -> Form:
        if kind == "run":
            lane = self.lane(inputs, wanted)
            return Form("torch.host graph", lambda: self._named(lane()), lane)
        torch = self._torch
        xs = self._on_device(inputs)
        forward, wait = self._forward, torch.cuda.current_stream().synchronize
        if kind == "eager":

            @torch.inference_mode()  # type: ignore[untyped-decorator]
            def call() -> Any:
                ys = forward(*xs)
                wait()
                return ys

            return Form("torch.eager", lambda: self._named(call()), call)
        graph, ys = self._capture(xs)

        def replay() -> Any:
            graph.replay()
            wait()
            return ys

        return Form("torch.graph", lambda: self._named(replay()), replay)

    def lane(self, inputs: Feed, wanted: Feed) -> Callable[[], Any]:
        """Pinned memory, copies and a graph on a stream of its own."""
        torch = self._torch
        xs = self._on_device(inputs)
        stream = torch.cuda.Stream()
        graph, ys = self._capture(xs)
        sources = [
            torch.from_numpy(np.array(inputs[n])).pin_memory() for n in self._translation.inputs
        ]
        targets = [torch.empty(y.shape, dtype=y.dtype, pin_memory=True) for y in ys]
        entered = threading.local()

        def call() -> Any:
            if not hasattr(entered, "done"):  # the current stream is each thread's own
                torch.cuda.set_stream(stream)
                entered.done = True
            for x, source in zip(xs, sources, strict=True):
                x.copy_(source, non_blocking=True)
            graph.replay()
            for target, y in zip(targets, ys, strict=True):
                target.copy_(y, non_blocking=True)
            stream.synchronize()
            return targets

        return call

    def _capture(self, xs: list[Any]) -> tuple[Any, Any]:
        torch = self._torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode(), torch.cuda.stream(side):
            for _ in range(3):
                self._forward(*xs)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph, stream=side):
            ys = self._forward(*xs)
        torch.cuda.synchronize()
        return graph, ys

    def _on_device(self, inputs: Feed) -> list[Any]:
        torch = self._torch
        return [torch.from_numpy(np.array(inputs[n])).cuda() for n in self._translation.inputs]

    def _named(self, ys: Any) -> Feed:
        arrays = [y.cpu().numpy().copy() for y in ys]
        return dict(zip(self._translation.outputs, arrays, strict=True))


class TorchDriver:
    name = "torch"
    kinds: tuple[str, ...] = ("graph", "eager", "run")

    def version(self) -> str:
        return package_version("torch") or "unknown"

    def load(self, path: Path, threads: int) -> TorchHandle:
        return TorchHandle(path)
