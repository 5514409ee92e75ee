"""Manifests: what their key covers, their way through JSON, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import zerolane as zl
from tests.engine.engines import manifest, op_library, plan
from tests.python.messages import assert_three_parts
from zerolane.engine import Manifest, differences, key

IN_KEY: dict[str, Any] = {
    "model_digest": "d" * 64,
    "external_data": {"weights/big.bin": "d" * 64},
    "backend": "tensorrt",
    "library_version": "1.7.2",
    "platform": "linux-aarch64",
    "profiles": ({"x": ((1, 3), (4, 3), (9, 3))},),
    "precision": None,
    "flags": {"optimization_level": 4, "refit": True, "pools": {"workspace": 2**33}},
    "op_libraries": (op_library(sha256="d" * 64),),
    "compute_capabilities": ("8.9",),
    "gpu": "NVIDIA L40",
    "driver": None,
    "zerolane": "9.9.9",
}
LIBRARY = {
    "name": "my_ops",
    "version": "1.2",
    "path": "/opt/libmy_ops.so",
    "sha256": "c" * 64,
    "ops": {"my::Scale": 1},
}
NOT_IN_KEY: dict[str, Any] = {
    "model": "other.onnx",
    "host_code": True,
    "inputs": (),
    "outputs": (),
    "created": "2030-01-01T00:00:00+00:00",
    "build_seconds": None,
    "plan_size": 7,
    "plan_digest": "e" * 64,
    "extra": {},
    "format_version": 1,
}


def test_every_field_is_in_one_of_the_lists() -> None:
    names = {field.name for field in dataclasses.fields(Manifest)}
    assert names == {*IN_KEY, *NOT_IN_KEY}
    assert set(manifest().parts()) == set(IN_KEY)


@pytest.mark.parametrize("name", IN_KEY)
def test_a_part_changes_the_key(name: str) -> None:
    assert manifest(**{name: IN_KEY[name]}).key != manifest().key


@pytest.mark.parametrize("name", NOT_IN_KEY)
def test_what_is_no_part_does_not(name: str) -> None:
    assert manifest(**{name: NOT_IN_KEY[name]}).key == manifest().key


def test_order_of_names_does_not_matter_and_order_of_profiles_does() -> None:
    flags = dict(reversed(manifest().flags.items()))
    assert manifest(flags=flags).key == manifest().key
    assert manifest(profiles=manifest().profiles[::-1]).key != manifest().key


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"path": "/elsewhere/libmy_ops.so"}, True),
        ({"version": "1.3"}, False),
        ({"name": "other_ops"}, False),
        ({"ops": {"my::Scale": 2, "my::Crop": 3}}, False),
        ({"ops": {"my::Scale": 1}}, False),
    ],
)
def test_what_an_op_library_adds_to_the_key(changes: dict[str, Any], same: bool) -> None:
    assert (manifest(op_libraries=(op_library(**changes),)).key == manifest().key) is same


def test_two_op_libraries_of_one_name() -> None:
    two = (op_library(), op_library(sha256="d" * 64))
    assert manifest(op_libraries=two).key != manifest(op_libraries=two[:1]).key
    text = manifest(op_libraries=two).to_json()
    assert Manifest.from_json(text, "x.engine").op_libraries == two


def test_the_key_is_the_same_in_another_process() -> None:
    code = "from tests.engine.engines import manifest; print(manifest().key)"
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == manifest().key


def test_through_json_and_back() -> None:
    whole = manifest().with_plan(plan())
    text = whole.to_json()
    again = Manifest.from_json(text, "x.engine")
    assert again == whole
    assert again.to_json() == text
    assert again.key == whole.key
    assert again.profiles[0]["x"] == ((1, 3), (4, 3), (8, 3))
    assert isinstance(again.outputs[0], zl.TensorSpec)
    assert again.op_libraries == (op_library(),)
    assert again.outputs[0].shape == (None, 10)
    assert again.outputs[1].shape is None


def test_fields_of_earlier_and_later_releases() -> None:
    values = json.loads(manifest().to_json())
    del values["extra"], values["op_libraries"]
    again = Manifest.from_json(json.dumps(values | {"from_the_future": 1}).encode(), "x")
    assert again.op_libraries == ()
    assert again.model == manifest().model


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no json",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"model":' * 50_000,
    ],
)
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(zl.InvalidModel) as caught:
        Manifest.from_json(text, "x.engine")
    assert_three_parts(str(caught.value))
    assert caught.value.subject == "x.engine"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", 1),
        ("model", None),
        ("backend", []),
        ("plan_size", "5"),
        ("plan_size", True),
        ("plan_size", 1.5),
        ("build_seconds", "soon"),
        ("host_code", 1),
        ("flags", []),
        ("external_data", {"a": 1}),
        ("op_libraries", {"a": "b"}),
        ("op_libraries", ["a"]),
        ("op_libraries", [{"name": "a"}]),
        ("op_libraries", [LIBRARY | {"sha256": 1}]),
        ("op_libraries", [LIBRARY | {"ops": ["my::Scale"]}]),
        ("op_libraries", [LIBRARY | {"ops": {"my::Scale": "1"}}]),
        ("compute_capabilities", [8.9]),
        ("profiles", {}),
        ("profiles", [[]]),
        ("profiles", [{"x": [[1], [2]]}]),
        ("profiles", [{"x": [[1], [2], ["3"]]}]),
        ("profiles", [{"x": [[1], [2], [True]]}]),
        ("inputs", [["x", "float32"]]),
        ("inputs", [["x", "float32", 3, ""]]),
        ("inputs", [["x", "float32", [1.5], ""]]),
        ("outputs", [[1, "float32", [1], ""]]),
    ],
)
def test_fields_of_a_wrong_kind_are_refused(name: str, value: object) -> None:
    values = json.loads(manifest().to_json()) | {name: value}
    with pytest.raises(zl.InvalidModel) as caught:
        Manifest.from_json(json.dumps(values).encode(), "x.engine")
    assert_three_parts(str(caught.value))


@pytest.mark.parametrize("value", [object(), float("nan"), {1: 2, "a": 3}, b"bytes"])
def test_flags_that_json_cannot_hold_are_refused(value: object) -> None:
    with pytest.raises(zl.InvalidArgument) as caught:
        _ = manifest(flags={"f": value}).key
    assert_three_parts(str(caught.value))


def test_differences() -> None:
    old = manifest().parts()
    new = manifest(
        precision=None, flags={"refit": False, "strip": True, "pools": {"workspace": 2**33}}
    ).parts()
    found = {d.part: (d.stored, d.wanted) for d in differences(old, new)}
    assert found == {
        "precision": ("fp16", None),
        "flags.optimization_level": (3, None),
        "flags.refit": (True, False),
        "flags.strip": (None, True),
    }
    assert differences(old, old) == ()
    assert [str(d) for d in differences(old, {"library_version": "1.8.0"})] == [
        "library_version is 1.7.1, wanted 1.8.0"
    ]


def test_key_of_plain_parts() -> None:
    assert key({"a": 1, "b": [2]}) == key({"b": [2], "a": 1})
    assert len(key({})) == 64
    assert key({"a": 1}) != key({"a": "1"})
