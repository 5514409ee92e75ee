// SPDX-License-Identifier: Apache-2.0
// What one block of GPU threads does for NMS. `Block` gives thread(), threads(), sync() and atomic
// operations, so that tests run the very same code with threads of a CPU, under the thread
// sanitizer too, which finds a missing sync().
//
// Exactly the CPU's result, however many candidates there are: they are sorted a batch at a time, a
// batch is looked at in chunks, and a chunk is compared with all that is selected, then with
// itself.
#pragma once

#include "kernels/nms_rotated.h"

namespace zerolane::kernels {

constexpr uint32_t kNmsTile = 2048;   // scores that a block looks through
constexpr uint32_t kNmsBatch = 1024;  // a power of two
constexpr uint32_t kNmsChunk = 256;
constexpr uint32_t kNmsWord = 64;
constexpr int kNmsDigitBits = 11;
constexpr uint32_t kNmsDigits = 1U << kNmsDigitBits;
constexpr uint32_t kNmsMostThreads = 1024;

template <class Box>
struct GroupedBox {
  Box box;
  uint32_t group;
};

// One image.
template <class T>
struct NmsImage {
  const T* boxes;
  const T* scores;
  uint32_t box_count;
  uint32_t class_count;
};

// Where candidates go: one list for the image, or one a class, `stride` keys apart.
struct NmsLists {
  uint64_t* keys;
  uint32_t* counts;
  uint32_t stride;
  bool of_classes;
};

// One list to select from.
template <class Box>
struct NmsList {
  const uint64_t* keys;
  uint32_t key_count;
  bool one_group;               // else each class is a group
  uint32_t limit;               // most selected
  GroupedBox<Box>* kept;        // room for limit
  uint32_t* looked_at;          // of each group, zero at first; null without a top_k
  uint32_t* selected_of_class;  // zero at first; null where max_per_class cannot be reached
};

struct NmsTile {
  uint64_t keys[kNmsTile];
  uint32_t count;
  uint32_t place;
};

template <class Box>
struct NmsShared {
  union {
    uint32_t histogram[kNmsDigits];
    struct {
      GroupedBox<Box> boxes[kNmsChunk];
      uint64_t overlaps[kNmsChunk][kNmsChunk / kNmsWord];  // with earlier ones of the chunk
      uint32_t dropped[kNmsChunk / 32];
      uint32_t kept[kNmsChunk];  // places in the chunk
    } chunk;
  };
  uint32_t sums[kNmsMostThreads];
  uint64_t keys[kNmsBatch];
  uint32_t key_count;
  uint32_t chunk_kept;
  uint32_t crossing;
};

ZL_HOST_DEVICE inline bool score_counts(float score, float threshold) {
  return score > threshold && finite(score);
}

template <class T, class Box>
ZL_HOST_DEVICE bool place_nth(const NmsSettings& settings, const NmsImage<T>& image, uint32_t box,
                              Box* placed) {
  return place_box(settings.form,
                   image.boxes + static_cast<size_t>(box) * box_numbers(settings.form), placed);
}

// Whether the score at `at` makes its pair a candidate.
template <class Box, class T>
ZL_HOST_DEVICE bool pair_candidate(const NmsSettings& settings, const NmsImage<T>& image,
                                   uint32_t at, uint64_t* key) {
  const float score = image.scores[at];
  if (!score_counts(score, settings.score_threshold)) return false;
  const bool by_class = settings.layout == ScoreLayout::kClassesFirst;
  const uint32_t row = by_class ? image.box_count : image.class_count;
  const uint32_t outer = at / row;
  const uint32_t inner = at - outer * row;
  const uint32_t box = by_class ? inner : outer;
  Box placed;
  if (!place_nth(settings, image, box, &placed)) return false;
  *key = candidate_key(score, (by_class ? outer : inner) * image.box_count + box);
  return true;
}

// Whether a box is a candidate with its best class.
template <class Box, class T>
ZL_HOST_DEVICE bool box_candidate(const NmsSettings& settings, const NmsImage<T>& image,
                                  uint32_t box, uint64_t* key) {
  const bool by_class = settings.layout == ScoreLayout::kClassesFirst;
  const size_t step = by_class ? image.box_count : 1;
  const T* scores = image.scores + static_cast<size_t>(box) * (by_class ? 1 : image.class_count);
  uint64_t best = ~uint64_t{0};
  for (uint32_t c = 0; c < image.class_count; ++c) {
    const float score = scores[c * step];
    if (!score_counts(score, settings.score_threshold)) continue;
    const uint64_t found = candidate_key(score, c * image.box_count + box);
    best = found < best ? found : best;
  }
  Box placed;
  *key = best;
  return best != ~uint64_t{0} && place_nth(settings, image, box, &placed);
}

// Appends the candidates among find(i, &key), first <= i < end, to their lists. At most kNmsTile.
template <class Block, class Find>
ZL_HOST_DEVICE void collect(Block& block, NmsTile& tile, uint32_t first, uint32_t end,
                            uint32_t box_count, const NmsLists& lists, const Find& find) {
  const uint32_t thread = block.thread();
  const uint32_t threads = block.threads();
  if (thread == 0) tile.count = 0;
  block.sync();
  for (uint32_t i = first + thread; i < end; i += threads) {
    uint64_t key;
    if (find(i, &key)) tile.keys[block.add(&tile.count, 1U)] = key;
  }
  block.sync();
  const uint32_t count = tile.count;
  if (count == 0) return;
  if (lists.of_classes) {
    for (uint32_t i = thread; i < count; i += threads) {
      const uint32_t class_id = pair_of(tile.keys[i]) / box_count;
      const uint32_t place = block.add(&lists.counts[class_id], 1U);
      lists.keys[static_cast<size_t>(class_id) * lists.stride + place] = tile.keys[i];
    }
    return;
  }
  if (thread == 0) tile.place = block.add(lists.counts, count);
  block.sync();
  for (uint32_t i = thread; i < count; i += threads) lists.keys[tile.place + i] = tile.keys[i];
}

// Sums over the threads up to and including each, in shared.sums.
template <class Box, class Block>
ZL_HOST_DEVICE void running_sums(Block& block, NmsShared<Box>& shared, uint32_t own) {
  const uint32_t thread = block.thread();
  shared.sums[thread] = own;
  block.sync();
  for (uint32_t step = 1; step < block.threads(); step *= 2) {
    const uint32_t before = thread >= step ? shared.sums[thread - step] : 0;
    block.sync();
    shared.sums[thread] += before;
    block.sync();
  }
}

// A bound so that between 1 and kNmsBatch keys k have lower <= k < bound; about half a batch at
// least, if there are. More than a batch of keys are not below `lower`.
template <class Box, class Block>
ZL_HOST_DEVICE uint64_t batch_end(Block& block, NmsShared<Box>& shared, const NmsList<Box>& list,
                                  uint64_t lower) {
  const uint32_t thread = block.thread();
  const uint32_t threads = block.threads();
  const uint32_t digits_each = (kNmsDigits + threads - 1) / threads;
  uint64_t prefix = 0;  // upper digits of the bound
  int shift = 64;
  uint32_t before = 0;  // keys with smaller upper digits
  while (true) {
    const int bits = shift < kNmsDigitBits ? shift : kNmsDigitBits;
    for (uint32_t d = thread; d < kNmsDigits; d += threads) shared.histogram[d] = 0;
    block.sync();
    const uint64_t mask = (uint64_t{1} << bits) - 1;
    for (uint32_t i = thread; i < list.key_count; i += threads) {
      const uint64_t key = list.keys[i];
      if (key >= lower && (shift == 64 || key >> shift == prefix)) {
        block.add(&shared.histogram[(key >> (shift - bits)) & mask], 1U);
      }
    }
    block.sync();
    uint32_t own = 0;
    const uint32_t first = thread * digits_each;
    for (uint32_t d = first; d < first + digits_each && d < kNmsDigits; ++d) {
      own += shared.histogram[d];
    }
    running_sums(block, shared, own);
    // The thread in whose digits the batch is full says at which.
    uint32_t total = before + shared.sums[thread] - own;
    if (total <= kNmsBatch && total + own > kNmsBatch) {
      uint32_t digit = first;
      while (total + shared.histogram[digit] <= kNmsBatch) total += shared.histogram[digit++];
      shared.crossing = digit;
      shared.key_count = total;
    }
    block.sync();
    const uint32_t crossing = shared.crossing;
    before = shared.key_count;
    block.sync();
    shift -= bits;
    prefix = prefix << bits | crossing;
    if (before >= kNmsBatch / 2 || shift == 0) return prefix << shift;
  }
}

// Keys k of the list with lower <= k < upper (or all from lower) into shared.keys, sorted.
template <class Box, class Block>
ZL_HOST_DEVICE uint32_t sorted_batch(Block& block, NmsShared<Box>& shared, const NmsList<Box>& list,
                                     uint64_t lower, bool all, uint64_t upper) {
  const uint32_t thread = block.thread();
  const uint32_t threads = block.threads();
  if (thread == 0) shared.key_count = 0;
  block.sync();
  for (uint32_t i = thread; i < list.key_count; i += threads) {
    const uint64_t key = list.keys[i];
    if (key >= lower && (all || key < upper)) shared.keys[block.add(&shared.key_count, 1U)] = key;
  }
  block.sync();
  const uint32_t count = shared.key_count;
  uint32_t size = 2;
  while (size < count) size *= 2;
  for (uint32_t i = count + thread; i < size; i += threads) shared.keys[i] = ~uint64_t{0};
  block.sync();
  // Bitonic.
  for (uint32_t run = 2; run <= size; run *= 2) {
    for (uint32_t reach = run / 2; reach > 0; reach /= 2) {
      for (uint32_t i = thread; i < size / 2; i += threads) {
        const uint32_t low = 2 * reach * (i / reach) + i % reach;
        const uint32_t high = low + reach;
        const uint64_t a = shared.keys[low];
        const uint64_t b = shared.keys[high];
        if ((a > b) == ((low & run) == 0)) {
          shared.keys[low] = b;
          shared.keys[high] = a;
        }
      }
      block.sync();
    }
  }
  return count;
}

template <class Box>
ZL_HOST_DEVICE bool suppresses(const GroupedBox<Box>& kept, const GroupedBox<Box>& b,
                               float threshold) {
  return kept.group == b.group && box_iou_above(kept.box, b.box, threshold);
}

// Decides about `count` keys of shared.keys from `first` on, and appends those selected to
// list.kept, from `selected` on. Calls write(place, key) for each, by some thread. Returns the new
// number of selected.
template <class T, class Box, class Block, class Write>
ZL_HOST_DEVICE uint32_t decide_chunk(Block& block, NmsShared<Box>& shared,
                                     const NmsSettings& settings, const NmsList<Box>& list,
                                     const NmsImage<T>& image, uint32_t first, uint32_t count,
                                     uint32_t selected, const Write& write) {
  const uint32_t thread = block.thread();
  const uint32_t threads = block.threads();
  auto& chunk = shared.chunk;
  for (uint32_t w = thread; w < kNmsChunk / 32; w += threads) chunk.dropped[w] = 0;
  for (uint32_t i = thread; i < count; i += threads) {
    const uint32_t pair = pair_of(shared.keys[first + i]);
    const uint32_t class_id = pair / image.box_count;
    place_nth(settings, image, pair - class_id * image.box_count, &chunk.boxes[i].box);
    chunk.boxes[i].group = list.one_group ? 0 : class_id;
  }
  block.sync();
  if (list.looked_at != nullptr) {
    for (uint32_t i = thread; i < count; i += threads) {
      const uint32_t group = chunk.boxes[i].group;
      uint32_t rank = list.looked_at[group];
      for (uint32_t j = 0; j < i; ++j) rank += chunk.boxes[j].group == group ? 1U : 0U;
      if (rank >= static_cast<uint32_t>(settings.top_k)) {
        block.unite(&chunk.dropped[i / 32], 1U << (i % 32));
      }
    }
    block.sync();
    for (uint32_t i = thread; i < count; i += threads) {
      block.add(&list.looked_at[chunk.boxes[i].group], 1U);
    }
  }
  // With what was selected before; where threads are left over, several share a candidate.
  const uint32_t shares = threads > count ? threads / count : 1;
  for (uint32_t task = thread; task < count * shares; task += threads) {
    const uint32_t i = task % count;
    for (uint32_t k = task / count; k < selected; k += shares) {
      if (!suppresses(list.kept[k], chunk.boxes[i], settings.iou_threshold)) {
        continue;
      }
      block.unite(&chunk.dropped[i / 32], 1U << (i % 32));
      break;
    }
  }
  constexpr uint32_t kWords = kNmsChunk / kNmsWord;
  for (uint32_t task = thread; task < count * kWords; task += threads) {
    const uint32_t i = task % count;
    const uint32_t word = task / count;
    uint64_t bits = 0;
    for (uint32_t j = word * kNmsWord; j < i && j < (word + 1) * kNmsWord; ++j) {
      if (suppresses(chunk.boxes[j], chunk.boxes[i], settings.iou_threshold)) {
        bits |= uint64_t{1} << (j % kNmsWord);
      }
    }
    chunk.overlaps[i][word] = bits;
  }
  block.sync();
  // One after the other, as each decides about later ones.
  if (thread == 0) {
    uint64_t kept[kWords] = {};
    uint32_t kept_count = 0;
    for (uint32_t i = 0; i < count && selected + kept_count < list.limit; ++i) {
      uint64_t hit = (chunk.dropped[i / 32] >> (i % 32)) & 1U;
      for (uint32_t w = 0; w < kWords; ++w) hit |= kept[w] & chunk.overlaps[i][w];
      if (hit != 0) continue;
      if (list.selected_of_class != nullptr) {
        const uint32_t class_id = pair_of(shared.keys[first + i]) / image.box_count;
        if (list.selected_of_class[class_id] >= static_cast<uint32_t>(settings.max_per_class)) {
          continue;
        }
        ++list.selected_of_class[class_id];
      }
      for (uint32_t w = 0; w < kWords; ++w) {
        kept[w] |= i / kNmsWord == w ? uint64_t{1} << (i % kNmsWord) : 0;
      }
      chunk.kept[kept_count++] = i;
    }
    shared.chunk_kept = kept_count;
  }
  block.sync();
  const uint32_t kept_count = shared.chunk_kept;
  for (uint32_t k = thread; k < kept_count; k += threads) {
    const uint32_t i = chunk.kept[k];
    list.kept[selected + k] = chunk.boxes[i];
    write(selected + k, shared.keys[first + i]);
  }
  block.sync();
  return selected + kept_count;
}

// The whole of one list; see decide_chunk for `write`. Returns how many were selected, in each
// thread.
template <class T, class Box, class Block, class Write>
ZL_HOST_DEVICE uint32_t select_from_list(Block& block, NmsShared<Box>& shared,
                                         const NmsSettings& settings, const NmsList<Box>& list,
                                         const NmsImage<T>& image, const Write& write) {
  uint32_t selected = 0;
  uint32_t done = 0;
  uint64_t lower = 0;
  while (done < list.key_count && selected < list.limit) {
    const bool all = list.key_count - done <= kNmsBatch;
    const uint64_t upper = all ? 0 : batch_end(block, shared, list, lower);
    const uint32_t count = sorted_batch(block, shared, list, lower, all, upper);
    for (uint32_t first = 0; first < count && selected < list.limit; first += kNmsChunk) {
      const uint32_t some = count - first < kNmsChunk ? count - first : kNmsChunk;
      selected = decide_chunk(block, shared, settings, list, image, first, some, selected, write);
    }
    done += count;
    lower = upper;
  }
  return selected;
}

}  // namespace zerolane::kernels
