"""From a pruned ONNX file to the PyTorch module it was exported from, and back: for fine-tuning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerolane._lazy import require
from zerolane.errors import InvalidArgument

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from zerolane.model_file import Source

_SIZES: dict[str, tuple[str, str]] = {
    # Attributes that follow the two first sizes of `weight`.
    "Linear": ("out_features", "in_features"),
    **{f"Conv{n}d": ("out_channels", "in_channels") for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": ("in_channels", "out_channels") for n in (1, 2, 3)},
    **{f"BatchNorm{n}d": ("num_features", "") for n in (1, 2, 3)},
    **{f"InstanceNorm{n}d": ("num_features", "") for n in (1, 2, 3)},
    "PReLU": ("num_parameters", ""),
}


def to_torch(model: Source, module: torch.nn.Module, *, freeze_zeros: bool = True) -> list[str]:
    """Put the weights of an ONNX file into the module it was exported from, in place.

    Initializers and the module's parameters and buffers go together by name, as torch.onnx.export
    names them; a bias that recovery added becomes a parameter of its layer. Where channels were
    pruned, parameters, and sizes such as `out_channels`, become those of the file; a module whose
    `forward` has sizes written in it has to be told by hand.

    freeze_zeros: gradients of weights that are zero become zero, so that training (with plain
        weight decay too) leaves masks and the 2:4 pattern as they are.
    Returns the names that were set. Raises InvalidArgument, with the module as it was, where a
    parameter has no initializer, or one of another rank.
    """
    require("torch", "torch", "putting weights into a module")
    import numpy as np
    import torch

    arrays = _arrays(model, "to_torch")
    named: dict[str, Any] = dict(module.named_parameters(remove_duplicate=False))
    named |= dict(module.named_buffers(remove_duplicate=False))
    known = {name: value for name, value in named.items() if name in arrays}
    missing = [n for n, v in named.items() if n not in arrays and v.ndim]
    wrong = [n for n, v in known.items() if v.ndim != arrays[n].ndim]
    if missing or wrong:
        raise InvalidArgument(
            f"putting weights into a {type(module).__name__}: parameter {(missing or wrong)[0]!r} "
            f"{'is not in the file' if missing else 'has another rank there'}, expected an "
            "initializer of its name for each; export with torch.onnx.export(..., "
            "do_constant_folding=False) and batch norms folded in the module, if at all",
            (missing or wrong)[0],
        )
    owners = dict(module.named_modules())
    for name, old in known.items():
        value = torch.from_numpy(np.array(arrays[name])).to(old.device, old.dtype)
        owner, _, own = name.rpartition(".")
        if isinstance(old, torch.nn.Parameter):
            parameter = torch.nn.Parameter(value, requires_grad=old.requires_grad)
            setattr(owners[owner], own, parameter)
            if freeze_zeros and old.requires_grad and bool((value == 0).any()):
                hooked: Any = parameter
                hooked.register_hook(_keeping_zeros((value != 0).to(value.dtype)))
        else:
            owners[owner].register_buffer(own, value)
    for place in owners.values():
        _resize(place)
    return [*known]


def from_torch(module: torch.nn.Module, model: Source, output: str | os.PathLike[str]) -> None:
    """Write the ONNX file anew with the weights of the fine-tuned module, by name.

    model: the file that `to_torch` read. Raises InvalidArgument where a shape is another.
    """
    require("torch", "torch", "taking weights from a module")
    from zerolane import model_file as files
    from zerolane.optimize.provenance import stamp
    from zerolane.optimize.pruning.flow import set_array

    loaded = files.read(model, "from_torch")
    doing = f"taking weights from a {type(module).__name__}"
    state = {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}
    for tensor in loaded.model.graph.initializer:
        array = state.get(tensor.name)
        if array is None:
            continue
        if array.shape != tuple(tensor.dims):
            raise InvalidArgument(
                f"{doing}: {tensor.name!r} is {[*array.shape]}, expected {[*tensor.dims]}; give "
                "the file that to_torch read",
                tensor.name,
            )
        set_array(tensor, loaded.payloads, array)
    stamp(loaded.model, "from_torch", {}, loaded, ("onnx", "torch"))
    path = Path(output)
    with files.replacing(path, loaded.files, doing) as fresh:
        files.write(loaded.model, loaded.payloads, fresh, external=loaded.external)


def _arrays(model: Source, doing: str) -> dict[str, NDArray[Any]]:
    from zerolane import model_file as files
    from zerolane.optimize.pruning.flow import array_of

    loaded = files.read(model, doing)
    return {t.name: array_of(t, loaded.payloads) for t in loaded.model.graph.initializer}


def _keeping_zeros(mask: torch.Tensor) -> Any:
    return lambda slope: slope * mask.to(slope.device)


def _resize(place: torch.nn.Module) -> None:
    names = _SIZES.get(type(place).__name__)
    weight: Any = getattr(place, "weight", None)
    if names is None or weight is None:
        return
    groups = getattr(place, "groups", 1)
    own: Any = place
    if groups > 1 and groups == own.in_channels:  # depthwise: as many groups as channels are left
        own.groups = groups = len(weight) // (own.out_channels // own.in_channels)
    for axis, name in enumerate(names):
        if name:
            count = weight.shape[axis] * (groups if groups > 1 and axis == 1 else 1)
            setattr(place, name, count)
