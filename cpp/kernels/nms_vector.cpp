// SPDX-License-Identifier: Apache-2.0
// The two loops that take the time: looking through all scores, and comparing a candidate with
// what is selected already. Compiled with -ffp-contract=off, see nms_element.h.
#include "kernels/half_vector.h"
#include "kernels/nms_lists.h"
#include "kernels/nms_rotated.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace zerolane::kernels::ZL_ISA {
namespace {

constexpr float kLargest = 3.402823466e38F;
constexpr size_t kAhead = 256;  // scores; more is slower on Sapphire Rapids

#if defined(__AVX512F__)

constexpr size_t kLanes = 16;
using Lanes = __mmask16;

Lanes lanes_above(const float* scores, __m512 threshold) {
  return _mm512_cmp_ps_mask(_mm512_loadu_ps(scores), threshold, _CMP_GT_OQ);
}

// Writes up to kLanes keys, of which the result counts. Sixteen places must be there.
size_t write_keys(const float* scores, Lanes lanes, uint32_t first, uint64_t* keys) {
  const __m512 score = _mm512_loadu_ps(scores);
  lanes = _mm512_mask_cmp_ps_mask(lanes, score, _mm512_set1_ps(kLargest), _CMP_LE_OQ);
  const __m512i bits = _mm512_castps_si512(_mm512_add_ps(score, _mm512_setzero_ps()));
  // candidate_key(): negative scores keep their bits.
  const __m512i flipped =
      _mm512_mask_xor_epi32(bits, _mm512_cmpge_epi32_mask(bits, _mm512_setzero_si512()), bits,
                            _mm512_set1_epi32(0x7fffffff));
  const __m512i step = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i pair = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(first)), step);
  const __m512i upper = _mm512_maskz_compress_epi32(lanes, flipped);
  const __m512i lower = _mm512_maskz_compress_epi32(lanes, pair);
  const __m512i low_half =
      _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high_half =
      _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  _mm512_storeu_si512(keys, _mm512_permutex2var_epi32(lower, low_half, upper));
  _mm512_storeu_si512(keys + 8, _mm512_permutex2var_epi32(lower, high_half, upper));
  return static_cast<size_t>(__builtin_popcount(lanes));
}

#else

#if defined(__AVX2__)
constexpr size_t kLanes = 8;
using Lanes = unsigned;

Lanes lanes_above(const float* scores, __m256 threshold) {
  const __m256 above = _mm256_cmp_ps(_mm256_loadu_ps(scores), threshold, _CMP_GT_OQ);
  return static_cast<unsigned>(_mm256_movemask_ps(above));
}
#elif defined(__SSE2__)
constexpr size_t kLanes = 4;
using Lanes = unsigned;

Lanes lanes_above(const float* scores, __m128 threshold) {
  return static_cast<unsigned>(_mm_movemask_ps(_mm_cmpgt_ps(_mm_loadu_ps(scores), threshold)));
}
#else
constexpr size_t kLanes = 1;
using Lanes = unsigned;

Lanes lanes_above(const float* scores, float threshold) { return scores[0] > threshold ? 1U : 0U; }
#endif

size_t write_keys(const float* scores, Lanes lanes, uint32_t first, uint64_t* keys) {
  size_t count = 0;
  for (; lanes != 0; lanes &= lanes - 1) {
    const unsigned lane = static_cast<unsigned>(__builtin_ctz(lanes));
    keys[count] = candidate_key(scores[lane], first + lane);
    count += scores[lane] <= kLargest ? 1 : 0;
  }
  return count;
}

#endif

size_t scan(const float* scores, size_t n, float threshold, uint32_t first, uint64_t* keys) {
#if defined(__AVX512F__)
  const __m512 limit = _mm512_set1_ps(threshold);
#elif defined(__AVX2__)
  const __m256 limit = _mm256_set1_ps(threshold);
#elif defined(__SSE2__)
  const __m128 limit = _mm_set1_ps(threshold);
#else
  const float limit = threshold;
#endif
  size_t count = 0;
  size_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    const float* at = scores + i;
    // The hardware's prefetcher stops at the end of a page.
    __builtin_prefetch(at + kAhead);
    Lanes lanes[4];
    for (size_t k = 0; k < 4; ++k) lanes[k] = lanes_above(at + k * kLanes, limit);
    if (__builtin_expect((lanes[0] | lanes[1] | lanes[2] | lanes[3]) == 0, 1)) continue;
    for (size_t k = 0; k < 4; ++k) {
      if (lanes[k] == 0) continue;
      count += write_keys(at + k * kLanes, lanes[k], first + static_cast<uint32_t>(i + k * kLanes),
                          keys + count);
    }
  }
  for (; i < n; ++i) {
    if (!(scores[i] > threshold && scores[i] <= kLargest)) continue;
    keys[count++] = candidate_key(scores[i], first + static_cast<uint32_t>(i));
  }
  return count;
}

BoxBounds kept_box(const Suppression& state, int32_t block, int lane, const BoxBounds&) {
  const KeptBlock& kept = state.blocks[block];
  return {kept.x1[lane], kept.y1[lane], kept.x2[lane], kept.y2[lane], kept.area[lane]};
}

RotatedBox kept_box(const Suppression& state, int32_t block, int lane, const RotatedBox&) {
  return state.rotated[block * kBlockLanes + lane];
}

// Whether a selected box of the chain that begins at `block` overlaps `b` too much.
// `lower_threshold`: a little less, so that a product decides about most pairs without a division.
template <class Box>
bool suppressed(const Suppression& state, int32_t block, const Box& b, float threshold,
                float lower_threshold) {
#if defined(__AVX512F__)
  const __m512 x1 = _mm512_set1_ps(b.x1);
  const __m512 y1 = _mm512_set1_ps(b.y1);
  const __m512 x2 = _mm512_set1_ps(b.x2);
  const __m512 y2 = _mm512_set1_ps(b.y2);
  const __m512 area = _mm512_set1_ps(b.area);
  const __m512 lower = _mm512_set1_ps(lower_threshold);
  const __m512 zero = _mm512_setzero_ps();
#elif defined(__AVX2__)
  const __m256 x1 = _mm256_set1_ps(b.x1);
  const __m256 y1 = _mm256_set1_ps(b.y1);
  const __m256 x2 = _mm256_set1_ps(b.x2);
  const __m256 y2 = _mm256_set1_ps(b.y2);
  const __m256 area = _mm256_set1_ps(b.area);
  const __m256 lower = _mm256_set1_ps(lower_threshold);
  const __m256 zero = _mm256_setzero_ps();
#endif
  for (; block >= 0; block = state.blocks[block].previous) {
    const KeptBlock& kept = state.blocks[block];
    unsigned close = 0;
#if defined(__AVX512F__)
    const __m512 width = _mm512_sub_ps(_mm512_min_ps(_mm512_load_ps(kept.x2), x2),
                                       _mm512_max_ps(_mm512_load_ps(kept.x1), x1));
    const __m512 height = _mm512_sub_ps(_mm512_min_ps(_mm512_load_ps(kept.y2), y2),
                                        _mm512_max_ps(_mm512_load_ps(kept.y1), y1));
    __mmask16 lanes = _mm512_cmp_ps_mask(width, zero, _CMP_GT_OQ);
    lanes = _mm512_mask_cmp_ps_mask(lanes, height, zero, _CMP_GT_OQ);
    const __m512 intersection = _mm512_mul_ps(width, height);
    const __m512 both = _mm512_sub_ps(_mm512_add_ps(_mm512_load_ps(kept.area), area), intersection);
    close = _mm512_mask_cmp_ps_mask(lanes, intersection, _mm512_mul_ps(lower, both), _CMP_GE_OQ);
#elif defined(__AVX2__)
    for (int half = 0; half < kBlockLanes; half += 8) {
      const __m256 width = _mm256_sub_ps(_mm256_min_ps(_mm256_load_ps(kept.x2 + half), x2),
                                         _mm256_max_ps(_mm256_load_ps(kept.x1 + half), x1));
      const __m256 height = _mm256_sub_ps(_mm256_min_ps(_mm256_load_ps(kept.y2 + half), y2),
                                          _mm256_max_ps(_mm256_load_ps(kept.y1 + half), y1));
      const __m256 intersection = _mm256_mul_ps(width, height);
      const __m256 both =
          _mm256_sub_ps(_mm256_add_ps(_mm256_load_ps(kept.area + half), area), intersection);
      const __m256 lanes =
          _mm256_and_ps(_mm256_and_ps(_mm256_cmp_ps(width, zero, _CMP_GT_OQ),
                                      _mm256_cmp_ps(height, zero, _CMP_GT_OQ)),
                        _mm256_cmp_ps(intersection, _mm256_mul_ps(lower, both), _CMP_GE_OQ));
      close |= static_cast<unsigned>(_mm256_movemask_ps(lanes)) << half;
    }
#else
    for (int i = 0; i < kBlockLanes; ++i) {
      const float width = lesser(kept.x2[i], b.x2) - greater(kept.x1[i], b.x1);
      const float height = lesser(kept.y2[i], b.y2) - greater(kept.y1[i], b.y1);
      const float intersection = width * height;
      const float both = kept.area[i] + b.area - intersection;
      const bool lane = (width > 0.0F) & (height > 0.0F) & (intersection >= lower_threshold * both);
      close |= (lane ? 1U : 0U) << i;
    }
#endif
    for (; close != 0; close &= close - 1) {
      const int lane = __builtin_ctz(close);
      if (box_iou_above(kept_box(state, block, lane, b), b, threshold)) return true;
    }
  }
  return false;
}

void keep_rotated(Suppression*, int32_t, int, const BoxBounds&) {}

void keep_rotated(Suppression* state, int32_t block, int lane, const RotatedBox& b) {
  state->rotated[block * kBlockLanes + lane] = b;
}

template <class Box>
void keep(Suppression* state, KeptGroup* group, const Box& b) {
  const int lane = group->kept % kBlockLanes;
  if (lane == 0) {
    KeptBlock* fresh = state->blocks + state->blocks_used;
    for (int i = 0; i < kBlockLanes; ++i) {
      fresh->x1[i] = kLargest;
      fresh->y1[i] = kLargest;
      fresh->x2[i] = -kLargest;
      fresh->y2[i] = -kLargest;
      fresh->area[i] = 0.0F;
    }
    fresh->previous = group->newest_block;
    group->newest_block = state->blocks_used++;
  }
  KeptBlock* block = state->blocks + group->newest_block;
  block->x1[lane] = b.x1;
  block->y1[lane] = b.y1;
  block->x2[lane] = b.x2;
  block->y2[lane] = b.y2;
  block->area[lane] = b.area;
  keep_rotated(state, group->newest_block, lane, b);
  ++group->kept;
}

template <class T, class Box>
bool suppress_all(Suppression* state, const uint64_t* keys, size_t n) {
  const NmsSettings& settings = *state->settings;
  const T* boxes = static_cast<const T*>(state->boxes);
  const float threshold = settings.iou_threshold;
  constexpr bool kRotated = sizeof(Box) == sizeof(RotatedBox);
  // The bounds of rotated boxes overlap more than they do, up to rounding.
  const float lower = threshold * (kRotated ? 0.999F : 1.0F - 1.0F / 1048576.0F);
  for (size_t i = 0; i < n; ++i) {
    const uint32_t pair = pair_of(keys[i]);
    const uint32_t class_id = pair / state->box_count;
    const uint32_t box = pair - class_id * state->box_count;
    KeptGroup* group = state->groups;
    if (state->seen == nullptr) {
      group += class_id;
    } else {
      const uint64_t bit = uint64_t{1} << (box % 64);
      if ((state->seen[box / 64] & bit) != 0) continue;
      state->seen[box / 64] |= bit;
    }
    Box b;
    if (!place_box(settings.form, boxes + static_cast<size_t>(box) * (kRotated ? 5 : 4), &b)) {
      continue;
    }
    if (settings.top_k > 0 && group->looked_at++ >= settings.top_k) continue;
    if (state->selected_of_class[class_id] >= settings.max_per_class) continue;
    if (suppressed(*state, group->newest_block, b, threshold, lower)) continue;
    keep(state, group, b);
    ++state->selected_of_class[class_id];
    state->selected[state->count] = {static_cast<int32_t>(box), static_cast<int32_t>(class_id),
                                     score_of(keys[i])};
    if (++state->count >= state->limit) return true;
  }
  return false;
}

}  // namespace

size_t nms_scan(const float* scores, size_t n, float threshold, uint32_t first, uint64_t* keys) {
  return scan(scores, n, threshold, first, keys);
}

size_t nms_scan_half(const Half* scores, size_t n, float threshold, uint32_t first,
                     uint64_t* keys) {
  constexpr size_t kBlock = 1024;
  float block[kBlock];
  size_t count = 0;
  for (size_t i = 0; i < n; i += kBlock) {
    const size_t some = n - i < kBlock ? n - i : kBlock;
    to_float(scores + i, block, some);
    count += scan(block, some, threshold, first + static_cast<uint32_t>(i), keys + count);
  }
  return count;
}

bool nms_suppress(Suppression* state, const uint64_t* keys, size_t n) {
  if (state->settings->form == BoxForm::kRotated) {
    return state->half_boxes ? suppress_all<Half, RotatedBox>(state, keys, n)
                             : suppress_all<float, RotatedBox>(state, keys, n);
  }
  return state->half_boxes ? suppress_all<Half, BoxBounds>(state, keys, n)
                           : suppress_all<float, BoxBounds>(state, keys, n);
}

}  // namespace zerolane::kernels::ZL_ISA
