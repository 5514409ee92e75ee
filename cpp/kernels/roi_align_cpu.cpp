// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>

#include "kernels/roi_align.h"
#include "kernels/roi_align_element.h"
#include "kernels/roi_align_vector.h"

namespace zerolane::kernels {
namespace {

// Fewer columns than this would leave vectors empty.
constexpr int32_t kFewestColumns = 16;

size_t blocks(const RoiAlign& what) {
  return (static_cast<size_t>(what.out_width) + kRoiLanes - 1) / kRoiLanes;
}

// The most taps along an axis: two a sample. If the ratio is not fixed, samples of neighbouring
// bins are more than half a pixel apart, so few of them meet the map.
size_t most_taps(const RoiAlign& what, int32_t bins, int32_t extent) {
  const auto count = static_cast<size_t>(bins);
  if (what.sampling_ratio > 0) return 2 * count * static_cast<size_t>(what.sampling_ratio);
  return 2 * (5 * count + 2 * (static_cast<size_t>(extent) + 2));
}

// The same in whole blocks, of which each is as long as its longest column.
size_t most_block_taps(const RoiAlign& what) {
  if (what.sampling_ratio > 0) {
    return 2 * blocks(what) * kRoiLanes * static_cast<size_t>(what.sampling_ratio);
  }
  return most_taps(what, what.out_width, what.width) * kRoiLanes;
}

// Takes pieces off scratch memory, or counts them.
class Cutter {
 public:
  explicit Cutter(void* scratch) : next_(static_cast<char*>(scratch)) {}

  template <class Element>
  Element* take(size_t count) {
    const size_t bytes = (count * sizeof(Element) + 63) / 64 * 64;
    char* piece = next_;
    if (next_ != nullptr) next_ += bytes;
    bytes_ += bytes;
    return reinterpret_cast<Element*>(piece);
  }
  size_t bytes() const { return bytes_; }

 private:
  char* next_;
  size_t bytes_ = 0;
};

// Taps along one axis, bin after bin.
struct Taps {
  int32_t* begin;    // of each bin, and the end
  int32_t* outside;  // of each bin: whether some sample lies outside the map
  int32_t* index;
  float* weight;
  size_t most;
};

struct Memory {
  Taps columns;
  RoiTables tables;
  size_t most_row_taps;
};

Memory lay_out(const RoiAlign& what, Cutter& cutter) {
  Memory memory{};
  RoiTables& tables = memory.tables;
  const auto rows = static_cast<size_t>(what.out_height);
  const auto columns = static_cast<size_t>(what.out_width);
  memory.most_row_taps = most_taps(what, what.out_height, what.height);
  tables.row_begin = cutter.take<int32_t>(rows + 1);
  tables.row_outside = cutter.take<int32_t>(rows);
  tables.row_index = cutter.take<int32_t>(memory.most_row_taps);
  tables.row_weight = cutter.take<float>(memory.most_row_taps);
  tables.block_begin = cutter.take<int32_t>(blocks(what) + 1);
  tables.column_index = cutter.take<int32_t>(most_block_taps(what));
  tables.column_weight = cutter.take<float>(most_block_taps(what));
  tables.column_least = cutter.take<float>(blocks(what) * kRoiLanes);
  tables.mixed = cutter.take<float>(kRoiRows * (static_cast<size_t>(what.width) + 1));
  tables.pooled = cutter.take<float>(blocks(what) * kRoiLanes);
  Taps& taps = memory.columns;
  taps.most = most_taps(what, what.out_width, what.width);
  taps.begin = cutter.take<int32_t>(columns + 1);
  taps.outside = cutter.take<int32_t>(columns);
  taps.index = cutter.take<int32_t>(taps.most);
  taps.weight = cutter.take<float>(taps.most);
  return memory;
}

// Adds to the tap of this pixel if it is one of the bin's last two, else makes one.
void add_tap(const Taps& taps, int32_t begin, int32_t* end, int32_t index, float weight) {
  for (int32_t i = *end - 1; i >= begin && i >= *end - 2; --i) {
    if (taps.index[i] == index) {
      taps.weight[i] += weight;
      return;
    }
  }
  taps.index[*end] = index;
  taps.weight[*end] = weight;
  ++*end;
}

void find_taps(const RoiAlign& what, const RoiAxis& axis, int32_t bins, const Taps& taps) {
  int32_t end = 0;
  for (int32_t bin = 0; bin < bins; ++bin) {
    const int32_t begin = taps.begin[bin] = end;
    int32_t inside = 0;
    const RoiRange range = roi_range(axis, bin);
    for (int32_t i = range.first; i <= range.last; ++i) {
      const RoiSample sample = roi_sample(axis, bin, i);
      if (!sample.inside || static_cast<size_t>(end) + 2 > taps.most) continue;
      ++inside;
      if (what.pooling == RoiPooling::kAverage) {
        const auto samples = static_cast<float>(axis.samples);
        add_tap(taps, begin, &end, sample.low, sample.low_weight / samples);
        add_tap(taps, begin, &end, sample.high, sample.high_weight / samples);
      } else {
        taps.index[end] = sample.low;
        taps.weight[end++] = sample.low_weight;
        taps.index[end] = sample.high;
        taps.weight[end++] = sample.high_weight;
      }
    }
    taps.outside[bin] = inside < axis.samples || axis.samples == 0 ? 1 : 0;
  }
  taps.begin[bins] = end;
}

// The columns of the map that taps name, a few more where there are few.
void find_window(const RoiAlign& what, const Taps& taps, RoiTables& tables) {
  const int32_t* end = taps.index + taps.begin[what.out_width];
  tables.first_column = 0;
  tables.columns = 0;
  if (taps.index == end) return;
  const auto [first, last] = std::minmax_element(taps.index, const_cast<int32_t*>(end));
  tables.columns = std::max(*last - *first + 1, std::min(what.width, kFewestColumns));
  tables.first_column = std::min(*first, what.width - tables.columns);
}

// Columns side by side, in blocks as long as their longest. The rest of a column repeats its first
// tap for the maximum, and is 0 times the pixel that holds 0 for the sum.
void interleave(const RoiAlign& what, const Taps& taps, RoiTables& tables) {
  int32_t end = 0;
  const auto block_count = static_cast<int32_t>(blocks(what));
  for (int32_t block = 0; block < block_count; ++block) {
    tables.block_begin[block] = end;
    int32_t longest = 0;
    for (int32_t lane = 0; lane < kRoiLanes; ++lane) {
      const int32_t column = block * kRoiLanes + lane;
      if (column >= what.out_width) continue;
      longest = std::max(longest, taps.begin[column + 1] - taps.begin[column]);
    }
    for (int32_t lane = 0; lane < kRoiLanes; ++lane) {
      const int32_t column = block * kRoiLanes + lane;
      const bool real = column < what.out_width;
      const int32_t begin = real ? taps.begin[column] : 0;
      const int32_t count = real ? taps.begin[column + 1] - begin : 0;
      const bool repeats = what.pooling == RoiPooling::kMax && count > 0;
      for (int32_t i = 0; i < longest; ++i) {
        const size_t to = static_cast<size_t>(end + i) * kRoiLanes + static_cast<size_t>(lane);
        const bool has = i < count || repeats;
        const int32_t from = begin + (i < count ? i : i % 2);
        tables.column_index[to] = has ? taps.index[from] - tables.first_column : tables.columns;
        tables.column_weight[to] = has ? taps.weight[from] : 0.0F;
      }
      tables.column_least[block * kRoiLanes + lane] =
          real && taps.outside[column] == 0 ? -std::numeric_limits<float>::infinity() : 0.0F;
    }
    end += longest;
  }
  tables.block_begin[block_count] = end;
}

template <class Element>
void align(RoiBody<Element> body, const RoiAlign& what, const Element* maps, const Element* boxes,
           const int64_t* map, int64_t count, Element* pooled, void* scratch) {
  Cutter cutter(scratch);
  Memory memory = lay_out(what, cutter);
  RoiTables& tables = memory.tables;
  const Taps rows{tables.row_begin, tables.row_outside, tables.row_index, tables.row_weight,
                  memory.most_row_taps};
  const int64_t map_size = what.channels * what.height * what.width;
  const int64_t pooled_size = what.channels * what.out_height * what.out_width;
  for (int64_t i = 0; i < count; ++i) {
    const Element* box = boxes + 4 * i;
    find_taps(what,
              roi_axis(what, static_cast<float>(box[1]), static_cast<float>(box[3]),
                       what.out_height, what.height),
              what.out_height, rows);
    find_taps(what,
              roi_axis(what, static_cast<float>(box[0]), static_cast<float>(box[2]), what.out_width,
                       what.width),
              what.out_width, memory.columns);
    find_window(what, memory.columns, tables);
    interleave(what, memory.columns, tables);
    body(what, tables, maps + map[i] * map_size, pooled + i * pooled_size);
  }
}

}  // namespace

size_t roi_align_scratch(const RoiAlign& what) noexcept {
  Cutter cutter(nullptr);
  lay_out(what, cutter);
  return cutter.bytes();
}

void roi_align_by(RoiBody<float> body, const RoiAlign& what, const float* maps, const float* boxes,
                  const int64_t* map, int64_t count, float* pooled, void* scratch) noexcept {
  align(body, what, maps, boxes, map, count, pooled, scratch);
}

void roi_align_by(RoiBody<Half> body, const RoiAlign& what, const Half* maps, const Half* boxes,
                  const int64_t* map, int64_t count, Half* pooled, void* scratch) noexcept {
  align(body, what, maps, boxes, map, count, pooled, scratch);
}

void roi_align(const RoiAlign& what, const float* maps, const float* boxes, const int64_t* map,
               int64_t count, float* pooled, void* scratch) noexcept {
  align<float>(ZL_CHOOSE_ISA(roi_align_float), what, maps, boxes, map, count, pooled, scratch);
}

void roi_align(const RoiAlign& what, const Half* maps, const Half* boxes, const int64_t* map,
               int64_t count, Half* pooled, void* scratch) noexcept {
  align<Half>(ZL_CHOOSE_ISA(roi_align_half), what, maps, boxes, map, count, pooled, scratch);
}

}  // namespace zerolane::kernels
