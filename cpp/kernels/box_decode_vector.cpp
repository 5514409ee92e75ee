// SPDX-License-Identifier: Apache-2.0
#include "kernels/box_decode.h"
#include "kernels/box_decode_element.h"
#include "kernels/half_vector.h"
#include "kernels/quads_vector.h"

namespace zerolane::kernels::ZL_ISA {
namespace {

using VectorBox = BoxOf<Floats>;

void load_rows(const float* x, VectorBox* rows) {
  load_quads(x, 4, &rows->a, &rows->b, &rows->c, &rows->d);
}

void load_rows(const Half* x, VectorBox* rows) {
  float quads[4 * kLanes];
  for (size_t i = 0; i < 4; ++i) store(quads + i * kLanes, load(x + i * kLanes));
  load_rows(quads, rows);
}

void store_rows(float* y, const VectorBox& rows) { store_quads(y, rows.a, rows.b, rows.c, rows.d); }

void store_rows(Half* y, const VectorBox& rows) {
  float quads[4 * kLanes];
  store_rows(quads, rows);
  for (size_t i = 0; i < 4; ++i) store(y + i * kLanes, load(quads + i * kLanes));
}

// decode(i, &rows, count) for rows i to i + count, count being kLanes but for the last; those
// behind the last are not stored.
template <class T, class Decode>
void each_block(int64_t n, T* boxes, const Decode& decode) {
  constexpr auto kStep = static_cast<int64_t>(kLanes);
  int64_t i = 0;
  VectorBox rows;
  for (; i + kStep <= n; i += kStep) {
    decode(i, &rows, kLanes);
    store_rows(boxes + 4 * i, rows);
  }
  if (i == n) return;
  const auto count = static_cast<size_t>(n - i);
  decode(i, &rows, count);
  T some[4 * kLanes];
  store_rows(some, rows);
  __builtin_memcpy(static_cast<void*>(boxes + 4 * i), some, 4 * count * sizeof(T));
}

template <class T>
Floats some_lanes(const T* x, size_t count) {
  return count == kLanes ? load(x) : load_some(x, count, 0.0F);
}

template <class T>
void some_rows(const T* x, size_t count, VectorBox* rows) {
  if (count == kLanes) return load_rows(x, rows);
  T some[4 * kLanes] = {};
  __builtin_memcpy(static_cast<void*>(some), x, 4 * count * sizeof(T));
  load_rows(some, rows);
}

// Logits that fit are read, converted and transposed once for both walks of expected_bin().
constexpr int64_t kMostBins = 32;
constexpr int64_t kAhead = 4 * kLanes;

// From rows of points, `row` elements apart.
void load_side(const float* at, int64_t row, int64_t bins, size_t count, Floats* logits) {
  int64_t k = 0;
  if (count == kLanes) {
    for (; k + 4 <= bins; k += 4) {
      load_quads(at + k, static_cast<size_t>(row), logits + k, logits + k + 1, logits + k + 2,
                 logits + k + 3);
    }
  }
  for (; k < bins; ++k) {
    logits[k] = Floats{};
    for (size_t i = 0; i < count; ++i) logits[k][i] = at[static_cast<int64_t>(i) * row + k];
  }
}

void load_side(const Half* at, int64_t row, int64_t bins, size_t count, Floats* logits) {
  float rows[kLanes * kMostBins];
  for (size_t i = 0; i < count; ++i) {
    to_float(at + static_cast<int64_t>(i) * row, rows + i * kMostBins, static_cast<size_t>(bins));
  }
  load_side(rows, kMostBins, bins, count, logits);
}

template <class T>
Floats side_of_rows(const T* at, int64_t bins, size_t count) {
  if (bins <= kMostBins) {
    Floats logits[kMostBins];
    load_side(at, 4 * bins, bins, count, logits);
    return expected_bin<Floats>(bins, [&](int64_t k) { return logits[k]; });
  }
  return expected_bin<Floats>(bins, [&](int64_t k) {
    Floats lanes{};
    for (size_t i = 0; i < count; ++i) {
      lanes[i] = static_cast<float>(at[static_cast<int64_t>(i) * 4 * bins + k]);
    }
    return lanes;
  });
}

// From rows of bins, n elements apart.
template <class T>
Floats side_of_columns(const T* at, int64_t n, int64_t bins, size_t count) {
  if (bins <= kMostBins) {
    Floats logits[kMostBins];
    for (int64_t k = 0; k < bins; ++k) {
      // So many streams are more than the hardware's prefetcher follows.
      __builtin_prefetch(at + k * n + kAhead);
      logits[k] = some_lanes(at + k * n, count);
    }
    return expected_bin<Floats>(bins, [&](int64_t k) { return logits[k]; });
  }
  return expected_bin<Floats>(bins, [&](int64_t k) { return some_lanes(at + k * n, count); });
}

template <class T>
void distances(const DistanceDecode& decode, const T* from, int64_t n, T* boxes) {
  const int64_t bins = decode.bins;
  const float* x = decode.points;
  const float* y = x + n;
  const float* stride = y + n;
  each_block(n, boxes, [&](int64_t i, VectorBox* rows, size_t count) {
    VectorBox sides;
    if (decode.channels_first) {
      const int64_t side = bins * n;
      const T* at = from + i;
      if (bins == 1) {
        sides = {some_lanes(at, count), some_lanes(at + side, count),
                 some_lanes(at + 2 * side, count), some_lanes(at + 3 * side, count)};
      } else {
        sides = {side_of_columns(at, n, bins, count), side_of_columns(at + side, n, bins, count),
                 side_of_columns(at + 2 * side, n, bins, count),
                 side_of_columns(at + 3 * side, n, bins, count)};
      }
    } else if (bins == 1) {
      some_rows(from + 4 * i, count, &sides);
    } else {
      const T* at = from + 4 * bins * i;
      sides = {side_of_rows(at, bins, count), side_of_rows(at + bins, bins, count),
               side_of_rows(at + 2 * bins, bins, count), side_of_rows(at + 3 * bins, bins, count)};
    }
    *rows = box_of_distances(sides, some_lanes(x + i, count), some_lanes(y + i, count),
                             some_lanes(stride + i, count), decode.corners);
  });
}

template <class T>
void deltas(const DeltaDecode& decode, const T* from, const T* anchors, int64_t n, T* boxes) {
  each_block(n, boxes, [&](int64_t i, VectorBox* rows, size_t count) {
    VectorBox delta;
    VectorBox anchor;
    some_rows(from + 4 * i, count, &delta);
    some_rows(anchors + 4 * i, count, &anchor);
    *rows = box_of_deltas(delta, anchor, decode);
  });
}

template <class T>
void cells(const CellDecode& decode, const T* raw, int64_t n, T* boxes) {
  each_block(n, boxes, [&](int64_t i, VectorBox* rows, size_t count) {
    Floats numbers[5];
    for (int64_t k = 0; k < 5; ++k) numbers[k] = some_lanes(decode.cells + k * n + i, count);
    VectorBox predicted;
    some_rows(raw + 4 * i, count, &predicted);
    *rows = box_of_cell(predicted, VectorBox{numbers[0], numbers[1], numbers[3], numbers[4]},
                        numbers[2], decode.version5, decode.corners);
  });
}

}  // namespace

void decode_distances_float32(const DistanceDecode& decode, const float* from, int64_t n,
                              float* boxes) {
  distances(decode, from, n, boxes);
}

void decode_distances_float16(const DistanceDecode& decode, const Half* from, int64_t n,
                              Half* boxes) {
  distances(decode, from, n, boxes);
}

void decode_deltas_float32(const DeltaDecode& decode, const float* from, const float* anchors,
                           int64_t n, float* boxes) {
  deltas(decode, from, anchors, n, boxes);
}

void decode_deltas_float16(const DeltaDecode& decode, const Half* from, const Half* anchors,
                           int64_t n, Half* boxes) {
  deltas(decode, from, anchors, n, boxes);
}

void decode_cells_float32(const CellDecode& decode, const float* raw, int64_t n, float* boxes) {
  cells(decode, raw, n, boxes);
}

void decode_cells_float16(const CellDecode& decode, const Half* raw, int64_t n, Half* boxes) {
  cells(decode, raw, n, boxes);
}

}  // namespace zerolane::kernels::ZL_ISA
