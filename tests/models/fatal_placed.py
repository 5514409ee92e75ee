"""Fatal nodes inside subgraphs and functions, and zero sizes that come from the data."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from tests.models.fatal_build import (
    Array,
    Built,
    Case,
    after,
    in_function,
    in_if,
    in_loop,
    ints,
    ones,
    zeros,
)
from tests.models.fatal_standard import (
    div_int32_overflow,
    gru_batch_zero,
    gru_sequence_zero,
    instance_norm_computed_height_zero,
    lstm_batch_zero,
    transpose_matmul_leading_zero,
)


def lstm_in_if() -> Built:
    return in_if(lstm_batch_zero())


def lstm_in_loop() -> Built:
    return in_loop(lstm_batch_zero())


def lstm_in_loop_in_if() -> Built:
    return in_if(in_loop(lstm_batch_zero()))


def lstm_in_function() -> Built:
    return in_function(lstm_batch_zero())


def gru_in_if() -> Built:
    return in_if(gru_sequence_zero())


def gru_in_loop() -> Built:
    return in_loop(gru_sequence_zero())


# No input is empty: the zero size comes from the data.


def lstm_batch_compressed_away() -> Built:
    nodes = [helper.make_node("Compress", ["x", "keep"], ["x0"], axis=1)]
    inputs: dict[str, Array] = {"x": ones(5, 2, 3), "keep": np.zeros(2, np.bool_)}
    return after(lstm_batch_zero(), "x0", nodes, inputs)


def lstm_batch_sliced_away() -> Built:
    nodes = [helper.make_node("Slice", ["x", "start", "end", "axis"], ["x0"])]
    inputs = {"x": ones(5, 2, 3), "start": ints(0), "end": ints(0), "axis": ints(1)}
    return after(lstm_batch_zero(), "x0", nodes, inputs)


def lstm_batch_compressed_away_in_if() -> Built:
    return in_if(lstm_batch_compressed_away())


def gru_batch_gathered_from_non_zero() -> Built:
    nodes = [
        helper.make_node("NonZero", ["present"], ["found"]),
        helper.make_node("Flatten", ["found"], ["flat"], axis=0),
        helper.make_node("Gather", ["flat", "first"], ["which"], axis=0),
        helper.make_node("Gather", ["x", "which"], ["x0"], axis=1),
    ]
    inputs: dict[str, Array] = {"x": ones(5, 2, 3), "present": zeros(2), "first": np.array(0)}
    return after(gru_batch_zero(), "x0", nodes, inputs)


def gru_sequence_compressed_away() -> Built:
    nodes = [helper.make_node("Compress", ["x", "keep"], ["x0"], axis=0)]
    inputs: dict[str, Array] = {"x": ones(5, 2, 3), "keep": np.zeros(5, np.bool_)}
    return after(gru_sequence_zero(), "x0", nodes, inputs)


def transpose_matmul_compressed_away() -> Built:
    nodes = [helper.make_node("Compress", ["x", "keep"], ["a"], axis=0)]
    inputs: dict[str, Array] = {"x": ones(3, 2, 5), "keep": np.zeros(3, np.bool_)}
    return after(transpose_matmul_leading_zero(), "a", nodes, inputs)


def instance_norm_width_compressed_away() -> Built:
    nodes = [
        helper.make_node("Compress", ["wide", "keep"], ["x"], axis=3),
    ]
    inputs: dict[str, Array] = {"wide": ones(2, 3, 4, 5), "keep": np.zeros(5, np.bool_)}
    return after(instance_norm_computed_height_zero(), "x", nodes, inputs)


def div_overflow_from_cast() -> Built:
    nodes = [helper.make_node("Cast", ["a"], ["x0"], to=TensorProto.INT32)]
    return after(div_int32_overflow(), "x0", nodes, {"a": np.array([-(2.0**31)], np.float32)})


PLACED: tuple[Case, ...] = (
    Case(lstm_in_if, "LSTM", "X dim 1 is 0, in an If", "SIGABRT"),
    Case(lstm_in_loop, "LSTM", "X dim 1 is 0, in a Loop", "SIGABRT"),
    Case(lstm_in_loop_in_if, "LSTM", "X dim 1 is 0, in a Loop in an If", "SIGABRT"),
    Case(lstm_in_function, "LSTM", "X dim 1 is 0, in a model-local function", "SIGABRT"),
    Case(gru_in_if, "GRU", "X dim 0 is 0, in an If", "SIGABRT"),
    Case(gru_in_loop, "GRU", "X dim 0 is 0, in a Loop", "SIGABRT"),
    Case(lstm_batch_compressed_away, "LSTM", "batch emptied by Compress", "SIGABRT"),
    Case(lstm_batch_sliced_away, "LSTM", "batch emptied by Slice", "SIGABRT"),
    Case(
        lstm_batch_compressed_away_in_if, "LSTM", "batch emptied by Compress, in an If", "SIGABRT"
    ),
    Case(gru_batch_gathered_from_non_zero, "GRU", "batch from NonZero of zeros", "SIGABRT"),
    Case(gru_sequence_compressed_away, "GRU", "sequence emptied by Compress", "SIGABRT"),
    Case(transpose_matmul_compressed_away, "MatMul", "emptied by Compress", "SIGFPE", True),
    Case(instance_norm_width_compressed_away, "InstanceNormalization", "emptied", "SIGSEGV"),
    Case(div_overflow_from_cast, "Div", "INT32_MIN from Cast, / -1", "SIGFPE"),
)
