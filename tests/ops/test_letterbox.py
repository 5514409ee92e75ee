"""Letterbox: sizes and places as YOLO's training code has them, values as OpenCV's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zerolane as zl
from tests.ops.build import one_node

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photograph() -> Pixels:
    datasets = pytest.importorskip("sklearn.datasets")
    picture: Pixels = datasets.load_sample_images().images[1]
    return picture  # 427 x 640


def by_opencv(image: Pixels, height: int, width: int, top: int, left: int) -> NDArray[np.float32]:
    cv2 = pytest.importorskip("cv2")
    planes = np.full((640, 640, 3), 114, np.float32)
    inner = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    planes[top : top + height, left : left + width] = inner
    result: NDArray[np.float32] = planes.transpose(2, 0, 1)[None]
    return result


@pytest.mark.parametrize(
    ("shape", "inner", "place"),
    [
        ((720, 1280), (360, 640), (140, 0)),
        ((427, 640), (427, 640), (106, 0)),
        ((640, 427), (640, 427), (0, 106)),
        ((1079, 333), (640, 198), (0, 221)),
        ((99, 201), (315, 640), (162, 0)),
    ],
)
def test_planes_are_opencvs(
    photograph: Pixels, shape: tuple[int, int], inner: tuple[int, int], place: tuple[int, int]
) -> None:
    cv2 = pytest.importorskip("cv2")
    image = cv2.resize(photograph, shape[::-1], interpolation=cv2.INTER_CUBIC)
    planes, transform = zl.ops.Letterbox(size=[640], scale=1.0)(image)
    wanted = by_opencv(image, *inner, *place)
    assert np.abs(planes - wanted).max() <= 0.8
    # On average the error is that of OpenCV's rounding to whole values.
    assert np.abs(planes - wanted).mean() < 0.26
    scale = min(640 / shape[0], 640 / shape[1])
    np.testing.assert_array_equal(transform, np.float32([[scale, place[1], place[0]]]))


def test_sizes_are_those_of_the_training_code() -> None:
    """Every height from 1 to 200 at 101 wide into 64 x 96, as in Ultralytics' letterbox()."""
    op = zl.ops.Letterbox(size=[64, 96], scale=1.0, border=[255])
    for height in range(1, 200):
        planes, transform = op(np.zeros((height, 101, 1), np.uint8))
        r = min(64 / height, 96 / 101)
        w, h = round(101 * r), round(height * r)
        left, top = round((96 - w) / 2 - 0.1), round((64 - h) / 2 - 0.1)
        inside = np.zeros((64, 96), bool)
        inside[top : top + h, left : left + w] = True
        np.testing.assert_array_equal(planes[0, 0] == 0, inside, err_msg=f"height {height}")
        np.testing.assert_array_equal(transform, np.float32([[r, left, top]]))


def test_boxes_are_mapped_back_by_the_transform() -> None:
    image = np.zeros((300, 500, 1), np.uint8)
    image[100:150, 200:300] = 255
    planes, transform = zl.ops.Letterbox(size=[416, 352], border=[0])(image)
    scale, pad_x, pad_y = transform[0]
    rows, columns = np.nonzero(planes[0, 0] > 0.5)
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    back = (box - [pad_x, pad_y, pad_x, pad_y]) / scale
    np.testing.assert_allclose(back, [200, 100, 300, 150], atol=1 / scale)


def test_small_pictures_stay_small_if_asked() -> None:
    image = np.full((3, 5, 3), 200, np.uint8)
    planes, transform = zl.ops.Letterbox(size=[8, 12], scale_up=False, scale=1.0)(image)
    wanted = np.full((8, 12), 114.0)
    wanted[2:5, 3:8] = 200
    np.testing.assert_array_equal(planes, np.float32(np.broadcast_to(wanted, (1, 3, 8, 12))))
    assert transform.tolist() == [[1, 3, 2]]
    assert zl.ops.Letterbox(size=[8, 12])(image).transform[0, 0] == np.float32(12 / 5)


def test_the_border_is_by_plane_and_normalized() -> None:
    image = np.zeros((1, 4, 3), np.uint8)
    op = zl.ops.Letterbox(
        size=[4], border=[10.0, 20.0, 30.0], scale=2.0, mean=[1.0, 2.0, 3.0], swap_red_blue=True
    )
    assert op(image).planes[0, :, 0, 0].tolist() == [19, 38, 57]


def test_a_batch_is_its_pictures() -> None:
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (3, 21, 33, 3), np.uint8)
    op = zl.ops.Letterbox(size=[17, 29], interpolation="area")
    planes, transform = op(images)
    for i, image in enumerate(images):
        np.testing.assert_array_equal(planes[i : i + 1], op(image).planes)
        np.testing.assert_array_equal(transform[i : i + 1], op(image).transform)


def test_float16_is_rounded_once() -> None:
    image = np.random.default_rng(6).integers(0, 256, (19, 23, 3), np.uint8)
    attributes: dict[str, Any] = {"size": [37, 41], "mean": [0.4], "std": [0.25]}
    half = zl.ops.LetterboxFloat16(**attributes)(image)
    single = zl.ops.Letterbox(**attributes)(image)
    np.testing.assert_array_equal(half.planes, single.planes.astype(np.float16))
    np.testing.assert_array_equal(half.transform, single.transform)


@pytest.mark.parametrize(
    ("shape", "attributes", "part"),
    [
        ((5, 5), {}, "rank 2, expected 3 (height, width, channels) or 4"),
        ((5, 5, 5), {}, "its channels, is 5, expected 1 to 4"),
        ((5, 5, 2), {"swap_red_blue": True}, "its channels, is 2, expected 3 to 4"),
        ((0, 5, 3), {}, "height is 0, expected 1 to 32767"),
        ((5, 32768, 1), {}, "width is 32768, expected 1 to 32767"),
        ((5, 5, 3), {"mean": [1.0, 2.0]}, "mean has 2 numbers, expected 1 or one for each"),
        ((5, 5, 4), {"std": [1.0, 2.0, 3.0]}, "std has 3 numbers"),
        ((5, 5, 1), {"border": [1.0, 2.0, 3.0]}, "border has 3 numbers"),
    ],
)
def test_wrong_pictures_are_refused(
    shape: tuple[int, ...], attributes: dict[str, Any], part: str
) -> None:
    with pytest.raises(zl.ShapeMismatch) as caught:
        zl.ops.Letterbox(**attributes)(np.zeros(shape, np.uint8))
    assert part in str(caught.value)


@pytest.mark.parametrize(
    "attributes",
    [
        {"size": []},
        {"size": [0, 5]},
        {"size": [5, 32768]},
        {"size": [5, 5, 5]},
        {"interpolation": "cubic"},
        {"scale": float("nan")},
        {"mean": []},
        {"mean": [float("inf")]},
        {"std": [0.0]},
        {"border": [256.0]},
        {"swap_red_blue": True, "mean": [1.0, 2.0]},
    ],
)
def test_wrong_attributes_are_refused(attributes: dict[str, Any]) -> None:
    with pytest.raises(zl.InvalidArgument):
        zl.ops.Letterbox(**attributes)


def test_in_a_model() -> None:
    pytest.importorskip("onnx")
    image = np.random.default_rng(8).integers(0, 256, (2, 30, 50, 3), np.uint8)
    given: dict[str, Any] = {"size": [32, 64], "swap_red_blue": 1}
    spec = {"image": ("uint8", ["N", "H", "W", 3])}
    s = zl.load(one_node("zerolane::Letterbox", spec, ["planes", "transform"], **given))
    assert [o.shape for o in s.outputs] == [("N", 3, 32, 64), ("N", 3)]
    for got, wanted in zip(s(image), zl.ops.Letterbox(**given)(image), strict=True):
        np.testing.assert_array_equal(got, wanted)
    alone = zl.load(one_node("zerolane::Letterbox", spec, ["planes"], **given))
    np.testing.assert_array_equal(alone(image), zl.ops.Letterbox(**given)(image).planes)
