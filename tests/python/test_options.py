"""Options: defaults, checks of every field, and merging."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any, get_type_hints

import pytest

import zerolane as zl
from zerolane.types import OptionFields, merge_options

GOOD: list[dict[str, Any]] = [
    {},
    {"threads": 1},
    {"threads": 1024, "spin": True},
    {"inter_threads": 4, "execution_mode": "parallel"},
    {"graph_level": "none"},
    {"free_dimensions": {"N": 1, "T": 0}},
    {"config": {"a": "b"}},
    {"profile": "trace"},
    {"log_level": "verbose"},
    {"providers": []},
    {"providers": ["CUDA", ("CPU", {}), ("OpenVINO", {"device_type": "CPU"})]},
    {"providers": ("CUDA",)},
    {"fallback": True, "arena": False, "memory_pattern": False},
    {"gil": "hold", "copy": "never"},
]
BAD: list[tuple[str, Any]] = [
    ("threads", 0),
    ("threads", -1),
    ("threads", 1025),
    ("threads", 1.0),
    ("threads", True),
    ("threads", "2"),
    ("inter_threads", 0),
    ("inter_threads", "all"),
    ("spin", 1),
    ("spin", None),
    ("spin", True),  # without threads
    ("graph_level", "most"),
    ("graph_level", 99),
    ("graph_level", None),
    ("graph_level", ["all"]),
    ("execution_mode", "both"),
    ("arena", "yes"),
    ("memory_pattern", 0),
    ("free_dimensions", {"N": -1}),
    ("free_dimensions", {"N": True}),
    ("free_dimensions", {"N": 1.0}),
    ("free_dimensions", {1: 1}),
    ("free_dimensions", [("N", 1)]),
    ("free_dimensions", {"N": 2**70}),
    ("config", {"a": 1}),
    ("config", {1: "a"}),
    ("config", "a=b"),
    ("config", {"a\0b": "c"}),
    ("profile", ""),
    ("profile", 5),
    ("log_level", "debug"),
    ("log_level", 2),
    ("providers", "CUDA"),
    ("providers", [5]),
    ("providers", [("CUDA",)]),
    ("providers", [("CUDA", [])]),
    ("providers", {"CUDA": {}}),
    ("fallback", "yes"),
    ("gil", "sometimes"),
    ("gil", None),
    ("copy", True),
    ("copy", "always"),
]


@pytest.mark.parametrize("fields", GOOD, ids=str)
def test_good_values(fields: dict[str, Any]) -> None:
    options = zl.Options(**fields)
    for name, value in fields.items():
        assert getattr(options, name) == value


@pytest.mark.parametrize(("name", "value"), BAD, ids=str)
def test_bad_values_are_named(name: str, value: Any) -> None:
    with pytest.raises(zl.InvalidArgument, match=f"reading option '{name}'") as caught:
        zl.Options(**{name: value})
    assert caught.value.subject == name
    assert "expected" in str(caught.value)
    assert "; " in str(caught.value)


def test_every_bad_value_is_refused_by_load_too() -> None:
    for name, value in BAD:
        with pytest.raises(zl.InvalidArgument):
            zl.load(b"", **{name: value})


def test_the_two_lists_of_fields_agree() -> None:
    assert list(get_type_hints(OptionFields)) == [f.name for f in dataclasses.fields(zl.Options)]
    assert get_type_hints(OptionFields) == get_type_hints(zl.Options)


def test_every_field_is_documented() -> None:
    for field in dataclasses.fields(zl.Options):
        assert field.name in (zl.Options.__doc__ or "")


def test_defaults_do_not_share_state() -> None:
    assert zl.Options() == zl.Options()
    assert zl.Options().config is not zl.Options().config


def test_options_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        zl.Options().threads = 3  # type: ignore[misc]


def test_options_pickle() -> None:
    options = zl.Options(threads=2, config={"a": "b"}, providers=[("CUDA", {"device_id": 1})])
    assert pickle.loads(pickle.dumps(options)) == options


def test_merging() -> None:
    base = zl.Options(threads=2, graph_level="basic")
    assert merge_options(None, {}) == zl.Options()
    assert merge_options(base, {}) == base
    merged = merge_options(base, {"threads": 3, "gil": "hold"})
    assert merged == zl.Options(threads=3, graph_level="basic", gil="hold")
    assert base.threads == 2
    assert merge_options(base, {"threads": None}).threads is None


def test_an_unknown_field_is_told_with_the_nearest() -> None:
    with pytest.raises(zl.InvalidArgument, match="did you mean 'threads'") as caught:
        merge_options(None, {"thread": 1})  # type: ignore[typeddict-unknown-key]
    assert caught.value.subject == "thread"
    with pytest.raises(zl.InvalidArgument, match="the options are threads"):
        merge_options(None, {"zzz": 1})  # type: ignore[typeddict-unknown-key]


def test_options_of_another_type() -> None:
    with pytest.raises(zl.InvalidArgument, match="dict was given") as caught:
        merge_options({"threads": 1}, {})  # type: ignore[arg-type]
    assert caught.value.subject == "options"


def test_tensor_specs_are_plain_records() -> None:
    spec = zl.TensorSpec("x", "float32", (1, "N", None))
    assert spec == zl.TensorSpec("x", "float32", (1, "N", None))
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert hash(spec) == hash(zl.TensorSpec("x", "float32", (1, "N", None)))
