"""Settings and the space that they are combined from."""

from __future__ import annotations

import pytest

from zerolane.errors import InvalidArgument
from zerolane.tuning.setting import Setting, Space, space_of


def test_a_space_is_the_product_of_what_differs() -> None:
    space = Space(
        backends=("onnxruntime",), graph_levels=("all", "basic"), threads=(1, 2), lanes=(1, 3)
    )
    found = space.settings(["original", "int8"])
    # Lanes share a pool, so that more than one thread goes with one lane only.
    assert len(found) == len(set(found)) == 2 * (2 * 2 + 2)
    assert all(s.threads == 1 or s.lanes == 1 for s in found)
    assert len({s.key for s in found}) == len(found)


def test_tensorrt_has_no_graph_levels_and_no_threads() -> None:
    space = Space(backends=("tensorrt", "tensorrt-rtx"), threads=(1, 2))
    found = space.settings(["fp16"])
    assert [str(s) for s in found] == [
        "fp16, tensorrt, optimization_level 3",
        "fp16, tensorrt, optimization_level 5",
        "fp16, tensorrt-rtx",
    ]


def test_a_setting_goes_through_json() -> None:
    for setting in Space(threads=(1, 7), batches=(0, 4)).settings(["original", "fp16"]):
        assert Setting.of(setting.as_dict()) == setting


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"artefacts": ("int9",)}, "artefacts is .*int9.*expected some of original"),
        ({"threads": ()}, "threads is .*expected whole numbers from 1 to 1024"),
        ({"threads": (0,)}, "threads"),
        ({"lanes": "12"}, "lanes is '12'"),
        ({"graph_levels": "all"}, "graph_levels is 'all'"),
        ({"thread": (1,)}, "there is no 'thread'.*check the name"),
        ([1], "it is a list, expected a dict"),
    ],
)
def test_what_is_no_space(given: object, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        space_of(given, Space())  # type: ignore[arg-type]


def test_given_fields_go_over_the_default() -> None:
    made = space_of({"threads": [1, 3]}, Space(lanes=(2,)))
    assert (made.threads, made.lanes) == ((1, 3), (2,))
