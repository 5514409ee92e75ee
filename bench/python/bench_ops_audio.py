# SPDX-License-Identifier: Apache-2.0
"""LogMelSpectrogram and LogMelStream on one core, beside librosa, torch and NumPy.

Noise of 10 s at 16 kHz, 80 bands, hops of 10 ms, and the natural logarithm. Everyone keeps window
and filter bank from call to call, makes new results at each, and works on one thread; that they
make the same is checked first. The floor is `copy`: memcpy of half as many bytes as sound and
features have together, so that it reads and writes as many bytes as a call has to.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import settings
from bench.environment import package_version
from bench.results import Report, Series, ratio_check
from bench.rivals.contract import Form
from bench.settings import Settings, progress
from bench.stats import curve, summarize
from bench.timing import Plan, interleave

NAME = "ops_audio"
TITLE = "log-mel features, one core, interleaved"
RATE, HOP, BANDS, SECONDS = 16000, 160, 80, 10
FLOOR = 1e-10
# Of the logarithms: what float32 does to bands that hold little.
TOLERANCE = 1e-3

Floats = NDArray[np.float32]


def form(name: str, fn: Callable[[], Any]) -> Form:
    return Form(name, lambda: {"y": np.asarray(fn()).copy()}, fn)


def noise(samples: int) -> Floats:
    return np.random.default_rng(0).standard_normal((1, samples)).astype(np.float32)


def bank(n_fft: int) -> Floats:
    import librosa

    filters: Floats = librosa.filters.mel(sr=RATE, n_fft=n_fft, n_mels=BANDS)
    return filters


def wholes(n_fft: int) -> list[Form]:
    import librosa
    import torch

    import zerolane as zl

    torch.set_num_threads(1)
    sound = noise(SECONDS * RATE)
    ours = zl.ops.LogMelSpectrogram(
        sample_rate=RATE, n_fft=n_fft, hop_length=HOP, n_mels=BANDS, floor=FLOOR
    )
    tensor, window = torch.from_numpy(sound), torch.hann_window(n_fft)
    filters = torch.from_numpy(bank(n_fft))

    def with_librosa() -> Floats:
        mel = librosa.feature.melspectrogram(
            y=sound[0], sr=RATE, n_fft=n_fft, hop_length=HOP, n_mels=BANDS, pad_mode="reflect"
        )
        return np.asarray(np.log(np.maximum(mel, FLOOR)))[None]

    @torch.inference_mode()
    def with_torch() -> Any:
        spectrum = torch.stft(
            tensor, n_fft, HOP, window=window, pad_mode="reflect", return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return (filters @ power).clamp(min=FLOOR).log()

    half = np.zeros((sound.nbytes + BANDS * 4 * (1 + SECONDS * RATE // HOP)) // 2, np.uint8)
    target = np.zeros_like(half)
    return [
        form("zerolane", lambda: ours(sound)),
        form("librosa", with_librosa),
        form("torch", with_torch),
        form("copy", lambda: np.copyto(target, half)),
    ]


def hops(n_fft: int) -> list[Form]:
    """One hop of a stream: new samples and those carried, one frame."""
    import zerolane as zl

    sound = noise(n_fft)
    state, new = np.split(sound, [n_fft - HOP], axis=1)
    state, new = state.copy(), new.copy()
    ours = zl.ops.LogMelStream(
        sample_rate=RATE, n_fft=n_fft, hop_length=HOP, n_mels=BANDS, floor=FLOOR
    )
    frame = sound[0].copy()
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    filters = bank(n_fft)

    def with_numpy() -> Floats:
        frame[:-HOP] = frame[HOP:]
        frame[-HOP:] = new[0]
        spectrum = np.fft.rfft(frame * window)
        power = spectrum.real**2 + spectrum.imag**2
        return np.asarray(np.log(np.maximum(filters @ power, FLOOR)))

    def same_frame() -> dict[str, Any]:
        frame[:] = sound[0]
        frame[HOP:] = sound[0, :-HOP]  # so that moving up by a hop makes the frame
        return {"y": with_numpy()[None, :, None]}

    return [
        form("zerolane", lambda: ours(new, state)[0]),
        Form("numpy", same_frame, with_numpy),
    ]


def check_same(subject: str, forms: list[Form]) -> None:
    """Refuses to compare the speed of different work."""
    wanted = forms[0].outputs()["y"]
    for other in forms[1:]:
        if other.name == "copy":
            continue
        got = other.outputs()["y"]
        if got.shape != wanted.shape or np.abs(got - wanted).max() > TOLERANCE:
            raise ValueError(
                f"comparing {subject}: {other.name} made {got.shape}, at most "
                f"{np.abs(got - wanted).max() if got.shape == wanted.shape else '-'} from "
                f"zerolane's {wanted.shape}, expected {TOLERANCE}; look at its arguments"
            )


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    plan = Plan(rounds=12 if options.quick else 60, batches=5, singles_us=0)
    for n_fft in (512, 400):
        for kind, make in (("10 s", wholes), ("one hop", hops)):
            subject = f"{kind}, n_fft {n_fft}"
            progress(f"{NAME}: {subject}")
            forms = make(n_fft)
            check_same(subject, forms)
            timings = interleave(forms, plan)
            report.series += [
                Series(subject, name, "ns", summarize(t.blocks).as_dict(), curve(t.blocks))
                for name, t in timings.items()
            ]
            ours = timings["zerolane"]
            targets = {"librosa": 4.0, "torch": 2.4, "numpy": 5.0}
            report.checks += [
                ratio_check(f"{name} / zerolane", subject, timing.over(ours), targets[name], ">=")
                for name, timing in timings.items()
                if name in targets
            ]
            if "copy" in timings:
                over_floor = ours.over(timings["copy"])
                report.checks.append(
                    ratio_check("zerolane / copy", subject, over_floor, None, "<=")
                )
    packages = ("librosa", "torch", "numpy")
    report.settings |= {"plan": vars(plan), "versions": {p: package_version(p) for p in packages}}
    return report


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    settings.main(run, TITLE)
