"""Nodes of the standard domain that end the process by the shapes or values of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.models.fatal_build import Array, Built, Case, ints, network, ones, single, zeros

# Recurrent nets. X is (sequence, batch, input).


def _recurrent(op: str, gates: int, x: Array, hidden: int = 4, **attributes: Any) -> Built:
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    weights = (
        ones(directions, gates * hidden, x.shape[2]),
        ones(directions, gates * hidden, hidden),
    )
    return single(op, [x, *weights], constant=(1, 2), hidden_size=hidden, **attributes)


def lstm_batch_zero() -> Built:
    return _recurrent("LSTM", 4, zeros(5, 0, 3))


def lstm_bidirectional_batch_zero() -> Built:
    return _recurrent("LSTM", 4, zeros(5, 0, 3), direction="bidirectional")


def gru_batch_zero() -> Built:
    return _recurrent("GRU", 3, zeros(5, 0, 3))


def gru_sequence_zero() -> Built:
    return _recurrent("GRU", 3, zeros(0, 2, 3))


def gru_input_size_zero() -> Built:
    return _recurrent("GRU", 3, zeros(5, 2, 0))


# Convolution and pooling.


def conv_kernel_extent_zero() -> Built:
    return single("Conv", [ones(1, 2, 6, 7), ones(3, 2, 0, 2)])


def conv_input_channels_zero() -> Built:
    return single("Conv", [zeros(1, 0, 5, 5), zeros(1, 0, 3, 3)], pads=[1, 1, 1, 1])


def conv_rank_zero() -> Built:
    return single("Conv", [ones(), ones()], free_rank=True)


def conv_rank_one() -> Built:
    return single("Conv", [ones(2), ones(3)], free_rank=True)


def conv_integer_rank_one() -> Built:
    arrays = [np.ones(9, np.uint8), np.ones((3, 2, 3, 2), np.uint8)]
    return single("ConvInteger", arrays, outputs=(TensorProto.INT32,), free_rank=True)


def qlinear_conv_rank_zero() -> Built:
    one, scale = np.array(1, np.uint8), np.array(0.1, np.float32)
    arrays: list[Array | None] = [
        one,
        scale,
        one,
        np.ones((3, 2, 3, 2), np.uint8),
        scale,
        one,
        scale,
        one,
    ]
    return single("QLinearConv", arrays, outputs=(TensorProto.UINT8,), free_rank=True)


def conv_transpose_3d_depth_zero() -> Built:
    return single("ConvTranspose", [ones(1, 2, 0, 6, 7), ones(2, 3, 3, 2, 2)])


def conv_max_pool_smaller_than_kernel() -> Built:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["y"], kernel_shape=[2, 2]),
    ]
    return network(nodes, {"x": ones(1, 16, 1, 3)}, {"w": ones(32, 16, 1, 1)})


def conv_average_pool_smaller_than_kernel() -> Built:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("AveragePool", ["c"], ["y"], kernel_shape=[2, 2]),
    ]
    return network(nodes, {"x": ones(1, 16, 1, 3)}, {"w": ones(32, 16, 1, 1)})


def average_pool_known_channels_smaller_than_kernel() -> Built:
    made = single("AveragePool", [ones(2, 16, 1, 5)], kernel_shape=[2, 2])
    shape: list[str | int | None] = ["n", 16, "h", "w"]
    made.model.graph.input[0].CopyFrom(
        helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)
    )
    return made


def instance_norm_computed_height_zero() -> Built:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("InstanceNormalization", ["r", "scale", "bias"], ["y"]),
    ]
    return network(nodes, {"x": zeros(2, 3, 0, 5)}, {"scale": ones(3), "bias": ones(3)})


def roi_align_computed_features_empty() -> Built:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("RoiAlign", ["r", "rois", "which"], ["y"], mode="avg"),
    ]
    rois = np.array([[0, 0, 4, 4]], np.float32)
    return network(nodes, {"x": zeros(1, 2, 0, 9), "rois": rois, "which": ints(0)})


def max_roi_pool_rois_rank_one() -> Built:
    return single("MaxRoiPool", [ones(1, 2, 8, 9), zeros(5)], free_rank=True, pooled_shape=[3, 4])


def roi_align_rois_rank_one() -> Built:
    return single("RoiAlign", [ones(1, 2, 8, 9), zeros(4), ints(0)], free_rank=True)


def grid_sample_rank_zero() -> Built:
    return single("GridSample", [ones(), ones()], free_rank=True)


def affine_grid_size_rank_zero() -> Built:
    arrays = [ones(2, 2, 3), np.array(2, np.int64)]
    return single("AffineGrid", arrays, opset=20, free_rank=True)


def resize_constant_scales_rank() -> Built:
    arrays = [ones(1, 2, 3, 4, 5), None, np.array([1, 1, 2, 2], np.float32)]
    return single("Resize", arrays, constant=(2,), opset=13, free_rank=True)


def upsample_constant_scales_rank() -> Built:
    arrays = [ones(1, 2, 3, 4, 5), np.array([1, 1, 2, 2], np.float32)]
    return single("Upsample", arrays, constant=(1,), opset=9, free_rank=True)


# Products.


def einsum_three_operands_zero() -> Built:
    arrays = [zeros(0, 3, 4), zeros(3, 0, 5), ones(4, 5)]
    return single("Einsum", arrays, equation="ijk,jil,kl->li")


def einsum_attention_batch_zero() -> Built:
    arrays = [zeros(0, 2, 3, 4), zeros(0, 5, 2, 4)]
    return single("Einsum", arrays, equation="bhqd,bkhd->bhqk")


def einsum_rank_below_subscript() -> Built:
    return single("Einsum", [ones(3), ones(5, 7)], free_rank=True, equation="ij,jk->ik")


def transpose_matmul_leading_zero() -> Built:
    nodes = [
        helper.make_node("Transpose", ["a"], ["t"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["t", "b"], ["y"]),
    ]
    return network(nodes, {"a": zeros(0, 2, 5), "b": ones(2, 5, 7)})


def sequence_first_attention_sequence_zero() -> Built:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["q"]),
        helper.make_node("Transpose", ["q"], ["qt"], perm=[1, 0, 2]),
        helper.make_node("Transpose", ["q"], ["kt"], perm=[1, 2, 0]),
        helper.make_node("Transpose", ["q"], ["vt"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["qt", "kt"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "vt"], ["y"]),
    ]
    return network(nodes, {"x": zeros(0, 2, 8)}, {"w": ones(8, 8)})


# Shapes and indices.


def concat_empty_of_lower_rank() -> Built:
    return single("Concat", [ones(2, 3), zeros(0)], free_rank=True, axis=0)


def unique_other_axis_zero() -> Built:
    return single("Unique", [zeros(2, 0)], axis=0)


def reverse_sequence_rank_one() -> Built:
    return single("ReverseSequence", [ones(4), ints(1, 1)], free_rank=True)


def multinomial_rank_one() -> Built:
    outputs = (TensorProto.INT32,)
    return single("Multinomial", [ones(5)], outputs=outputs, free_rank=True, sample_size=4)


def one_hot_constant_depth_empty() -> Built:
    return single("OneHot", [ints(0, 1), ints(), ones(2)], constant=(1,))


def loop_constant_trip_count_empty() -> Built:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_in"], ["go_out"]),
            helper.make_node("Identity", ["v_in"], ["v_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_in", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_out", TensorProto.FLOAT, None),
        ],
    )
    node = helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body)
    return network([node], {"x": ones(2)}, {"trips": ints()})


def sequence_at_constant_position_empty() -> Built:
    nodes = [
        helper.make_node("SequenceConstruct", ["x"], ["s"]),
        helper.make_node("SequenceAt", ["s", "p"], ["y"]),
    ]
    return network(nodes, {"x": ones(2)}, {"p": ints()})


def sequence_at_computed_position_empty() -> Built:
    nodes = [
        helper.make_node("Abs", ["p"], ["q"]),
        helper.make_node("SequenceConstruct", ["x"], ["s"]),
        helper.make_node("SequenceAt", ["s", "q"], ["y"]),
    ]
    return network(nodes, {"x": ones(2), "p": ints()})


# Integer arithmetic and quantization.


def _overflow(op: str, dtype: type[np.signedinteger[Any]]) -> Built:
    arrays = [np.array([np.iinfo(dtype).min], dtype), np.array([-1], dtype)]
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return single(op, arrays, outputs=(elem_type,))


def div_int32_overflow() -> Built:
    return _overflow("Div", np.int32)


def div_int64_overflow() -> Built:
    return _overflow("Div", np.int64)


def mod_int32_overflow() -> Built:
    return _overflow("Mod", np.int32)


def mod_int64_overflow() -> Built:
    return _overflow("Mod", np.int64)


def quantize_blocked_axis_zero() -> Built:
    arrays = [zeros(2, 0), zeros(2, 0), np.zeros((2, 0), np.uint8)]
    outputs = (TensorProto.UINT8,)
    return single("QuantizeLinear", arrays, outputs=outputs, opset=21, axis=1, block_size=4)


def quantize_blocked_inner_axis_zero() -> Built:
    arrays = [zeros(8, 0), zeros(2, 0), np.zeros((2, 0), np.uint8)]
    outputs = (TensorProto.UINT8,)
    return single("QuantizeLinear", arrays, outputs=outputs, opset=21, axis=0, block_size=4)


# Signals.


def dft_rank_zero() -> Built:
    return single("DFT", [ones()], opset=20, free_rank=True)


def dft_constant_axis_empty() -> Built:
    arrays = [ones(2, 8, 1), None, ints()]
    return single("DFT", arrays, constant=(2,), opset=20, free_rank=True)


def stft_frame_length_zero() -> Built:
    arrays = [ones(2, 32, 1), np.array(4, np.int64), None, np.array(0, np.int64)]
    return single("STFT", arrays)


def stft_window_empty() -> Built:
    return single("STFT", [ones(2, 32, 1), np.array(4, np.int64), zeros(0)])


def stft_signal_rank_one() -> Built:
    arrays = [ones(1), np.array(4, np.int64), ones(8)]
    return single("STFT", arrays, free_rank=True)


def stft_window_rank_zero() -> Built:
    arrays = [ones(2, 32, 1), np.array(4, np.int64), ones(), np.array(8, np.int64)]
    return single("STFT", arrays, free_rank=True)


# Transformers.


def attention_heads_zero() -> Built:
    arrays = [ones(2, 2, 3, 4), zeros(2, 0, 5, 4), zeros(2, 0, 5, 6)]
    return single("Attention", arrays, opset=23)


def attention_past_rank_zero() -> Built:
    arrays = [ones(2, 2, 3, 4), ones(2, 2, 5, 4), ones(2, 2, 5, 6), None, ones(), ones()]
    return single("Attention", arrays, outputs=(TensorProto.FLOAT,) * 3, opset=23, free_rank=True)


def add_layer_norm_same_symbol_other_extent() -> Built:
    nodes = [
        helper.make_node("Add", ["a", "b"], ["s"]),
        helper.make_node("LayerNormalization", ["s", "scale", "bias"], ["y"], axis=-1),
    ]
    made = network(
        nodes, {"a": ones(2, 3, 8), "b": zeros(0, 3, 8)}, {"scale": ones(8), "bias": ones(8)}
    )
    for value in made.model.graph.input:
        shape: list[str | int | None] = ["batch", "sequence", 8]
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))
    return made


STANDARD: tuple[Case, ...] = (
    Case(lstm_batch_zero, "LSTM", "X dim 1 (batch) is 0", "SIGABRT"),
    Case(lstm_bidirectional_batch_zero, "LSTM", "X dim 1 (batch) is 0", "SIGABRT"),
    Case(gru_batch_zero, "GRU", "X dim 1 (batch) is 0", "SIGABRT"),
    Case(gru_sequence_zero, "GRU", "X dim 0 (sequence) is 0, no sequence_lens", "SIGABRT"),
    Case(gru_input_size_zero, "GRU", "X dim 2 (input size) is 0", "SIGABRT"),
    Case(conv_kernel_extent_zero, "Conv", "W has a spatial dim of 0", "hang"),
    Case(conv_input_channels_zero, "Conv", "W dim 1 (channels) is 0", "hang"),
    Case(conv_rank_zero, "Conv", "X and W have rank 0", "SIGABRT"),
    Case(conv_rank_one, "Conv", "X and W have rank 1", "SIGABRT"),
    Case(conv_integer_rank_one, "ConvInteger", "X or W of rank below 2", "SIGABRT"),
    Case(qlinear_conv_rank_zero, "QLinearConv", "x or w of rank 0", "SIGABRT"),
    Case(conv_transpose_3d_depth_zero, "ConvTranspose", "rank 5, X dim 2 or 3 is 0", "SIGSEGV"),
    Case(
        conv_max_pool_smaller_than_kernel, "MaxPool", "output height 0 after Conv", "SIGFPE", True
    ),
    Case(
        conv_average_pool_smaller_than_kernel,
        "AveragePool",
        "output height 0 after Conv",
        "SIGFPE",
        True,
    ),
    Case(
        average_pool_known_channels_smaller_than_kernel, "AveragePool", "height 0", "SIGFPE", True
    ),
    Case(instance_norm_computed_height_zero, "InstanceNormalization", "spatial dim 0", "SIGSEGV"),
    Case(roi_align_computed_features_empty, "RoiAlign", "X height or width is 0", "SIGSEGV"),
    Case(max_roi_pool_rois_rank_one, "MaxRoiPool", "X rank < 4 or rois rank < 2", "SIGABRT"),
    Case(
        roi_align_rois_rank_one, "RoiAlign", "X rank < 4, rois rank < 2 or index rank 0", "SIGABRT"
    ),
    Case(grid_sample_rank_zero, "GridSample", "X and grid have rank 0", "SIGABRT"),
    Case(affine_grid_size_rank_zero, "AffineGrid", "size has rank 0", "SIGABRT"),
    Case(resize_constant_scales_rank, "Resize", "constant scales, X of higher rank", "SIGABRT"),
    Case(upsample_constant_scales_rank, "Upsample", "constant scales, X of higher rank", "SIGABRT"),
    Case(einsum_three_operands_zero, "Einsum", "three operands, a zero dim", "SIGFPE"),
    Case(einsum_attention_batch_zero, "Einsum", "two operands, batch 0", "SIGFPE"),
    Case(einsum_rank_below_subscript, "Einsum", "operand rank below its subscript", "SIGABRT"),
    Case(transpose_matmul_leading_zero, "MatMul", "fused transpose, dim 0 is 0", "SIGFPE", True),
    Case(sequence_first_attention_sequence_zero, "MatMul", "sequence of 0", "SIGFPE", True),
    Case(concat_empty_of_lower_rank, "Concat", "empty input of lower rank", "SIGABRT"),
    Case(unique_other_axis_zero, "Unique", "axis given, another dim is 0", "SIGABRT"),
    Case(reverse_sequence_rank_one, "ReverseSequence", "input rank below 2", "SIGABRT"),
    Case(multinomial_rank_one, "Multinomial", "input rank 1", "SIGABRT"),
    Case(one_hot_constant_depth_empty, "OneHot", "constant depth without elements", "SIGABRT"),
    Case(loop_constant_trip_count_empty, "Loop", "constant trip count without elements", "SIGSEGV"),
    Case(sequence_at_computed_position_empty, "SequenceAt", "computed position empty", "SIGSEGV"),
    Case(sequence_at_constant_position_empty, "SequenceAt", "constant position empty", "SIGSEGV"),
    Case(div_int32_overflow, "Div", "INT32_MIN / -1", "SIGFPE"),
    Case(div_int64_overflow, "Div", "INT64_MIN / -1", "SIGFPE"),
    Case(mod_int32_overflow, "Mod", "INT32_MIN mod -1, fmod 0", "SIGFPE"),
    Case(mod_int64_overflow, "Mod", "INT64_MIN mod -1, fmod 0", "SIGFPE"),
    Case(
        quantize_blocked_axis_zero, "QuantizeLinear", "blocked, a zero dim from axis on", "SIGFPE"
    ),
    Case(
        quantize_blocked_inner_axis_zero, "QuantizeLinear", "blocked, a later dim is 0", "SIGSEGV"
    ),
    Case(dft_rank_zero, "DFT", "input rank 0", "SIGABRT"),
    Case(dft_constant_axis_empty, "DFT", "constant axis without elements", "SIGSEGV"),
    Case(stft_frame_length_zero, "STFT", "frame_length is 0", "SIGFPE"),
    Case(stft_window_empty, "STFT", "window empty, no frame_length", "SIGFPE"),
    Case(stft_signal_rank_one, "STFT", "signal rank below 2", "SIGABRT"),
    Case(stft_window_rank_zero, "STFT", "window rank 0", "SIGABRT"),
    Case(attention_heads_zero, "Attention", "K dim 1 (heads) is 0, rank 4", "SIGFPE"),
    Case(attention_past_rank_zero, "Attention", "past_key of rank 0", "SIGABRT"),
    Case(
        add_layer_norm_same_symbol_other_extent,
        "Add",
        "one symbol, extents 2 and 0",
        "SIGFPE",
        True,
    ),
)
