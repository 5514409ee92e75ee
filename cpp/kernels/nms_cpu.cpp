// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "kernels/isa.h"
#include "kernels/nms_lists.h"
#include "kernels/nms_sort.h"
#include "kernels/scratch_parts.h"

namespace zerolane::kernels {

ZL_DECLARE_ISA(size_t, nms_scan,
               (const float* scores, size_t n, float threshold, uint32_t first, uint64_t* keys))
ZL_DECLARE_ISA(size_t, nms_scan_half,
               (const Half* scores, size_t n, float threshold, uint32_t first, uint64_t* keys))
ZL_DECLARE_ISA(bool, nms_suppress, (Suppression * state, const uint64_t* keys, size_t n))

namespace {

// The scan writes whole vectors.
constexpr size_t kKeySlack = 16;

struct Memory {
  uint64_t* keys;
  uint64_t* other_keys;
  uint32_t* class_ends;
  Suppression lists;
};

size_t lay_out(const NmsSettings& settings, size_t boxes, size_t classes, size_t limit,
               void* scratch, Memory* memory) {
  ScratchParts parts{static_cast<char*>(scratch), 64};
  const size_t pairs = saturating_times(boxes, classes);
  memory->keys = parts.take<uint64_t>(saturating_add(pairs, kKeySlack));
  memory->other_keys = parts.take<uint64_t>(saturating_add(pairs, kKeySlack));
  memory->class_ends = parts.take<uint32_t>(classes);
  Suppression& lists = memory->lists;
  lists.groups = parts.take<KeptGroup>(classes);
  lists.selected_of_class = parts.take<int32_t>(classes);
  lists.seen = settings.class_agnostic ? parts.take<uint64_t>(boxes / 64 + 1) : nullptr;
  // A block of each group may be partly filled.
  const size_t blocks =
      saturating_add(std::min(limit, pairs) / kBlockLanes, std::min(classes, limit));
  lists.blocks = parts.take<KeptBlock>(blocks);
  lists.rotated = settings.form == BoxForm::kRotated
                      ? parts.take<RotatedBox>(saturating_times(blocks, kBlockLanes))
                      : nullptr;
  return parts.bytes;
}

template <class T>
size_t scan(const T* scores, size_t n, float threshold, uint32_t first, uint64_t* keys) {
  if constexpr (std::is_same_v<T, float>) {
    return ZL_CHOOSE_ISA(nms_scan)(scores, n, threshold, first, keys);
  } else {
    return ZL_CHOOSE_ISA(nms_scan_half)(scores, n, threshold, first, keys);
  }
}

// Keys of all scores above the threshold, with the pair's index as candidate_key() wants it.
template <class T>
size_t candidates(const NmsSettings& settings, const T* scores, size_t boxes, size_t classes,
                  uint64_t* keys) {
  const size_t count = scan(scores, boxes * classes, settings.score_threshold, 0, keys);
  if (settings.layout == ScoreLayout::kClassesFirst) return count;
  const auto row = static_cast<uint32_t>(classes);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t at = pair_of(keys[i]);
    const uint32_t box = at / row;
    keys[i] += static_cast<uint64_t>((at - box * row) * static_cast<uint32_t>(boxes) + box) - at;
  }
  return count;
}

template <class T>
void begin(const NmsSettings& settings, const T* boxes, size_t box_count, size_t class_count,
           Detection* selected, Suppression* lists) {
  lists->settings = &settings;
  lists->boxes = boxes;
  lists->half_boxes = std::is_same_v<T, Half>;
  lists->box_count = static_cast<uint32_t>(box_count);
  std::fill(lists->groups, lists->groups + class_count, KeptGroup{-1, 0, 0});
  std::fill(lists->selected_of_class, lists->selected_of_class + class_count, 0);
  if (lists->seen != nullptr) std::memset(lists->seen, 0, (box_count / 64 + 1) * 8);
  lists->blocks_used = 0;
  lists->count = 0;
  lists->selected = selected;
}

// Moves the keys of each class together, in `to`; `ends` gets the end of each class.
void group_by_class(const uint64_t* keys, size_t count, size_t boxes, size_t classes, uint64_t* to,
                    uint32_t* ends) {
  const auto row = static_cast<uint32_t>(boxes);
  std::fill(ends, ends + classes, 0U);
  for (size_t i = 0; i < count; ++i) ++ends[pair_of(keys[i]) / row];
  uint32_t start = 0;
  for (size_t c = 0; c < classes; ++c) {
    const uint32_t size = ends[c];
    ends[c] = start;
    start += size;
  }
  for (size_t i = 0; i < count; ++i) to[ends[pair_of(keys[i]) / row]++] = keys[i];
}

}  // namespace

size_t nms_scratch_bytes(const NmsSettings& settings, int64_t boxes, int64_t classes,
                         int64_t limit) noexcept {
  Memory memory;
  return lay_out(settings, static_cast<size_t>(boxes), static_cast<size_t>(classes),
                 static_cast<size_t>(limit), nullptr, &memory);
}

template <class T>
int64_t nms_by_class(const NmsSettings& given, const T* boxes, const T* scores, int64_t box_count,
                     int64_t class_count, void* scratch, Detection* selected) noexcept {
  NmsSettings settings = given;
  settings.class_agnostic = false;
  const int64_t of_each = std::min<int64_t>(settings.max_per_class, box_count);
  if (of_each <= 0) return 0;
  const auto box_total = static_cast<size_t>(box_count);
  const auto class_total = static_cast<size_t>(class_count);
  Memory memory;
  lay_out(settings, box_total, class_total, class_total * static_cast<size_t>(of_each), scratch,
          &memory);
  Suppression& lists = memory.lists;
  begin(settings, boxes, box_total, class_total, selected, &lists);
  const auto suppress = ZL_CHOOSE_ISA(nms_suppress);
  const auto one_class = [&](uint64_t* keys, uint64_t* other, size_t count) {
    lists.blocks_used = 0;
    lists.limit = lists.count + of_each;
    sorted_runs(keys, other, count,
                [&](const uint64_t* run, size_t n) { return suppress(&lists, run, n); });
  };
  if (settings.layout == ScoreLayout::kClassesFirst) {
    for (size_t c = 0; c < class_total; ++c) {
      const size_t first = c * box_total;
      const size_t count = scan(scores + first, box_total, settings.score_threshold,
                                static_cast<uint32_t>(first), memory.keys);
      one_class(memory.keys, memory.other_keys, count);
    }
    return lists.count;
  }
  const size_t count = candidates(settings, scores, box_total, class_total, memory.keys);
  group_by_class(memory.keys, count, box_total, class_total, memory.other_keys, memory.class_ends);
  size_t start = 0;
  for (size_t c = 0; c < class_total; ++c) {
    const size_t end = memory.class_ends[c];
    one_class(memory.other_keys + start, memory.keys + start, end - start);
    start = end;
  }
  return lists.count;
}

template <class T>
int64_t nms_by_score(const NmsSettings& settings, const T* boxes, const T* scores,
                     int64_t box_count, int64_t class_count, int64_t limit, void* scratch,
                     Detection* selected) noexcept {
  if (limit <= 0) return 0;
  const auto box_total = static_cast<size_t>(box_count);
  const auto class_total = static_cast<size_t>(class_count);
  Memory memory;
  lay_out(settings, box_total, class_total, static_cast<size_t>(limit), scratch, &memory);
  begin(settings, boxes, box_total, class_total, selected, &memory.lists);
  memory.lists.limit = limit;
  const size_t count = candidates(settings, scores, box_total, class_total, memory.keys);
  const auto suppress = ZL_CHOOSE_ISA(nms_suppress);
  sorted_runs(memory.keys, memory.other_keys, count,
              [&](const uint64_t* run, size_t n) { return suppress(&memory.lists, run, n); });
  return memory.lists.count;
}

template int64_t nms_by_class<float>(const NmsSettings&, const float*, const float*, int64_t,
                                     int64_t, void*, Detection*) noexcept;
template int64_t nms_by_class<Half>(const NmsSettings&, const Half*, const Half*, int64_t, int64_t,
                                    void*, Detection*) noexcept;
template int64_t nms_by_score<float>(const NmsSettings&, const float*, const float*, int64_t,
                                     int64_t, int64_t, void*, Detection*) noexcept;
template int64_t nms_by_score<Half>(const NmsSettings&, const Half*, const Half*, int64_t, int64_t,
                                    int64_t, void*, Detection*) noexcept;

}  // namespace zerolane::kernels
