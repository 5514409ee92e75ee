// SPDX-License-Identifier: Apache-2.0
// The built-in ops, a line each in its own file's name; the one symbol that the library exports.
#include "ops/list.h"

#include "zerolane/op.h"

ZEROLANE_OPS_FROM("zerolane", "0.1.0",                        //
                  zerolane::ops::ctc_greedy_decode(),         //
                  zerolane::ops::ctc_greedy_decode_flat(),    //
                  zerolane::ops::dequantize(),                //
                  zerolane::ops::dynamic_quantize(),          //
                  zerolane::ops::letterbox(),                 //
                  zerolane::ops::letterbox_float16(),         //
                  zerolane::ops::quantize(),                  //
                  zerolane::ops::resize_normalize(),          //
                  zerolane::ops::resize_normalize_float16(),  //
                  zerolane::ops::roi_align(),                 //
                  zerolane::ops::scaled_gelu(),               //
                  zerolane::ops::softmax_top_k())
