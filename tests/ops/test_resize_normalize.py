"""ResizeNormalize: values as OpenCV's and torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zerolane as zl
from tests.ops.build import one_node
from zerolane.ops.reference.resize_normalize import resize_normalize

Pixels = NDArray[np.uint8]
SIZES = [(224, 224), (213, 320), (427, 640), (61, 97), (641, 961), (1, 1), (854, 1280)]


@pytest.fixture(scope="module")
def photograph() -> Pixels:
    datasets = pytest.importorskip("sklearn.datasets")
    picture: Pixels = datasets.load_sample_images().images[0]
    return picture  # 427 x 640


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bilinear", "area"])
def test_pixels_are_opencvs(photograph: Pixels, size: tuple[int, int], interpolation: str) -> None:
    cv2 = pytest.importorskip("cv2")
    flag = {"bilinear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}[interpolation]
    op = zl.ops.ResizeNormalize(size=list(size), interpolation=interpolation, scale=1.0)
    got = op(photograph)[0].transpose(1, 2, 0)
    # OpenCV rounds to whole values, and where it is linear its weights to 1/2048.
    wanted = cv2.resize(photograph, size[::-1], interpolation=flag)
    linear = interpolation == "bilinear" or size > photograph.shape[:2]
    assert np.abs(got - wanted).max() <= (0.8 if linear else 0.501)
    # In float32 it rounds nothing.
    wanted = cv2.resize(photograph.astype(np.float32), size[::-1], interpolation=flag)
    assert np.abs(got - wanted).max() <= 0.002


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_torchs(photograph: Pixels, size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    planes = torch.from_numpy(photograph.transpose(2, 0, 1)[None].astype(np.float32))
    wanted = torch.nn.functional.interpolate(planes, size, mode="bilinear", align_corners=False)
    got = zl.ops.ResizeNormalize(size=list(size), scale=1.0)(photograph)
    assert np.abs(got - wanted.numpy()).max() <= 0.01


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("interpolation", ["bilinear", "area"])
@pytest.mark.parametrize(
    ("shape", "size"),
    [((1, 1), (3, 5)), ((17, 31), (17, 31)), ((34, 62), (17, 31)), ((7, 65), (19, 18))],
)
def test_values_are_the_references(
    channels: int, interpolation: str, shape: tuple[int, int], size: tuple[int, int]
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (2, *shape, channels), np.uint8)
    op = zl.ops.ResizeNormalize(
        size=list(size),
        interpolation=interpolation,
        mean=[0.1 * c for c in range(channels)],
        std=[0.2 + 0.1 * c for c in range(channels)],
        swap_red_blue=channels >= 3,
    )
    wanted = resize_normalize(image, **op.attributes)
    np.testing.assert_allclose(op(image), wanted, rtol=2e-6, atol=1e-5)
    half = zl.ops.ResizeNormalizeFloat16(**op.attributes)(image)
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, op(image).astype(np.float16))


def test_pixels_that_are_not_dense_are_copied() -> None:
    image = np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)
    op = zl.ops.ResizeNormalize(size=[7, 9])
    for view in (image[:, ::-1], image[2:-3, 4:-5], image[..., ::-1], image.transpose(1, 0, 2)):
        np.testing.assert_array_equal(op(view), op(np.ascontiguousarray(view)))


def test_other_element_types_are_refused() -> None:
    with pytest.raises(zl.InvalidArgument, match="expected uint8"):
        zl.ops.ResizeNormalize()(np.zeros((4, 4, 3), np.float32))


@pytest.mark.parametrize("op", ["ResizeNormalize", "ResizeNormalizeFloat16"])
def test_in_a_model(op: str) -> None:
    pytest.importorskip("onnx")
    image = np.random.default_rng(3).integers(0, 256, (30, 50, 3), np.uint8)
    given: dict[str, Any] = {"size": [32, 64], "interpolation": "area", "std": [0.25]}
    s = zl.load(one_node(f"zerolane::{op}", {"image": ("uint8", ["H", "W", 3])}, ["y"], **given))
    assert s.outputs[0].shape == (1, 3, 32, 64)
    np.testing.assert_array_equal(s(image), zl.ops.call(op, image, **given))
