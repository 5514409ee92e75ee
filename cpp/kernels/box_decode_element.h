// SPDX-License-Identifier: Apache-2.0
// The arithmetic of one box, or of a vector of boxes, see box_decode.h.
#pragma once

#include "kernels/exp_element.h"

namespace zerolane::kernels {

// Four numbers of a box, or of what it is decoded from.
template <typename F>
struct BoxOf {
  F a, b, c, d;
};

template <typename F>
ZL_ELEMENT F exp_below_zero(F x) {
  const F least = F{} + kExpLeast32;
  return exp_of_negative_32(x < least ? least : x, F{});
}

// 0 below -88, infinity above 88.
template <typename F>
ZL_ELEMENT F exp_of(F x) {
  const F power = exp_below_zero(x > F{} ? -x : x);
  return x > F{} ? 1.0F / power : power;
}

template <typename F>
ZL_ELEMENT F logistic(F x) {
  const F power = exp_below_zero(x > F{} ? -x : x);
  return (x > F{} ? F{} + 1.0F : power) / (1.0F + power);
}

// The expected bin under the softmax of load(0), ..., load(bins - 1). Infinities give NaN, except
// minus infinity beside finite ones.
template <typename F, typename Load>
ZL_ELEMENT F expected_bin(int64_t bins, const Load& load) {
  F most = load(0);
  for (int64_t k = 1; k < bins; ++k) {
    const F logit = load(k);
    most = logit > most ? logit : most;
  }
  F sum = F{};
  F weighted = F{};
  for (int64_t k = 0; k < bins; ++k) {
    const F power = exp_below_zero(load(k) - most);
    sum = sum + power;
    weighted = weighted + power * static_cast<float>(k);
  }
  return weighted / sum;
}

template <typename F>
ZL_ELEMENT BoxOf<F> centered(F x, F y, F width, F height, bool corners) {
  if (!corners) return {x, y, width, height};
  const F reach_x = width * 0.5F;
  const F reach_y = height * 0.5F;
  return {x - reach_x, y - reach_y, x + reach_x, y + reach_y};
}

// `sides`: left, top, right, bottom in strides.
template <typename F>
ZL_ELEMENT BoxOf<F> box_of_distances(BoxOf<F> sides, F x, F y, F stride, bool corners) {
  if (corners) {
    return {x - sides.a * stride, y - sides.b * stride, x + sides.c * stride, y + sides.d * stride};
  }
  return {x + (sides.c - sides.a) * 0.5F * stride, y + (sides.d - sides.b) * 0.5F * stride,
          (sides.a + sides.c) * stride, (sides.b + sides.d) * stride};
}

template <typename F, typename Settings>
ZL_ELEMENT BoxOf<F> box_of_deltas(BoxOf<F> delta, BoxOf<F> anchor, const Settings& settings) {
  F x = anchor.a;
  F y = anchor.b;
  F width = anchor.c;
  F height = anchor.d;
  if (settings.anchor_corners) {
    width = anchor.c - anchor.a;
    height = anchor.d - anchor.b;
    x = anchor.a + width * 0.5F;
    y = anchor.b + height * 0.5F;
  }
  const F limit = F{} + settings.largest_log;
  const F log_width = delta.c * settings.variances[2];
  const F log_height = delta.d * settings.variances[3];
  return centered<F>(x + delta.a * settings.variances[0] * width,
                     y + delta.b * settings.variances[1] * height,
                     width * exp_of(log_width > limit ? limit : log_width),
                     height * exp_of(log_height > limit ? limit : log_height), settings.corners);
}

// `cell`: x, y, and the anchor's width and height.
template <typename F>
ZL_ELEMENT BoxOf<F> box_of_cell(BoxOf<F> raw, BoxOf<F> cell, F stride, bool version5,
                                bool corners) {
  const F right = logistic(raw.a);
  const F down = logistic(raw.b);
  if (!version5) {
    return centered<F>(cell.a + right * stride, cell.b + down * stride, cell.c * exp_of(raw.c),
                       cell.d * exp_of(raw.d), corners);
  }
  const F wide = 2.0F * logistic(raw.c);
  const F high = 2.0F * logistic(raw.d);
  return centered<F>(cell.a + (2.0F * right - 0.5F) * stride,
                     cell.b + (2.0F * down - 0.5F) * stride, cell.c * (wide * wide),
                     cell.d * (high * high), corners);
}

}  // namespace zerolane::kernels
