"""Streaming speech detection at 8 kHz: frames of 256 samples, the state carried by the caller.

Speech comes from espeak-ng (Debian package `espeak-ng`), noise is generated.
"""

from __future__ import annotations

import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .common import export, fit, onnxruntime_runner, save_case

RATE = 8000
FRAME = 256
STATE = 64
BINS = FRAME // 2 + 1
SPEECH_RMS = 0.01

Audio = NDArray[np.float32]

SENTENCES = (
    "the quick brown fox jumps over the lazy dog",
    "please open the window",
    "how much does this cost",
    "seven hundred and twenty one",
)
VOICES = ("en-us", "en-gb", "en+f3", "en+m4")


def say(text: str, voice: str, speed: int = 160, pitch: int = 50) -> Audio:
    """Returns the spoken text as mono samples in -1..1 at `RATE`."""
    from scipy.signal import resample_poly

    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        options = ["-v", voice, "-s", str(speed), "-p", str(pitch), "-w", file.name]
        subprocess.run(["espeak-ng", *options, text], check=True)
        with wave.open(file.name) as sound:
            samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16)
            rate = sound.getframerate()
    return np.asarray(resample_poly(samples / 32768, RATE, rate), np.float32)


def noise(rng: np.random.Generator, count: int) -> Audio:
    """White or low-passed noise at a random level, at times with mains hum."""
    samples = rng.standard_normal(count)
    if rng.random() < 0.5:
        samples = np.convolve(samples, np.ones(int(rng.integers(2, 12))), "same")
    samples *= 10 ** rng.uniform(-4, -1.7) / samples.std()
    if rng.random() < 0.3:
        hum_hz = int(rng.choice([50, 60, 120]))
        samples += 0.01 * np.sin(2 * np.pi * hum_hz * np.arange(count) / RATE)
    return samples.astype(np.float32)


def is_speech(clean: Audio) -> NDArray[np.bool_]:
    """Which frames of a clip without noise hold speech."""
    frames = clean.reshape(-1, FRAME)
    return np.asarray(np.sqrt((frames**2).mean(1)) > SPEECH_RMS)


def clip(
    rng: np.random.Generator, spoken: list[Audio], frames: int = 100
) -> tuple[Audio, NDArray[np.bool_]]:
    """Sentences with pauses, then noise over all; returns the samples and the speech frames."""
    count = FRAME * frames
    samples = np.zeros(count, np.float32)
    start = int(rng.integers(0, 6000))
    while start < count - 2000:
        sentence = spoken[int(rng.integers(len(spoken)))][: count - start]
        samples[start : start + len(sentence)] += sentence * np.float32(rng.uniform(0.3, 1))
        start += len(sentence) + int(rng.integers(4000, 12000))
    return samples + noise(rng, count), is_speech(samples)


class Detector(nn.Module):
    """audio f32 [N,256k], state f32 [1,N,64] -> prob f32 [N,k], state_out f32 [1,N,64]."""

    basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        phase = np.outer(np.arange(BINS), np.arange(FRAME)) / FRAME
        waves = np.exp(-2j * np.pi * phase) * np.hanning(FRAME)
        basis = np.concatenate([waves.real, waves.imag])[:, None]
        self.register_buffer("basis", torch.tensor(basis, dtype=torch.float32))
        self.narrow = nn.Linear(BINS, STATE)
        self.memory = nn.GRU(STATE, STATE)
        self.out = nn.Linear(STATE, 1)

    def forward(self, audio: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        spectrum = F.conv1d(audio[:, None], self.basis, stride=FRAME)
        power = spectrum[:, :BINS] ** 2 + spectrum[:, BINS:] ** 2
        features = torch.log(power + 1e-6).permute(2, 0, 1)
        steps, state_out = self.memory(torch.relu(self.narrow(features)), state)
        return torch.sigmoid(self.out(steps)[..., 0]).transpose(0, 1), state_out


def unheard_clip(rng: np.random.Generator) -> tuple[Audio, NDArray[np.bool_]]:
    """One sentence and one voice that training has not heard, with silence around it."""
    silence = np.zeros(8192, np.float32)
    spoken = say("good morning, where is the railway station", "en-gb-scotland")
    clean = np.concatenate([silence, spoken, silence])
    clean = clean[: len(clean) // FRAME * FRAME]
    hiss = rng.standard_normal(len(clean)).astype(np.float32) * np.float32(0.003)
    return clean + hiss, is_speech(clean)


def make(folder: Path) -> None:
    rng = np.random.default_rng(0)
    styles = ((140, 40), (190, 65))
    spoken = [
        say(text, voice, *style) for text in SENTENCES for voice in VOICES for style in styles
    ]
    model = Detector()

    def batch() -> tuple[Tensor, Tensor]:
        clips = [clip(rng, spoken) for _ in range(16)]
        audio = torch.tensor(np.stack([samples for samples, _ in clips]))
        return audio, torch.tensor(np.stack([speech for _, speech in clips]), dtype=torch.float32)

    def loss(audio: Tensor, speech: Tensor) -> Tensor:
        prob, _ = model(audio, torch.zeros(1, len(audio), STATE))
        return F.binary_cross_entropy(prob, speech)

    fit(model, 250, batch, loss, 4e-3)

    path = folder / "stream_vad.onnx"
    export(
        model,
        path,
        {"audio": torch.zeros(1, FRAME), "state": torch.zeros(1, 1, STATE)},
        ["prob", "state_out"],
        {"audio": {0: "N"}, "state": {1: "N"}, "prob": {0: "N"}, "state_out": {1: "N"}},
    )

    audio, speech = unheard_clip(rng)
    run = onnxruntime_runner(path)
    state = np.zeros((1, 1, STATE), np.float32)
    probs = []
    for frame in audio.reshape(-1, 1, FRAME):
        outputs = run({"audio": frame, "state": state})
        state = outputs["state_out"]
        probs.append(outputs["prob"][0, 0])
    save_case(folder, "stream_vad", audio=audio, prob=np.array(probs, np.float32), speech=speech)
