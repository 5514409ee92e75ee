"""Whether a model is one: onnx's checker and its strict inference, on light models."""

from __future__ import annotations

import onnx
from onnx import ModelProto, TensorProto

from zerolane.errors import InvalidModel
from zerolane.model_file import tensors_of


def complaint(model: ModelProto) -> str | None:
    """What onnx's checker has against the model, None for nothing.

    Payloads are not looked at, and unlike for the checker an input may have any rank, as in ONNX
    Runtime. onnx's inference must not see a model that fails: it crashes on some.
    """
    light = ModelProto()
    light.CopyFrom(model)
    for tensor in tensors_of(light):
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.CopyFrom(TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0]))
    for value in light.graph.input:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(light)
    except Exception as error:  # its C++ side raises several kinds
        return _first_line(error)
    return None


def require_valid(model: ModelProto, doing: str, name: str) -> None:
    """Raise InvalidModel for a model that onnx's checker refuses."""
    refused = complaint(model)
    if refused is not None:
        raise InvalidModel(
            f"{doing}: onnx's checker refuses it ({refused}), expected a valid model; export it "
            "again, or repair it",
            name,
        )


def type_complaint(model: ModelProto) -> str | None:
    """What onnx's strict inference of types and shapes has against a model without complaint."""
    try:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except Exception as error:  # as above
        return _first_line(error)
    return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
