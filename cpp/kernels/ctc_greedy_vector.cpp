// SPDX-License-Identifier: Apache-2.0
#include "kernels/ctc_greedy.h"

#include "kernels/lanes.h"

namespace zerolane::kernels::ZL_ISA {
namespace {

// The place of the largest element, the first of equal ones, NaN apart; 0 if all are NaN.
template <typename Element>
ZL_ELEMENT size_t find_largest(const Element* x, size_t n) {
  const float lowest = -__builtin_inff();
  Floats most[2] = {Floats{} + lowest, Floats{} + lowest};
  const size_t whole = n - n % kLanes;
  const size_t rest = n - whole;
  size_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    most[0] = larger_lanes(load(x + i), most[0]);
    most[1] = larger_lanes(load(x + i + kLanes), most[1]);
  }
  if (i < whole) most[0] = larger_lanes(load(x + i), most[0]);
  Floats end{};
  if (rest != 0) {
    end = load_some(x + whole, rest, __builtin_nanf(""));
    most[1] = larger_lanes(end, most[1]);
  }
  const Floats all = Floats{} + largest_lane(larger_lanes(most[0], most[1]));
  for (i = 0; i < whole; i += kLanes) {
    const unsigned equal = lanes_where(load(x + i) == all);
    if (equal != 0) return i + static_cast<size_t>(__builtin_ctz(equal));
  }
  const unsigned equal = rest != 0 ? lanes_where(end == all) : 0;
  return equal != 0 ? whole + static_cast<size_t>(__builtin_ctz(equal)) : 0;
}

template <typename Element>
size_t run(const Element* x, size_t steps, size_t stride, size_t classes, int64_t blank,
           bool merge_repeats, int64_t* labels, float* score) {
  size_t count = 0;
  double sum = 0;
  int64_t before = -1;
  for (size_t step = 0; step < steps; ++step, x += stride) {
    const size_t best = find_largest(x, classes);
    sum += static_cast<double>(static_cast<float>(x[best]));
    const auto label = static_cast<int64_t>(best);
    labels[count] = label;  // is written over if it does not count
    count += label != blank && !(merge_repeats && label == before) ? 1 : 0;
    before = label;
  }
  *score = static_cast<float>(sum);
  return count;
}

}  // namespace

size_t ctc_greedy_float32(const float* x, size_t steps, size_t stride, size_t classes,
                          int64_t blank, bool merge_repeats, int64_t* labels, float* score) {
  return run(x, steps, stride, classes, blank, merge_repeats, labels, score);
}

size_t ctc_greedy_float16(const Half* x, size_t steps, size_t stride, size_t classes, int64_t blank,
                          bool merge_repeats, int64_t* labels, float* score) {
  return run(x, steps, stride, classes, blank, merge_repeats, labels, score);
}

size_t ctc_greedy_bfloat16(const BFloat16* x, size_t steps, size_t stride, size_t classes,
                           int64_t blank, bool merge_repeats, int64_t* labels, float* score) {
  return run(x, steps, stride, classes, blank, merge_repeats, labels, score);
}

}  // namespace zerolane::kernels::ZL_ISA
