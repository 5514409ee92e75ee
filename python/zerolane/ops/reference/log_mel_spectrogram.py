"""LogMelSpectrogram: the steps of docs/ops/log_mel.md one by one, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from zerolane.ops.testing import Case

Array = NDArray[Any]


def to_mel(hz: Array, scale: str) -> Array:
    if scale == "htk":
        return np.asarray(2595 * np.log10(1 + hz / 700))
    above = 15 + 27 / np.log(6.4) * np.log(np.maximum(hz, 1) / 1000)
    return np.where(hz < 1000, 3 * hz / 200, above)


def to_hz(mel: Array, scale: str) -> Array:
    if scale == "htk":
        return np.asarray(700 * (10 ** (mel / 2595) - 1))
    return np.where(mel < 15, 200 * mel / 3, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))


def mel_bank(
    sample_rate: float, n_fft: int, n_mels: int, f_min: float, f_max: float, scale: str, norm: str
) -> Array:
    """[n_mels, n_fft // 2 + 1]: a triangle a band, over the frequencies of the bins."""
    ends = to_mel(np.array([f_min, f_max], float), scale)
    points = to_hz(np.linspace(ends[0], ends[1], n_mels + 2), scale)
    low, middle, high = points[:-2, None], points[1:-1, None], points[2:, None]
    bins = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    bank = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(bank * 2 / (high - low) if norm == "slaney" else bank)


def window(n_fft: int, length: int, periodic: bool) -> Array:
    """Hann's, with zeros on both sides."""
    period = max(length if periodic else length - 1, 1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / period) if length > 1 else np.ones(1)
    before = (n_fft - length) // 2
    return np.pad(hann, (before, n_fft - length - before))


def log_mel_spectrogram(
    audio: Array,
    *,
    sample_rate: float,
    n_fft: int,
    hop_length: int,
    win_length: int,
    periodic: bool,
    n_mels: int,
    f_min: float,
    f_max: float,
    mel_scale: str,
    norm: str,
    power: int,
    log: str,
    floor: float,
    layout: str,
    padding: str,
    top_db: float,
) -> Array:
    """The features of [batch, samples]."""
    x = audio / 32768 if audio.dtype == np.int16 else audio.astype(float)
    if padding != "none":
        mode: Any = "reflect" if padding == "reflect" and x.shape[1] > 0 else "constant"
        x = np.pad(x, ((0, 0), (n_fft // 2, n_fft // 2)), mode=mode)
    frames = max(0, 1 + (x.shape[1] - n_fft) // hop_length)
    taken = np.arange(frames)[:, None] * hop_length + np.arange(n_fft)
    shape = window(n_fft, win_length or n_fft, bool(periodic))
    spectrum = np.abs(np.fft.rfft(x[:, taken] * shape)) ** power

    bank = mel_bank(sample_rate, n_fft, n_mels, f_min, f_max or sample_rate / 2, mel_scale, norm)
    # Band by band, without the zeros: one that has no weights is zero whatever the frame holds.
    bands = [spectrum[:, :, row > 0] @ row[row > 0] for row in bank]
    sums = np.stack(bands, axis=1)
    sums = np.where(np.isfinite(sums.astype(np.float32)), sums, np.nan)

    y = sums
    if log != "none":
        y = np.log(np.maximum(sums, floor)) / (1 if log == "ln" else np.log(10))
    if log == "db":
        y *= 20 / power
    limit = 8 if log == "whisper" else top_db
    if limit > 0 and y.size > 0:
        # NaN is nobody's greatest value.
        greatest = np.where(np.isnan(y), -np.inf, y).max(axis=(1, 2), keepdims=True)
        y = np.maximum(y, greatest - limit)
    if log == "whisper":
        y = (y + 4) / 4
    return np.asarray(y if layout == "BMF" else y.transpose(0, 2, 1))


def sounds(batch: int, samples: int, dtype: str = "float32") -> Array:
    noise = np.random.default_rng(samples).standard_normal((batch, samples))
    if dtype == "int16":
        return np.asarray(np.clip(noise * 9000, -32768, 32767).astype(np.int16))
    return noise.astype(np.float32)


def cases() -> Iterator[Case]:
    from zerolane.ops.testing import Case

    def case(audio: Array, about: str = "", **attributes: Any) -> Case:
        return Case("zerolane::LogMelSpectrogram", (audio,), attributes, about)

    for dtype in ("float32", "int16"):
        yield case(sounds(1, 16000, dtype))
        yield case(sounds(3, 1999, dtype), n_fft=512, win_length=400, layout="BFM")
        yield case(sounds(2, 700, dtype), "one frame more than a vector", n_fft=64, hop_length=40)
        yield case(sounds(1, 777, dtype), "a prime", n_fft=97, hop_length=31, n_mels=7)
    for samples in (0, 1, 2, 31, 63, 64, 65):
        for padding in ("reflect", "zero", "none"):
            how: dict[str, Any] = {"n_fft": 64, "hop_length": 17, "n_mels": 13}
            yield case(sounds(2, samples), "short", padding=padding, **how)
    yield case(sounds(0, 500), "no signal")
    for n_fft in (2, 3, 5, 6, 16, 30, 50, 96, 128, 200, 240, 256, 320, 441, 480, 551, 1024, 1102):
        how = {"n_fft": n_fft, "hop_length": n_fft // 3 + 1, "n_mels": 11}
        yield case(sounds(1, 4 * n_fft + 5), **how)
    for log in ("ln", "log10", "db", "whisper", "none"):
        for power in (1, 2):
            yield case(sounds(2, 3000), log=log, power=power, n_mels=23)
    yield case(sounds(2, 3000) * np.float32(1e-4), "limited", log="db", top_db=20.0)
    for scale in ("slaney", "htk"):
        for norm in ("slaney", "none"):
            how = {"f_min": 60.0, "f_max": 7600.0, "mel_scale": scale, "norm": norm}
            yield case(sounds(1, 2000), n_mels=40, **how)
    yield case(sounds(1, 2000), "symmetric", periodic=False, win_length=321)
    yield case(sounds(1, 2000), "a window of one sample", win_length=1)
    yield case(sounds(1, 2000), "empty bands", n_mels=300)
    yield case(sounds(1, 2000), "beyond half the rate", f_max=20000.0)
    yield case(sounds(1, 9000), "hops longer than frames", hop_length=1000)
    bad = sounds(2, 4000)
    bad[0, 1000], bad[0, 2500], bad[1, 3999] = np.nan, np.inf, -np.inf
    for log in ("ln", "whisper", "none"):
        yield case(bad, "NaN and infinity", log=log)
