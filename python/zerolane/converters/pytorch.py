"""PyTorch modules and exported programs, through torch's own exporter."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onnx import ModelProto

from zerolane._lazy import require
from zerolane.converters.origin import Arrays, Dynamic, Wishes, array, named
from zerolane.converters.quiet import quiet
from zerolane.errors import InvalidArgument, InvalidModel, Unsupported

_EXTRA = "torch"
_OPSET = 18  # which torch's exporter is written in; others are converted from it


def load_program(path: Path, doing: str) -> Any:
    """The exported program in a .pt2 file."""
    torch = require("torch", _EXTRA, doing)
    try:
        with quiet("torch.onnx"):
            return torch.export.load(path)
    except Exception as error:  # zip, pickle and torch's own
        raise InvalidModel(
            f"{doing}: torch {torch.__version__} does not read it ({_line(error)}), expected what "
            "torch.export.save writes; save it again with this release",
            str(path),
        ) from error


class PyTorch:
    """A module or an exported program. The module is run as in eval() and left as it was."""

    framework = "PyTorch"

    def __init__(self, model: Any, sample: Any, doing: str) -> None:
        self._torch = require("torch", _EXTRA, doing)
        require("onnxscript", _EXTRA, doing)
        self.doing = doing
        self.versions = {
            name: str(require(name, _EXTRA, doing).__version__) for name in ("torch", "onnxscript")
        }
        self._program = model if isinstance(model, self._torch.export.ExportedProgram) else None
        self._module = model.module() if self._program is not None else model
        if self._program is not None and sample is None:
            args, kwargs = self._program.example_inputs or ((), {})
            sample = {**dict(zip(self._names(), args, strict=False)), **kwargs}
        if sample is None:
            raise InvalidArgument(
                f"{doing}: no sample was given, expected inputs to trace the module with; give "
                "sample= with arrays or tensors in the order of forward()",
                "sample",
            )
        self.sample = named(sample, self._names(), doing)

    def _names(self) -> list[str]:
        if self._program is not None:
            return list(self._program.graph_signature.user_inputs)
        found = []
        for parameter in inspect.signature(self._module.forward).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise Unsupported(
                    f"{self.doing}: forward() takes *{parameter.name}, expected named parameters "
                    "to name the inputs by; wrap the module in one whose forward() names them",
                    parameter.name,
                )
            found.append(parameter.name)
        return found

    def free_axes(self) -> Dynamic | None:
        """Those of an exported program, under torch's own names."""
        if self._program is None:
            return None
        free: dict[str, dict[int, str]] = {}
        for node in self._program.graph.nodes:
            if node.op == "placeholder" and node.name in self.sample:
                shape = node.meta["val"].shape
                axes = {i: str(d) for i, d in enumerate(shape) if not isinstance(d, int)}
                free[node.name] = axes
        return free

    def export(self, wishes: Wishes) -> ModelProto:
        torch = self._torch
        tensors = {name: torch.from_numpy(v.copy()) for name, v in wishes.sample.items()}
        given: dict[str, Any] = {"dynamo": True, "verbose": False, "optimize": True}
        given["opset_version"] = wishes.opset or _OPSET
        if wishes.outputs:
            given["output_names"] = list(wishes.outputs)
        shapes = {name: dict(wishes.dynamic.get(name, {})) for name in tensors}
        try:
            with quiet("torch.onnx"), self._as_eval(), torch.no_grad():
                if self._program is not None:
                    made = torch.onnx.export(self._program, **given)
                else:
                    made = torch.onnx.export(
                        self._module, kwargs=tensors, dynamic_shapes=shapes, **given
                    )
                model: ModelProto = made.model_proto
        except Exception as error:  # torch raises dozens of kinds
            raise Unsupported(
                f"{self.doing}: torch {torch.__version__} does not export it ({_line(error)}), "
                f"expected a module that torch.export can trace with {_shapes(wishes)}; free "
                "fewer dimensions with dynamic=, or try torch.export.export on it",
                type(self._module).__name__,
            ) from error
        return model

    def run(self, inputs: Arrays) -> list[Any]:
        torch = self._torch
        tensors = {name: torch.from_numpy(v.copy()) for name, v in inputs.items()}
        args = [tensors.pop(name) for name in self._positional(tensors)]
        with quiet("torch.onnx"), self._as_eval(), torch.no_grad():
            made = self._module(*args, **tensors)
        return [array(leaf) for leaf in torch.utils._pytree.tree_leaves(made)]

    def _positional(self, given: dict[str, Any]) -> list[str]:
        """A program takes its arguments only in the way that it was exported with."""
        if self._program is None:
            return []
        args = (self._program.example_inputs or ((), {}))[0]
        return list(given)[: len(args)]

    @contextlib.contextmanager
    def _as_eval(self) -> Iterator[None]:
        if self._program is not None:  # its graph is fixed in either mode
            yield
            return
        modes = {module: module.training for module in self._module.modules()}
        self._module.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


def _shapes(wishes: Wishes) -> str:
    return ", ".join(f"{name} {list(v.shape)}" for name, v in wishes.sample.items())


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
