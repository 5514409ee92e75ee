"""Nodes that are wrong in the model itself: they end the process whatever a run is given."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.models.fatal_build import MS, Array, Built, Case, ints, ones, single, zeros
from tests.models.fatal_contrib import group_query_attention


def max_middle_input_left_out() -> Built:
    return single("Max", [ones(3), None, ones(3)])


def einsum_middle_input_left_out() -> Built:
    return single("Einsum", [ones(3), None, ones(3)], equation="i,i,i->i")


def ms_attention_without_bias() -> Built:
    return single("Attention", [ones(2, 3, 8), ones(8, 24)], domain=MS, num_heads=2)


def attention_kv_heads_attribute_zero() -> Built:
    arrays = [ones(2, 3, 8), ones(2, 5, 8), ones(2, 5, 12)]
    return single("Attention", arrays, opset=23, q_num_heads=2, kv_num_heads=0)


def group_query_attention_heads_attribute_overflow() -> Built:
    return group_query_attention(2, kv_num_heads=2**32)


def gather_nd_batch_dims_negative() -> Built:
    return single("GatherND", [ones(4, 5), np.zeros((2, 1), np.int64)], batch_dims=-2)


def roi_align_sampling_ratio_overflow() -> Built:
    arrays = [ones(1, 2, 8, 9), ones(1, 4), ints(0)]
    return single("RoiAlign", arrays, sampling_ratio=2**32)


def lp_pool_kernel_shape_huge() -> Built:
    attributes: dict[str, Any] = {"kernel_shape": [2**31 - 1] * 2, "auto_pad": "SAME_UPPER"}
    return single("LpPool", [ones(1, 1, 8, 9)], **attributes)


def tfidf_ngram_indexes_short() -> Built:
    attributes: dict[str, Any] = {"mode": "TF", "min_gram_length": 1, "max_gram_length": 1}
    attributes |= {"max_skip_count": 0, "ngram_counts": [0], "ngram_indexes": [0]}
    return single("TfIdfVectorizer", [ints(1, 2, 3)], **attributes, pool_int64s=[1, 2, 3])


def qlinear_sigmoid_without_zero_point() -> Built:
    one, scale = np.array(1, np.uint8), np.array(0.1, np.float32)
    arrays: list[Array | None] = [np.ones((2, 3), np.uint8), scale, one, scale]
    return single(
        "QLinearSigmoid", arrays, domain=MS, constant=(1, 2, 3), outputs=(TensorProto.UINT8,)
    )


def qlinear_softmax_constant_scale_empty() -> Built:
    one, scale = np.array(1, np.uint8), np.array(0.1, np.float32)
    arrays = [np.ones((2, 3), np.uint8), zeros(0), one, scale, one]
    outputs = (TensorProto.UINT8,)
    built = single("QLinearSoftmax", arrays, domain=MS, constant=(1, 2, 3, 4), outputs=outputs)
    built.model.graph.node[0].attribute.append(helper.make_attribute("opset", 13))
    return built


MODELS: tuple[Case, ...] = (
    Case(max_middle_input_left_out, "Max", "a variadic input left out", "SIGSEGV"),
    Case(einsum_middle_input_left_out, "Einsum", "a variadic input left out", "SIGSEGV"),
    Case(ms_attention_without_bias, "Attention", "com.microsoft, bias left out", "SIGSEGV"),
    Case(attention_kv_heads_attribute_zero, "Attention", "kv_num_heads is 0", "SIGFPE"),
    Case(
        group_query_attention_heads_attribute_overflow,
        "GroupQueryAttention",
        "kv_num_heads 2**32",
        "SIGFPE",
    ),
    Case(gather_nd_batch_dims_negative, "GatherND", "batch_dims below 0", "SIGABRT"),
    Case(roi_align_sampling_ratio_overflow, "RoiAlign", "sampling_ratio 2**32", "SIGABRT"),
    Case(lp_pool_kernel_shape_huge, "LpPool", "kernel_shape of 2**31 - 1", "hang"),
    Case(tfidf_ngram_indexes_short, "TfIdfVectorizer", "ngram_indexes too short", "SIGABRT"),
    Case(qlinear_sigmoid_without_zero_point, "QLinearSigmoid", "Y_zero_point left out", "SIGABRT"),
    Case(qlinear_softmax_constant_scale_empty, "QLinearSoftmax", "constant scale empty", "SIGSEGV"),
)
