// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "zerolane/half.h"

namespace zerolane::kernels {

// The best path of connectionist temporal classification (Graves et al., ICML 2006, section 3.2):
// the likeliest class of each step, repeats taken once, blanks dropped.
//
// One sequence: `steps` rows of `classes` log-probabilities (or logits), `stride` elements apart.
// Of equal classes the lowest wins; NaN loses to every number. With merge_repeats a class counts
// again only after another class or a blank. Writes the labels, at most `steps`, and returns how
// many. The score is the sum of the chosen elements, 0 without steps, NaN if all classes of a step
// are NaN. classes >= 1; `blank` outside [0, classes) drops nothing.
size_t ctc_greedy(const float* x, size_t steps, size_t stride, size_t classes, int64_t blank,
                  bool merge_repeats, int64_t* labels, float* score) noexcept;
size_t ctc_greedy(const Half* x, size_t steps, size_t stride, size_t classes, int64_t blank,
                  bool merge_repeats, int64_t* labels, float* score) noexcept;
size_t ctc_greedy(const BFloat16* x, size_t steps, size_t stride, size_t classes, int64_t blank,
                  bool merge_repeats, int64_t* labels, float* score) noexcept;

}  // namespace zerolane::kernels
