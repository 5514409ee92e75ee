"""Nodes of com.microsoft that end the process by the shapes of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from tests.models.fatal_build import MS, Array, Built, Case, ints, ones, single, zeros


def dynamic_quantize_lstm_batch_zero() -> Built:
    w, r = np.ones((1, 3, 16), np.uint8), np.ones((1, 4, 16), np.uint8)
    scale, zero = ones(1), np.zeros(1, np.uint8)
    arrays = [zeros(5, 0, 3), w, r, None, None, None, None, None, scale, zero, scale, zero]
    return single(
        "DynamicQuantizeLSTM", arrays, domain=MS, constant=(1, 2, 8, 9, 10, 11), hidden_size=4
    )


def attn_lstm_batch_zero() -> Built:
    arrays = [
        zeros(5, 0, 3),
        ones(1, 16, 7),
        ones(1, 16, 4),
        ones(1, 32),
        np.zeros(0, np.int32),
    ]
    arrays += [zeros(1, 0, 4), zeros(1, 0, 4)]
    attention = [
        ones(1, 4, 4),
        ones(1, 8, 4),
        ones(1, 4),
        zeros(0, 7, 8),
        np.zeros(0, np.int32),
    ]
    return single("AttnLSTM", [*arrays, None, *attention, ones(1, 12, 4)], domain=MS, hidden_size=4)


def fused_conv_kernel_extent_zero() -> Built:
    arrays = [ones(1, 2, 6, 7), ones(3, 2, 0, 2)]
    return single("FusedConv", arrays, domain=MS, activation="Relu")


def fused_conv_rank_zero() -> Built:
    return single("FusedConv", [ones(), ones()], domain=MS, activation="Relu", free_rank=True)


def qlinear_average_pool_smaller_than_kernel() -> Built:
    one, scale = np.array(1, np.uint8), np.array(0.1, np.float32)
    arrays: list[Array | None] = [np.ones((1, 1, 6, 3), np.uint8), scale, one, scale, one]
    attributes: dict[str, Any] = {"kernel_shape": [2, 3], "channels_last": 1}
    outputs = (TensorProto.UINT8,)
    return single("QLinearAveragePool", arrays, domain=MS, outputs=outputs, **attributes)


def crop_and_resize_rois_rank_one() -> Built:
    arrays = [ones(1, 2, 8, 9), zeros(4), np.zeros(1, np.int32), np.array([5, 6], np.int32)]
    return single("CropAndResize", arrays, domain=MS, free_rank=True)


def fused_matmul_batch_zero() -> Built:
    return single("FusedMatMul", [zeros(0, 2, 5), ones(2, 5, 7)], domain=MS, transBatchA=1)


def qlinear_concat_empty_of_lower_rank() -> Built:
    one, scale = np.array(1, np.uint8), np.array(0.1, np.float32)
    arrays: list[Array | None] = [
        scale,
        one,
        np.ones((2, 3), np.uint8),
        scale,
        one,
        np.zeros(0, np.uint8),
        scale,
        one,
    ]
    outputs = (TensorProto.UINT8,)
    return single("QLinearConcat", arrays, domain=MS, outputs=outputs, free_rank=True, axis=0)


def qattention_batch_zero() -> Built:
    one, scale = np.array(1, np.uint8), np.array(0.1, np.float32)
    arrays = [np.zeros((0, 3, 8), np.uint8), np.ones((8, 24), np.uint8), ones(24), scale, scale]
    return single("QAttention", [*arrays, None, one, one], domain=MS, constant=(1,), num_heads=2)


def multi_head_attention_query_hidden_zero() -> Built:
    return single(
        "MultiHeadAttention",
        [zeros(2, 3, 0), zeros(2, 5, 0), ones(2, 5, 8)],
        domain=MS,
        num_heads=2,
    )


def multi_head_attention_value_hidden_zero() -> Built:
    return single(
        "MultiHeadAttention",
        [ones(2, 3, 8), ones(2, 5, 8), zeros(2, 5, 0)],
        domain=MS,
        num_heads=2,
    )


def group_query_attention(
    batch: int, position_ids: Array | None = None, kv_num_heads: int = 2
) -> Built:
    """One new token after 4; `kv_num_heads` other than 2 contradicts the shapes."""
    past = ones(batch, 2, 6, 16)
    arrays: list[Array | None] = [ones(batch, 1, 64), ones(batch, 1, 32), ones(batch, 1, 32)]
    arrays += [past, past.copy(), np.full(batch, 4, np.int32), np.array([5], np.int32)]
    arrays += [ones(9, 8), ones(9, 8), position_ids]
    heads: dict[str, Any] = {"num_heads": 4, "kv_num_heads": kv_num_heads, "do_rotary": 1}
    outputs = (TensorProto.FLOAT,) * 3
    return single(
        "GroupQueryAttention", arrays, domain=MS, outputs=outputs, free_rank=True, **heads
    )


def group_query_attention_batch_zero() -> Built:
    return group_query_attention(0)


def group_query_attention_position_rank_one() -> Built:
    return group_query_attention(2, ints(4, 4))


def linear_attention_hidden_zero() -> Built:
    arrays = [zeros(2, 3, 0), zeros(2, 3, 0), ones(2, 3, 16)]
    attributes: dict[str, Any] = {"q_num_heads": 2, "kv_num_heads": 2, "update_rule": "linear"}
    outputs = (TensorProto.FLOAT,) * 2
    return single("LinearAttention", arrays, domain=MS, outputs=outputs, **attributes)


def rotary_embedding_hidden_zero() -> Built:
    arrays = [zeros(2, 3, 0), ints(2), ones(10, 4), ones(10, 4)]
    return single("RotaryEmbedding", arrays, domain=MS, num_heads=4)


def embed_layer_norm_position_rank_one() -> Built:
    ids = np.zeros((2, 3), np.int32)
    arrays = [
        ids,
        None,
        ones(10, 8),
        ones(6, 8),
        None,
        ones(8),
        ones(8),
        None,
        np.zeros(3, np.int32),
    ]
    outputs = (TensorProto.FLOAT, TensorProto.INT32)
    return single("EmbedLayerNormalization", arrays, domain=MS, outputs=outputs, free_rank=True)


def skip_layer_norm_skip_empty() -> Built:
    arrays = [ones(2, 3, 8), zeros(0, 3, 8), ones(8)]
    return single("SkipLayerNormalization", arrays, domain=MS)


def skip_simplified_layer_norm_skip_empty() -> Built:
    arrays = [ones(2, 3, 8), zeros(0, 3, 8), ones(8)]
    return single("SkipSimplifiedLayerNormalization", arrays, domain=MS)


def moe_hidden_zero() -> Built:
    arrays = [
        zeros(3, 0),
        ones(3, 4),
        zeros(4, 16, 0),
        ones(4, 16),
        zeros(4, 0, 16),
        zeros(4, 0),
    ]
    return single("MoE", arrays, domain=MS, k=2, activation_type="relu")


def qmoe_hidden_zero() -> Built:
    w1, w2 = np.zeros((4, 32, 0), np.uint8), np.zeros((4, 0, 16), np.uint8)
    arrays = [
        zeros(3, 0),
        ones(3, 4),
        w1,
        ones(4, 32),
        ones(4, 32),
        w2,
        zeros(4, 0),
        zeros(4, 0),
    ]
    attributes: dict[str, Any] = {"k": 2, "activation_type": "relu", "expert_weight_bits": 4}
    return single("QMoE", arrays, domain=MS, **attributes)


def inverse_not_square() -> Built:
    return single("Inverse", [zeros(2, 3, 0)], domain=MS)


CONTRIB: tuple[Case, ...] = (
    Case(dynamic_quantize_lstm_batch_zero, "DynamicQuantizeLSTM", "X dim 1 is 0", "SIGABRT"),
    Case(attn_lstm_batch_zero, "AttnLSTM", "X dim 1 is 0", "SIGABRT"),
    Case(fused_conv_kernel_extent_zero, "FusedConv", "W has a spatial dim of 0", "hang"),
    Case(fused_conv_rank_zero, "FusedConv", "X and W have rank 0", "SIGABRT"),
    Case(
        qlinear_average_pool_smaller_than_kernel,
        "QLinearAveragePool",
        "NHWC below kernel",
        "SIGFPE",
    ),
    Case(crop_and_resize_rois_rank_one, "CropAndResize", "X rank < 4 or rois rank < 2", "SIGABRT"),
    Case(fused_matmul_batch_zero, "FusedMatMul", "transBatchA and A dim 0 is 0", "SIGFPE"),
    Case(
        qlinear_concat_empty_of_lower_rank, "QLinearConcat", "empty input of lower rank", "SIGABRT"
    ),
    Case(qattention_batch_zero, "QAttention", "input dim 0 (batch) is 0", "SIGFPE"),
    Case(
        multi_head_attention_query_hidden_zero, "MultiHeadAttention", "query dim 2 is 0", "SIGFPE"
    ),
    Case(
        multi_head_attention_value_hidden_zero, "MultiHeadAttention", "value dim 2 is 0", "SIGFPE"
    ),
    Case(group_query_attention_batch_zero, "GroupQueryAttention", "query dim 0 is 0", "SIGFPE"),
    Case(
        group_query_attention_position_rank_one,
        "GroupQueryAttention",
        "position_ids rank 1",
        "SIGABRT",
    ),
    Case(linear_attention_hidden_zero, "LinearAttention", "query or key dim 2 is 0", "SIGFPE"),
    Case(
        rotary_embedding_hidden_zero, "RotaryEmbedding", "com.microsoft, last dim is 0", "SIGSEGV"
    ),
    Case(embed_layer_norm_position_rank_one, "EmbedLayerNormalization", "ids of rank 1", "SIGABRT"),
    Case(skip_layer_norm_skip_empty, "SkipLayerNormalization", "skip empty, input not", "SIGFPE"),
    Case(
        skip_simplified_layer_norm_skip_empty,
        "SkipSimplifiedLayerNormalization",
        "skip empty",
        "SIGFPE",
    ),
    Case(moe_hidden_zero, "MoE", "input last dim is 0", "SIGFPE"),
    Case(qmoe_hidden_zero, "QMoE", "input last dim is 0", "SIGFPE"),
    Case(inverse_not_square, "Inverse", "last two dims differ", "SIGSEGV"),
)
