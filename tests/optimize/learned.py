"""A residual network for 8x8 digits, trained here with NumPy alone in seconds."""

from __future__ import annotations

import tempfile
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tests import child
from tests.models.scenes import held_back_digits
from tests.optimize.nets import Net

Array = NDArray[np.float32]
CALIBRATION = 297
"""Digits to learn from and to recover with; the other 100 judge."""

_COPIES = 5


def digits() -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Images [N,1,8,8] with noise, and labels: to learn from, and others to judge by."""
    data = held_back_digits()
    rng = np.random.default_rng(0)
    order = np.tile(rng.permutation(len(data.images)), (_COPIES, 1))
    images = data.images[order][:, :, None]
    images = images + rng.normal(0, 0.1, images.shape).astype(np.float32)
    labels = data.labels[order]

    def part(rows: slice) -> tuple[Array, Array]:
        return images[:, rows].reshape(-1, 1, 8, 8), labels[:, rows].ravel()

    return part(slice(None, CALIBRATION)), part(slice(CALIBRATION, None))


def train(width: int, steps: int, seed: int = 0) -> dict[str, Array]:
    """Weights by name, trained with Adam on random batches of 64."""
    rng = np.random.default_rng(seed)
    images, labels = digits()[0]
    sizes = {"a": (width, 1), "b": (width, width), "c": (width, width), "d": (2 * width, width)}
    w: dict[str, Any] = {}
    for name, (outs, ins) in sizes.items():
        w[name] = rng.normal(0, np.sqrt(2 / (9 * ins)), (outs, ins * 9)).astype(np.float32)
        w[name + "0"] = np.zeros(outs, np.float32)
    w["e"] = rng.normal(0, 1 / np.sqrt(width), (10, 2 * width)).astype(np.float32)
    w["e0"] = np.zeros(10, np.float32)
    first = {name: np.zeros_like(v) for name, v in w.items()}
    second = {name: np.zeros_like(v) for name, v in w.items()}
    for step in range(1, steps + 1):
        batch = rng.integers(0, len(images), 64)
        for name, slope in _slopes(w, images[batch], labels[batch]).items():
            first[name] += 0.1 * (slope - first[name])
            second[name] += 0.01 * (slope**2 - second[name])
            size = float(4e-3 * (1 - 0.99**step) ** 0.5 / (1 - 0.9**step))
            w[name] = w[name] - size * first[name] / (np.sqrt(second[name]) + 1e-8)
    return w


@cache
def model(width: int = 32, steps: int = 200) -> onnx.ModelProto:
    """The trained network: image [N,1,8,8] as "x", logits [N,10]."""
    w = _trained_apart(width, steps)
    net = Net(("N", 1, 8, 8))

    def conv(x: str, name: str, ins: int) -> str:
        weight = net.constant(w[name].reshape(-1, ins, 3, 3).astype(np.float32))
        bias = net.constant(w[name + "0"].astype(np.float32))
        return str(net.add("Conv", x, weight, bias, pads=[1] * 4))

    a = net.add("Relu", conv("x", "a", 1))
    a = net.add("AveragePool", a, kernel_shape=[2, 2], strides=[2, 2])
    b = net.add("Relu", conv(a, "b", width))
    c = net.add("Relu", net.add("Add", conv(b, "c", width), a))
    d = net.add("Flatten", net.add("GlobalAveragePool", net.add("Relu", conv(c, "d", width))))
    last = [net.constant(w[n].astype(np.float32)) for n in ("e", "e0")]
    return net.model(net.add("Gemm", d, *last, transB=1))


def _trained_apart(width: int, steps: int) -> dict[str, Array]:
    """In a process whose BLAS has one thread: more wait for each other more than they compute."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/weights.npz"
        code = f"""
        import numpy as np
        from tests.optimize import learned
        np.savez({path!r}, **learned.train({width}, {steps}))
        """
        one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        child.run(code, env=one)
        with np.load(path) as file:
            return dict(file)


def _windows(x: Array) -> Array:
    """[N,C,H,W] to [N,H,W,C*9]."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    view = sliding_window_view(padded, (3, 3), (2, 3)).transpose(0, 2, 3, 1, 4, 5)
    return view.reshape(*view.shape[:3], -1)


def _back(slope: Array, weight: Array) -> Array:
    """The slope of a convolution's input: of its output [N,H,W,M], convolved in reverse."""
    outs = len(weight)
    turned = weight.reshape(outs, -1, 3, 3)[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    return _windows(slope.transpose(0, 3, 1, 2)) @ turned.reshape(len(turned), -1).T


def _slopes(w: dict[str, Any], x: Array, labels: NDArray[Any]) -> dict[str, Array]:
    def planes(y: Array) -> Array:
        return y.transpose(0, 3, 1, 2)

    xa = _windows(x)
    whole = np.maximum(xa @ w["a"].T + w["a0"], 0)
    n, height, wide, channels = whole.shape
    a = whole.reshape(n, height // 2, 2, wide // 2, 2, channels).mean((2, 4))
    xb = _windows(planes(a))
    b = np.maximum(xb @ w["b"].T + w["b0"], 0)
    xc = _windows(planes(b))
    c = np.maximum(xc @ w["c"].T + w["c0"] + a, 0)
    xd = _windows(planes(c))
    d = np.maximum(xd @ w["d"].T + w["d0"], 0)
    mean = d.mean((1, 2))
    logits = mean @ w["e"].T + w["e0"]
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(n), labels] -= 1
    p /= n
    made = {"e": p.T @ mean, "e0": p.sum(0)}
    area = d.shape[1] * d.shape[2]
    gd = np.broadcast_to((p @ w["e"])[:, None, None] / area, d.shape) * (d > 0)
    gc = _back(gd, w["d"]) * (c > 0)
    gb = _back(gc, w["c"]) * (b > 0)
    ga = (_back(gb, w["b"]) + gc) / 4
    ga = np.repeat(np.repeat(ga, 2, 1), 2, 2) * (whole > 0)
    for name, slope, rows in (("a", ga, xa), ("b", gb, xb), ("c", gc, xc), ("d", gd, xd)):
        flat = slope.reshape(-1, slope.shape[-1])
        made[name] = flat.T @ rows.reshape(len(flat), -1)
        made[name + "0"] = flat.sum(0)
    return made
