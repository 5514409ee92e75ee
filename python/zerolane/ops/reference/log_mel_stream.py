"""LogMelStream: LogMelSpectrogram of the state and what follows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from zerolane.ops.reference.log_mel_spectrogram import Array, log_mel_spectrogram, sounds

if TYPE_CHECKING:
    from zerolane.ops.testing import Case


def log_mel_stream(audio: Array, state: Array, **attributes: Any) -> tuple[Array, Array]:
    """The frames of [batch, frames * hop_length] behind the state, and the next state."""
    joined = np.concatenate([state, audio], axis=1)
    mel = log_mel_spectrogram(joined, padding="none", top_db=0, **attributes)
    return mel, joined[:, audio.shape[1] :]


def cases() -> Iterator[Case]:
    from zerolane.ops.testing import Case

    def case(batch: int, hops: int, dtype: str = "float32", *, hop: int = 160, **more: Any) -> Case:
        n_fft = more.get("n_fft", 400)
        signal = sounds(batch, n_fft + (hops - 1) * hop, dtype)
        state, audio = np.split(signal, [n_fft - hop], axis=1)
        attributes = {"hop_length": hop, **more}
        return Case("zerolane::LogMelStream", (audio.copy(), state.copy()), attributes)

    for dtype in ("float32", "int16"):
        for hops in (0, 1, 2, 3, 16, 41):
            yield case(1, hops, dtype)
            yield case(3, hops, dtype, hop=17, n_fft=64, n_mels=13, layout="BFM")
    yield case(0, 2)
    yield case(2, 5, hop=64, n_fft=64, n_mels=13)  # nothing is carried
    yield case(2, 9, hop=1, n_fft=50, n_mels=13)
    for log in ("ln", "log10", "db", "none"):
        yield case(1, 3, log=log, power=1)
