"""The task measure and the bar of every trained test model.

Each check takes `run`, any callable from named input arrays to named output arrays, and the folder
of the model's case file. So one check serves every backend, option and precision:

    result = task_checks.check("digits_cnn", lambda inputs: session.run(inputs))
    result.require()

Needs NumPy only. Fresh scenes and lines are drawn from digits that training never saw (seeded).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import cartpoles, tictactoe
from .scenes import decode_ctc, draw_lines, draw_scenes, held_back_digits

FOLDER = Path(__file__).parent
TRAINED = (
    "digits_mlp",
    "digits_cnn",
    "digit_det",
    "line_ctc",
    "stream_vad",
    "wine_forest",
    "mixed_table",
    "ttt_policy",
    "cartpole",
)
"""The models whose files are committed; `text_embed` has a check but must be trained first."""

Arrays = dict[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]

VAD_FRAME = 256
VAD_STATE_SHAPE = (1, 1, 64)

_CASE_INPUTS = {
    "digits_mlp": ("image",),
    "digits_cnn": ("image",),
    "digit_det": ("image",),
    "line_ctc": ("image",),
    "stream_vad": ("audio", "state"),
    "text_embed": ("input_ids", "attention_mask"),
    "wine_forest": ("X",),
    "mixed_table": ("colour", "weight", "red_weight"),
    "ttt_policy": ("board", "legal"),
    "cartpole": ("state",),
}
_CASE_OUTPUTS = {
    "digits_mlp": ("logits",),
    "digits_cnn": ("logits",),
    "digit_det": ("boxes", "scores", "labels"),
    "line_ctc": ("log_probs",),
    "stream_vad": ("prob",),
    "text_embed": ("embedding",),
    "wine_forest": ("label", "probabilities"),
    "mixed_table": ("label", "probabilities"),
    "ttt_policy": ("move",),
    "cartpole": ("force",),
}


@dataclass(frozen=True)
class Measure:
    """A value and its bar: the least that passes, or the most if `at_most`."""

    name: str
    value: float
    bar: float
    at_most: bool = False

    @property
    def passed(self) -> bool:
        return self.value <= self.bar if self.at_most else self.value >= self.bar


@dataclass(frozen=True)
class Result:
    model: str
    measures: tuple[Measure, ...]

    @property
    def passed(self) -> bool:
        return all(measure.passed for measure in self.measures)

    def require(self) -> None:
        """Raises AssertionError that names every missed bar."""
        missed = [
            f"{m.name} is {m.value:.4g}, wanted {'at most' if m.at_most else 'at least'} {m.bar:g}"
            for m in self.measures
            if not m.passed
        ]
        assert not missed, f"{self.model}: {'; '.join(missed)}"


def load_case(name: str, folder: Path = FOLDER) -> Arrays:
    """Every array of the case file, as stored."""
    with np.load(folder / f"{name}.case.npz", allow_pickle=False) as case:
        return dict(case)


def case_inputs(name: str, folder: Path = FOLDER) -> Arrays:
    """Inputs for one run: columns as [N,1], strings as object, of `stream_vad` the first frame."""
    case = load_case(name, folder)
    if name == "stream_vad":
        case["audio"] = case["audio"][None, :VAD_FRAME]
        case["state"] = np.zeros(VAD_STATE_SHAPE, np.float32)
    if name == "ttt_policy":
        case["legal"] = case["board"] == 0
    if name == "mixed_table":
        case = {column: values.reshape(len(values), -1) for column, values in case.items()}
        case["colour"] = case["colour"].astype(object)
    return {key: np.ascontiguousarray(case[key]) for key in _CASE_INPUTS[name]}


def case_outputs(name: str, folder: Path = FOLDER) -> Arrays:
    """What ONNX Runtime's CPU provider gave for `case_inputs`; not always every output."""
    case = load_case(name, folder)
    if name == "stream_vad":
        case["prob"] = case["prob"][None, :1]
    return {key: case[key] for key in _CASE_OUTPUTS[name]}


def check_digits_mlp(run: Run, folder: Path = FOLDER) -> Result:
    """Accuracy on the 397 held-back digits and on the 32 of the case file."""
    return _check_digits("digits_mlp", run, folder)


def check_digits_cnn(run: Run, folder: Path = FOLDER) -> Result:
    """Accuracy on the 397 held-back digits and on the 32 of the case file."""
    return _check_digits("digits_cnn", run, folder)


def _check_digits(name: str, run: Run, folder: Path) -> Result:
    digits = held_back_digits()
    case = load_case(name, folder)

    def accuracy(images: NDArray[Any], labels: NDArray[Any]) -> float:
        return float((run({"image": images})["logits"].argmax(1) == labels).mean())

    return Result(
        name,
        (
            Measure("accuracy", accuracy(digits.images[:, None], digits.labels), 0.97),
            Measure("case_accuracy", accuracy(case["image"], case["label"]), 0.97),
        ),
    )


def check_digit_det(run: Run, folder: Path = FOLDER) -> Result:
    """Recall and precision at score 0.5 on 500 fresh scenes: within 3 pixels, the right digit.

    With 100 scenes, recall would differ by 0.03 from one drawing to the next. On the scenes of the
    case file, the share of its own detections that are found again.
    """
    images, truth = draw_scenes(np.random.default_rng(1), held_back_digits(), 500)
    found = predicted = 0
    for start in range(0, len(images), 50):
        outputs = run({"image": images[start : start + 50]})
        for index, boxes in enumerate(truth[start : start + 50]):
            kept = outputs["scores"][index] > 0.5
            corners, labels = outputs["boxes"][index][kept], outputs["labels"][index][kept]
            predicted += int(kept.sum())
            for *edges, digit in boxes:
                near = np.abs(corners - np.array(edges)).max(axis=1, initial=0) < 3
                found += bool((near & (labels == digit)).any())
    wanted = sum(len(boxes) for boxes in truth)

    case = load_case("digit_det", folder)
    again = run({"image": case["image"]})
    sure = case["scores"] > 0.5
    moved = np.abs(again["boxes"] - case["boxes"]).max(-1)
    same = (again["labels"] == case["labels"]) & (moved < 1)
    return Result(
        "digit_det",
        (
            Measure("recall", found / wanted, 0.80),
            Measure("precision", found / max(predicted, 1), 0.95),
            Measure("case_detections_again", float(same[sure].mean()), 1.0),
        ),
    )


def check_line_ctc(run: Run, folder: Path = FOLDER) -> Result:
    """Lines of twelve digits read without any mistake: 100 fresh ones, and the case file's four.

    Training saw lines of three to eight digits. Four lines are too few for a bar of their own
    beyond the first: three of four must be right.
    """
    case = load_case("line_ctc", folder)

    def exact(images: NDArray[Any], digits: NDArray[Any]) -> float:
        read = decode_ctc(run({"image": images})["log_probs"])
        right = [got == list(want) for got, want in zip(read, digits, strict=True)]
        return float(np.mean(right))

    fresh = draw_lines(np.random.default_rng(1), held_back_digits(), 100, 12)
    return Result(
        "line_ctc",
        (
            Measure("exact_lines", exact(*fresh), 0.80),
            Measure("case_exact_lines", exact(case["image"], case["digits"]), 0.75),
        ),
    )


def check_stream_vad(run: Run, folder: Path = FOLDER) -> Result:
    """Share of frames told right at 0.5, one frame a call, the state carried from call to call."""
    case = load_case("stream_vad", folder)
    state = np.zeros(VAD_STATE_SHAPE, np.float32)
    probs = []
    for frame in case["audio"].reshape(-1, 1, VAD_FRAME):
        outputs = run({"audio": frame, "state": state})
        # Copied, because a caller may hand out memory that its next call writes to.
        state = np.array(outputs["state_out"])
        probs.append(float(outputs["prob"][0, 0]))
    prob, speech = np.array(probs), case["speech"]
    return Result(
        "stream_vad",
        (
            Measure("frame_accuracy", float(((prob > 0.5) == speech).mean()), 0.93),
            Measure("mean_in_speech", float(prob[speech].mean()), 0.80),
            Measure("mean_in_silence", float(prob[~speech].mean()), 0.20, at_most=True),
        ),
    )


def check_text_embed(run: Run, folder: Path = FOLDER) -> Result:
    """How many of six sentences in an unseen pattern lie nearest to the pattern's own meaning."""
    embedding = run(case_inputs("text_embed", folder))["embedding"]
    by_meaning = embedding.reshape(6, 5, -1)
    known, unseen = by_meaning[:, 0], by_meaning[:, 4]
    right = (unseen @ known.T).argmax(1) == np.arange(6)
    length = float(np.abs(np.linalg.norm(embedding, axis=1) - 1).max())
    return Result(
        "text_embed",
        (
            Measure("unseen_patterns_right", float(right.sum()), 4),
            Measure("length_error", length, 1e-3, at_most=True),
        ),
    )


def check_wine_forest(run: Run, folder: Path = FOLDER) -> Result:
    """Labels equal to scikit-learn's, which the case file holds (they are also the true ones)."""
    case = load_case("wine_forest", folder)
    outputs = run({"X": case["X"]})
    return Result(
        "wine_forest",
        (
            Measure("labels_equal", float((outputs["label"] == case["label"]).mean()), 1.0),
            _probability_error(outputs, case),
        ),
    )


def check_mixed_table(run: Run, folder: Path = FOLDER) -> Result:
    """Labels equal to scikit-learn's, and nearly all of them what the rule of the table says."""
    case = load_case("mixed_table", folder)
    outputs = run(case_inputs("mixed_table", folder))
    label = np.asarray(outputs["label"]).astype(str)
    red = case["colour"] == "red"
    kept = np.where((case["weight"] > 5) ^ red, "keep", "drop")
    truth = np.where(case["colour"] == "blue", "check", kept)
    return Result(
        "mixed_table",
        (
            Measure("labels_equal", float((label == case["label"]).mean()), 1.0),
            Measure("accuracy", float((label == truth).mean()), 0.98),
            _probability_error(outputs, case),
        ),
    )


def _probability_error(outputs: Arrays, case: Arrays) -> Measure:
    error = np.abs(outputs["probabilities"] - case["probabilities"]).max()
    return Measure("probability_error", float(error), 1e-5, at_most=True)


def check_ttt_policy(run: Run, folder: Path = FOLDER, games: int = 200) -> Result:
    """Moves of the case file that are best by full search, all positions, and games played.

    The policy begins every other game; its opponent plays at random (seeded).
    """

    def moves(boards: NDArray[np.float32]) -> NDArray[Any]:
        return run({"board": boards, "legal": boards == 0})["move"]

    def optimal(boards: NDArray[np.float32]) -> float:
        chosen = moves(boards)
        best = (tictactoe.best(tuple(int(c) for c in board))[1] for board in boards)
        return float(np.mean([move in good for move, good in zip(chosen, best, strict=True)]))

    def policy(board: tictactoe.Board) -> int:
        return int(moves(np.array([board], np.float32))[0])

    rng = random.Random(0)
    outcomes = [_play(policy, rng, policy_begins=game % 2 == 0) for game in range(games)]
    everywhere = np.array(tictactoe.positions(), np.float32)
    return Result(
        "ttt_policy",
        (
            Measure("case_optimal", optimal(load_case("ttt_policy", folder)["board"]), 1.0),
            Measure("optimal", optimal(everywhere), 1.0),
            Measure("lost", outcomes.count(-1), 0, at_most=True),
            Measure("won", outcomes.count(1), games / 2),
        ),
    )


def _play(policy: Callable[[tictactoe.Board], int], rng: random.Random, policy_begins: bool) -> int:
    """Plays one game; returns 1, 0 or -1 for won, drawn or lost by the policy."""
    board, side = tictactoe.EMPTY, 1 if policy_begins else -1
    while tictactoe.free_cells(board):
        free = tictactoe.free_cells(board)
        cell = policy(board) if side == 1 else rng.choice(free)
        assert cell in free, f"ttt_policy: moved to the taken cell {cell} of {board}"
        board = tictactoe.play(board, cell, side)
        if tictactoe.wins(board, side):
            return side
        side = -side
    return 0


def check_cartpole(run: Run, folder: Path = FOLDER, count: int = 64) -> Result:
    """Rods still upright after four seconds with pushes, each from another start."""
    standing, cost = cartpoles.balance(lambda s: run({"state": s})["force"][:, 0], count, seconds=4)
    return Result(
        "cartpole",
        (
            Measure("standing", float(standing.mean()), 1.0),
            Measure("cost", float(cost.mean()), 0.02, at_most=True),
        ),
    )


CHECKS: dict[str, Callable[[Run, Path], Result]] = {
    "digits_mlp": check_digits_mlp,
    "digits_cnn": check_digits_cnn,
    "digit_det": check_digit_det,
    "line_ctc": check_line_ctc,
    "stream_vad": check_stream_vad,
    "text_embed": check_text_embed,
    "wine_forest": check_wine_forest,
    "mixed_table": check_mixed_table,
    "ttt_policy": check_ttt_policy,
    "cartpole": check_cartpole,
}


def check(name: str, run: Run, folder: Path = FOLDER) -> Result:
    """Runs the task of model `name`; the bars are not enforced until `Result.require`."""
    return CHECKS[name](run, folder)
