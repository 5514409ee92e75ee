"""Sentence embedding: a two-layer transformer over a hashed vocabulary (21 MB, not committed)."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .common import export, fit, onnxruntime_runner, save_case

VOCABULARY = 40000
WIDTH = 128
HEADS = 4
LAYERS = 2
LONGEST = 64
TOKENS = 16

SLOTS = {
    "food": ("pizza", "soup", "bread", "rice", "noodles", "salad"),
    "city": ("paris", "london", "tokyo", "berlin", "madrid", "oslo"),
    "pet": ("cat", "dog", "rabbit", "parrot", "horse"),
}
# One row a meaning; the last pattern of each is never trained on.
PATTERNS = (
    (
        "i want to eat {food}",
        "could i have some {food}",
        "order {food} for me",
        "i am hungry for {food}",
        "please order {food}",
    ),
    (
        "what is the weather in {city}",
        "will it rain in {city} today",
        "tell me the forecast for {city}",
        "is {city} sunny now",
        "today the weather in {city}",
    ),
    (
        "book a flight to {city}",
        "i need to fly to {city}",
        "get me a plane ticket for {city}",
        "reserve a seat on the plane to {city}",
        "a plane ticket to {city}",
    ),
    (
        "my {pet} is ill",
        "the {pet} looks sick",
        "i must take my {pet} to the vet",
        "something is wrong with the {pet}",
        "the vet for my {pet}",
    ),
    (
        "play some music",
        "put on a song",
        "start my playlist",
        "i would like to hear music",
        "music please",
    ),
    (
        "set an alarm for seven",
        "wake me at seven",
        "remind me to get up early",
        "i need an alarm in the morning",
        "the alarm for the morning",
    ),
)

Ids = NDArray[np.int64]


def tokenize(sentences: list[str]) -> tuple[Ids, Ids]:
    """Returns (ids, mask), both i64 [N,16]. Token 0 pads, 1 begins, words hash to the rest."""
    ids = np.zeros((len(sentences), TOKENS), np.int64)
    mask = np.zeros_like(ids)
    for row, sentence in enumerate(sentences):
        words = re.findall(r"\w+", sentence.lower())[: TOKENS - 1]
        tokens = [1, *(2 + zlib.crc32(word.encode()) % (VOCABULARY - 2) for word in words)]
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return ids, mask


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.feed = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        count, length, _ = x.shape
        split = self.qkv(self.norm(x)).reshape(count, length, 3, HEADS, WIDTH // HEADS)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5 + bias).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).reshape(count, length, WIDTH)
        x = x + self.out(mixed)
        fed: Tensor = x + self.feed(x)
        return fed


class Encoder(nn.Module):
    """input_ids, attention_mask i64 [N,T] -> embedding f32 [N,128], unit length. T <= 64."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0)
        self.places = nn.Parameter(torch.randn(LONGEST, WIDTH) * 0.02)
        self.layers = nn.ModuleList([Layer() for _ in range(LAYERS)])

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(ids) + self.places[: ids.shape[1]]
        bias = (1 - mask.float())[:, None, None, :] * -1e4
        for layer in self.layers:
            x = layer(x, bias)
        weight = mask.float()[..., None]
        mean = (x * weight).sum(1) / weight.sum(1)
        unit: Tensor = mean / (mean.norm(dim=-1, keepdim=True) + 1e-6)
        return unit


def make(folder: Path) -> None:
    rng = np.random.default_rng(0)
    meanings = len(PATTERNS)
    model = Encoder()

    def sentence(meaning: int) -> str:
        pattern = PATTERNS[meaning][int(rng.integers(len(PATTERNS[meaning]) - 1))]
        return pattern.format(**{slot: str(rng.choice(words)) for slot, words in SLOTS.items()})

    def batch() -> tuple[Tensor, Tensor]:
        ids, mask = tokenize([sentence(meaning) for _ in range(2) for meaning in range(meanings)])
        return torch.tensor(ids), torch.tensor(mask)

    def loss(ids: Tensor, mask: Tensor) -> Tensor:
        embedding = model(ids, mask)
        likeness = embedding[:meanings] @ embedding[meanings:].T * 10
        return F.cross_entropy(likeness, torch.arange(meanings))

    fit(model, 300, batch, loss, 1e-3)

    path = folder / "text_embed.onnx"
    example = torch.ones(2, 7, dtype=torch.int64)
    export(
        model,
        path,
        {"input_ids": example, "attention_mask": example},
        ["embedding"],
        {
            "input_ids": {0: "N", 1: "T"},
            "attention_mask": {0: "N", 1: "T"},
            "embedding": {0: "N"},
        },
    )
    ids, mask = tokenize(
        [p.format(food="soup", city="oslo", pet="horse") for row in PATTERNS for p in row]
    )
    inputs = {"input_ids": ids, "attention_mask": mask}
    save_case(folder, "text_embed", **inputs, **onnxruntime_runner(path)(inputs))
