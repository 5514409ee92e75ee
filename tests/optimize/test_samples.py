"""Samples in all their forms, and what is wrong with those that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from zerolane.optimize.samples import SampleSet, read_samples

IMAGE = (zl.TensorSpec("image", "float32", ("N", 1, 8, None), "tensor(float32)"),)
PAIR = (
    zl.TensorSpec("ids", "int64", ("N", "T"), "tensor(int64)"),
    zl.TensorSpec("mask", "float32", ("N", "T"), "tensor(float32)"),
)
MAYBE = (zl.TensorSpec("scale", "float32", (), "tensor(float32)"),)


def images(n: int = 3, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).random((n, 1, 8, 5), np.float32)


def values(made: SampleSet) -> list[dict[str, Any]]:
    return [{k: v.tolist() for k, v in row.items()} for row in made]


def test_one_array_is_one_sample_of_a_model_with_one_input() -> None:
    made = read_samples(images(), IMAGE)
    assert len(made) == 1
    assert values(made) == [{"image": images().tolist()}]


def test_a_dict_a_list_and_an_iterator() -> None:
    one = {"image": images()}
    assert values(read_samples(one, IMAGE)) == [{"image": images().tolist()}]
    rows = [images(seed=s) for s in range(4)]
    wanted = [{"image": r.tolist()} for r in rows]
    assert values(read_samples(rows, IMAGE)) == wanted
    assert values(read_samples([{"image": r} for r in rows], IMAGE)) == wanted
    made = read_samples((r for r in rows), IMAGE)
    assert values(made) == wanted
    assert values(made) == wanted  # a second pass over an iterator
    assert read_samples(made, IMAGE) is made


def test_files_and_folders(tmp_path: Path) -> None:
    rows = [images(seed=s) for s in range(3)]
    np.savez(tmp_path / "b.npz", image=rows[1], label=np.arange(3))
    np.savez(tmp_path / "c.npz", rows[2])  # the one array of a file needs no name
    np.save(tmp_path / "a.npy", rows[0])
    (tmp_path / "notes.txt").write_text("no sample")
    made = read_samples(tmp_path, IMAGE)
    assert values(made) == [{"image": r.tolist()} for r in rows]
    assert values(read_samples(tmp_path / "b.npz", IMAGE)) == [{"image": rows[1].tolist()}]
    assert values(read_samples(str(tmp_path / "a.npy"), IMAGE)) == [{"image": rows[0].tolist()}]


def test_optional_inputs_may_be_left_out_or_given() -> None:
    row = {"image": images(), "scale": np.float32(2)}
    made = read_samples([{"image": images()}, row], IMAGE, MAYBE)
    assert [set(r) for r in made] == [{"image"}, {"image", "scale"}]


def test_arrays_come_row_major() -> None:
    turned = np.asfortranarray(images())
    (row,) = read_samples({"image": turned}, IMAGE)
    assert row["image"].flags.c_contiguous
    assert (row["image"] == turned).all()


def pair(**changed: Any) -> dict[str, Any]:
    row = {"ids": np.ones((2, 7), np.int64), "mask": np.ones((2, 7), np.float32)}
    return row | changed


BROKEN = np.ones((2, 7), np.float32)
BROKEN[1, 3], BROKEN[0, 0] = np.nan, -np.inf


@pytest.mark.parametrize(
    ("samples", "kind", "says"),
    [
        ([], zl.InvalidArgument, "no sample was given"),
        (iter(()), zl.InvalidArgument, "no sample was given"),
        (7, zl.InvalidArgument, "samples are a int"),
        (b"xy", zl.InvalidArgument, "samples are a bytes"),
        ("nowhere.npz", zl.NotFound, "there is nothing at 'nowhere.npz'"),
        (np.ones((2, 7), np.int64), zl.InvalidArgument, "give a dict of arrays by input name"),
        ({"ids": np.ones((2, 7), np.int64)}, zl.InvalidArgument, "needs one for 'mask' too"),
        (pair(maks=1), zl.InvalidArgument, "it has a value for 'maks'"),
        (pair(ids=np.ones((2, 7), np.int32)), zl.InvalidArgument, "int32, expected int64"),
        (pair(ids=np.ones(7, np.int64)), zl.ShapeMismatch, r"x\[None\]"),
        (pair(mask=np.ones((2, 6), np.float32)), zl.ShapeMismatch, "'T' is 6, in 'ids' it is 7"),
        (
            {"ids": np.ones((0, 7), np.int64), "mask": np.ones((0, 7), np.float32)},
            zl.InvalidArgument,
            r"it has no values \('ids' \[0, 7\], 'mask' \[0, 7\]\)",
        ),
        (pair(mask=BROKEN), zl.InvalidArgument, "2 of 14 values are NaN or infinite"),
    ],
)
def test_what_does_not_fit_is_refused(samples: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says) as told:
        read_samples(samples, PAIR, doing="calibrating m.onnx")
    assert ";" in str(told.value)  # what to do


def test_a_batch_for_a_model_of_one_is_told_how_to_cut_it() -> None:
    spec = (zl.TensorSpec("x", "float32", (1, 3), "tensor(float32)"),)
    with pytest.raises(zl.ShapeMismatch, match=r"list\(x\[:, None\]\)"):
        read_samples(np.ones((5, 3), np.float32), spec)
    assert len(read_samples(list(np.ones((5, 3), np.float32)[:, None]), spec)) == 5


def test_later_samples_are_checked_when_reached() -> None:
    made = read_samples([pair(), pair(mask=BROKEN)], PAIR)
    rows = iter(made)
    next(rows)
    with pytest.raises(zl.InvalidArgument, match="sample 1, input 'mask'"):
        next(rows)
    assert len(list(read_samples([pair(mask=BROKEN)], PAIR, finite=False))) == 1


def test_folders_and_files_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(zl.InvalidArgument, match=r"no \.npy and no \.npz in the folder"):
        read_samples(tmp_path, IMAGE)
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(zl.InvalidArgument, match=r"'x\.csv' is no \.npy"):
        read_samples(tmp_path / "x.csv", IMAGE)
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(zl.InvalidArgument, match="cannot be read"):
        read_samples(tmp_path, IMAGE)
    np.savez(tmp_path / "x.npz", picture=images(), label=images())
    with pytest.raises(zl.InvalidArgument, match="its arrays are"):
        read_samples(tmp_path, IMAGE)
