"""LogMelSpectrogram and LogMelStream: values as librosa and torch have them, a stream as the whole.

The cases beside the reference cover sizes and attributes; here is what others say.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zerolane as zl
from tests.ops.build import one_node

Floats = NDArray[np.float32]


def sound(samples: int, batch: int = 1) -> Floats:
    """A tone with overtones in noise, silent at the end."""
    rng = np.random.default_rng(samples)
    t = np.arange(samples) / 16000
    tones = sum(np.sin(2 * np.pi * 220 * k * t) / k for k in range(1, 9))
    x = tones + 0.1 * rng.standard_normal((batch, samples))
    x[:, -samples // 10 :] *= 1e-5
    return np.asarray(x, np.float32)


def of_greatest(got: Any, wanted: Any) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("n_fft", [400, 512, 1024, 551])
@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", ["slaney", "none"])
@pytest.mark.parametrize("power", [1, 2])
def test_sums_are_librosas(n_fft: int, scale: str, norm: str, power: int) -> None:
    librosa = pytest.importorskip("librosa")
    x = sound(9000)
    for padding, mode in (("reflect", "reflect"), ("zero", "constant"), ("none", None)):
        op = zl.ops.LogMelSpectrogram(
            n_fft=n_fft,
            win_length=n_fft - 31,
            mel_scale=scale,
            norm=norm,
            power=power,
            padding=padding,
            f_min=50.0,
            f_max=7000.0,
            log="none",
        )
        wanted = librosa.feature.melspectrogram(
            y=x,
            sr=16000,
            n_fft=n_fft,
            win_length=n_fft - 31,
            hop_length=160,
            n_mels=80,
            htk=scale == "htk",
            norm="slaney" if norm == "slaney" else None,
            power=power,
            center=padding != "none",
            pad_mode=mode or "constant",
            fmin=50.0,
            fmax=7000.0,
        )
        got = op(x)
        assert got.shape == wanted.shape
        assert of_greatest(got, wanted) < 3e-6


@pytest.mark.parametrize("power", [1, 2])
def test_decibels_are_librosas(power: int) -> None:
    librosa = pytest.importorskip("librosa")
    x = sound(9000)
    sums = librosa.feature.melspectrogram(
        y=x, sr=16000, n_fft=512, hop_length=100, n_mels=40, power=power, pad_mode="reflect"
    )
    convert = librosa.amplitude_to_db if power == 1 else librosa.power_to_db
    given: dict[str, Any] = {"n_fft": 512, "hop_length": 100, "n_mels": 40, "power": power}
    for top in (0.0, 30.0):
        got = zl.ops.LogMelSpectrogram(log="db", top_db=top, floor=1e-8, **given)(x)
        wanted = convert(sums, ref=1.0, amin=1e-8, top_db=top or None)
        np.testing.assert_allclose(got, wanted, atol=2e-2)
        assert (got.max() - got.min() <= 30.001) == (top > 0)


@pytest.mark.parametrize("bands", [80, 128])
def test_whisper_is_its_formula_in_torch(bands: int) -> None:
    torch = pytest.importorskip("torch")
    librosa = pytest.importorskip("librosa")
    x = sound(16000, batch=2)
    got = zl.ops.LogMelSpectrogram(log="whisper", n_mels=bands)(x)
    window = torch.hann_window(400)
    filters = torch.from_numpy(librosa.filters.mel(sr=16000, n_fft=400, n_mels=bands))
    for item in range(2):
        spectrum = torch.stft(
            torch.from_numpy(x[item]), 400, 160, window=window, return_complex=True
        )
        y = (filters @ spectrum.abs() ** 2).clamp(min=1e-10).log10()
        wanted = (torch.maximum(y, y.max() - 8.0) + 4.0) / 4.0
        np.testing.assert_allclose(got[item], wanted.numpy(), atol=2e-4)


def test_torch_in_torch_out() -> None:
    torch = pytest.importorskip("torch")
    got = zl.ops.LogMelSpectrogram()(torch.from_numpy(sound(3000)))
    assert isinstance(got, torch.Tensor)
    np.testing.assert_array_equal(got.numpy(), zl.ops.LogMelSpectrogram()(sound(3000)))


def test_sixteen_bits_are_parts_of_one() -> None:
    short = (sound(4000) * 8000).astype(np.int16)
    for power in (1, 2):
        op = zl.ops.LogMelSpectrogram(power=power)
        got, wanted = op(short), op(short.astype(np.float32) / 32768)
        np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "int16"])
@pytest.mark.parametrize(("n_fft", "hop"), [(400, 160), (512, 160), (97, 31), (64, 64), (50, 1)])
def test_a_stream_is_the_whole_bit_for_bit(dtype: str, n_fft: int, hop: int) -> None:
    given: dict[str, Any] = {"n_fft": n_fft, "hop_length": hop, "n_mels": 20}
    x = (sound(n_fft + 60 * hop, batch=2) * 3000).astype(dtype)
    whole = zl.ops.LogMelSpectrogram(padding="none", **given)(x)
    stream = zl.ops.LogMelStream(**given)
    state, at, pieces = x[:, : n_fft - hop], n_fft - hop, []
    for hops in (1, 1, 2, 0, 3, 17, 1, 36):
        mel, state = stream(x[:, at : at + hops * hop], state)
        assert state.dtype == dtype
        pieces.append(mel)
        at += hops * hop
    assert at == x.shape[1]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=2), whole)
    np.testing.assert_array_equal(state, x[:, at - (n_fft - hop) :])


def test_layouts_hold_the_same() -> None:
    x = sound(5000, batch=2)
    for log in ("ln", "whisper"):
        by_band = zl.ops.LogMelSpectrogram(log=log)(x)
        by_frame = zl.ops.LogMelSpectrogram(log=log, layout="BFM")(x)
        np.testing.assert_array_equal(by_frame, by_band.transpose(0, 2, 1))


def test_an_item_is_the_same_in_any_batch() -> None:
    x = sound(5000, batch=3)
    op = zl.ops.LogMelSpectrogram(log="db", top_db=40.0)
    np.testing.assert_array_equal(op(x), np.concatenate([op(row[None]) for row in x]))


def test_what_is_not_finite_stays_in_its_frames() -> None:
    clean = sound(8000)
    for log in ("ln", "none", "whisper"):
        op = zl.ops.LogMelSpectrogram(log=log, hop_length=100, padding="none")
        for bad in (np.nan, np.inf, -np.inf, 3e38):
            x = clean.copy()
            x[0, 4321] = bad
            got = op(x)
            starts = np.arange(got.shape[2]) * 100
            holds = (starts < 4321) & (starts + 400 > 4321)
            assert np.isnan(got[0, :, holds]).all()
            if log != "whisper":  # its greatest value may have been in those frames
                np.testing.assert_array_equal(got[0, :, ~holds], op(clean)[0, :, ~holds])
            assert np.isfinite(got[0, :, ~holds]).all()


def test_short_and_empty_signals() -> None:
    for padding, frames in (("none", (0, 0, 0, 1)), ("zero", (1, 1, 4, 5))):
        op = zl.ops.LogMelSpectrogram(n_fft=64, hop_length=16, n_mels=5, padding=padding)
        for samples, count in zip((0, 1, 63, 64), frames, strict=True):
            assert op(np.ones((2, samples), np.float32)).shape == (2, 5, count)
        assert op(np.ones((0, 100), np.float32)).shape[0] == 0
    op = zl.ops.LogMelSpectrogram(n_fft=64, hop_length=16, n_mels=5)
    np.testing.assert_array_equal(op(np.zeros((1, 0), np.float32)), np.log(np.float32(1e-10)))
    # One sample goes on as a constant, two as a zigzag.
    np.testing.assert_array_equal(
        op(np.ones((1, 1), np.float32))[0, :, 0], op(np.ones((1, 500), np.float32))[0, :, 0]
    )
    zigzag = np.tile(np.array([1, -1], np.float32), 250)[None]
    np.testing.assert_array_equal(op(zigzag[:, :2])[0, :, 0], op(zigzag)[0, :, 0])


def test_bands_between_two_bins_are_empty() -> None:
    got = zl.ops.LogMelSpectrogram(n_fft=64, n_mels=200, log="none")(sound(2000))
    assert 0 < (got == 0).all(axis=(0, 2)).sum() < 200


@pytest.mark.parametrize(
    ("attributes", "part"),
    [
        ({"n_fft": 1}, "expected a number from 2 to 65536"),
        ({"n_fft": 65537}, "expected a number from 2 to 65536"),
        ({"hop_length": 0}, "it is 0"),
        ({"win_length": 401}, "win_length is 401, expected n_fft, 400, at most"),
        ({"f_min": 8000.0}, "f_max is 8000.000000 Hz, expected more than f_min"),
        ({"f_min": 300.0, "f_max": 200.0}, "expected more than f_min, 300.000000 Hz"),
        ({"n_mels": 0}, "it is 0"),
        ({"floor": 0.0}, "it is 0"),
        ({"sample_rate": float("nan")}, "it is nan"),
        ({"power": 3}, "it is 3"),
        ({"top_db": 80.0}, "top_db is given with log 'ln', expected log 'db'"),
        ({"padding": "edge"}, "expected one of 'reflect', 'zero', 'none'"),
    ],
)
def test_wrong_attributes_are_refused(attributes: dict[str, Any], part: str) -> None:
    with pytest.raises(zl.InvalidArgument) as caught:
        zl.ops.LogMelSpectrogram(**attributes)
    assert part in str(caught.value)


def test_wrong_streams_are_refused() -> None:
    with pytest.raises(zl.InvalidArgument, match="hop_length is 401, expected n_fft, 400, at most"):
        zl.ops.LogMelStream(hop_length=401)
    with pytest.raises(zl.InvalidArgument, match="whisper"):
        zl.ops.LogMelStream(log="whisper")
    op = zl.ops.LogMelStream()
    for audio, state, part in (
        ((1, 161), (1, 240), "161 samples, expected a multiple of hop_length, 160"),
        ((1, 160), (1, 239), "the length of state, n_fft - hop_length, is 239, expected 240"),
        ((2, 160), (1, 240), "the batches of audio and state are 2 and 1"),
        ((160,), (1, 240), "input 0 has rank 1, expected 2"),
    ):
        with pytest.raises(zl.ShapeMismatch, match=part):
            op(np.zeros(audio, np.float32), np.zeros(state, np.float32))
    with pytest.raises(zl.InvalidArgument, match="int16"):
        op(np.zeros((1, 160), np.float32), np.zeros((1, 240), np.int16))


def test_in_a_model() -> None:
    pytest.importorskip("onnx")
    x = sound(5000, batch=2)
    given: dict[str, Any] = {"n_fft": 512, "win_length": 400, "log": "whisper", "f_min": 20.0}
    spec: dict[str, Any] = {"audio": ("float32", ["B", "T"])}
    s = zl.load(one_node("zerolane::LogMelSpectrogram", spec, ["mel"], **given))
    shape = s.outputs[0].shape
    assert shape is not None
    assert shape[:2] == ("B", 80)
    np.testing.assert_array_equal(s(x), zl.ops.LogMelSpectrogram(**given)(x))

    hop: dict[str, Any] = {"hop_length": 100, "layout": "BFM"}
    spec = {"audio": ("int16", [1, "T"]), "state": ("int16", [1, 300])}
    s = zl.load(one_node("zerolane::LogMelStream", spec, ["mel", "next_state"], **hop))
    assert s.outputs[1].shape == (1, 300)
    short = (x[:1] * 5000).astype(np.int16)
    got = s(short[:, 300:700], short[:, :300])
    wanted = zl.ops.LogMelStream(**hop)(short[:, 300:700].copy(), short[:, :300].copy())
    assert got.mel.shape == (1, 4, 80)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
