// SPDX-License-Identifier: Apache-2.0
#include "kernels/nms_cuda.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "kernels/nms_block.h"
#include "kernels/scratch_parts.h"

namespace zerolane::kernels {
namespace {

constexpr unsigned kTileThreads = 256;
constexpr unsigned kListThreads = 256;
constexpr unsigned kMostBlocks = 1U << 20;

struct DeviceBlock {
  __device__ uint32_t thread() const { return threadIdx.x; }
  __device__ uint32_t threads() const { return blockDim.x; }
  __device__ void sync() { __syncthreads(); }
  __device__ uint32_t add(uint32_t* place, uint32_t value) { return atomicAdd(place, value); }
  __device__ void unite(uint32_t* place, uint32_t bits) { atomicOr(place, bits); }
};

template <class T>
struct Batch {
  NmsSettings settings;
  const T* boxes;
  const T* scores;
  size_t images;
  uint32_t box_count;
  uint32_t class_count;

  __device__ NmsImage<T> image(size_t index) const {
    const size_t numbers = static_cast<size_t>(box_numbers(settings.form)) * box_count;
    return {boxes + index * numbers, scores + index * static_cast<size_t>(box_count) * class_count,
            box_count, class_count};
  }
};

// Scratch memory. Everything that must be zero at first comes first.
struct Memory {
  uint32_t* list_counts;        // [lists]
  uint32_t* looked_at;          // [images, classes], or null
  uint32_t* selected_of_class;  // [images, classes], or null
  size_t zeroed;                // bytes
  uint32_t* selected_of_list;   // [lists], for rows only
  uint64_t* selected_before;    // [lists], for rows only
  uint32_t* selected_pairs;     // [lists, limit], for rows only
  uint64_t* keys;               // [lists, list_length]
  void* kept;                   // [lists, limit]
  bool of_classes;              // a list for each class of an image, else one an image
  size_t lists;
  size_t list_length;
  size_t limit;
};

// `rows`: for nms_rows_cuda, else for nms_by_score_cuda.
size_t lay_out(const NmsSettings& settings, size_t images, size_t boxes, size_t classes,
               size_t limit, bool rows, void* scratch, Memory* memory) {
  ScratchParts parts{static_cast<char*>(scratch), 256};
  const size_t all_classes = saturating_times(images, classes);
  const size_t pairs = saturating_times(boxes, classes);
  memory->of_classes = rows && !settings.class_agnostic;
  memory->lists = memory->of_classes ? all_classes : images;
  memory->list_length = memory->of_classes || settings.class_agnostic ? boxes : pairs;
  memory->limit = std::min(limit, memory->list_length);
  const auto of_class = static_cast<size_t>(settings.max_per_class);
  if (memory->of_classes) memory->limit = std::min(memory->limit, of_class);
  const bool count_classes = !memory->of_classes && of_class < memory->limit;
  memory->list_counts = parts.take<uint32_t>(memory->lists);
  memory->looked_at = settings.top_k > 0 ? parts.take<uint32_t>(all_classes) : nullptr;
  memory->selected_of_class = count_classes ? parts.take<uint32_t>(all_classes) : nullptr;
  memory->zeroed = parts.bytes;
  const size_t room = saturating_times(memory->lists, memory->limit);
  memory->selected_of_list = rows ? parts.take<uint32_t>(memory->lists) : nullptr;
  memory->selected_before = rows ? parts.take<uint64_t>(memory->lists) : nullptr;
  memory->selected_pairs = rows ? parts.take<uint32_t>(room) : nullptr;
  memory->keys = parts.take<uint64_t>(saturating_times(memory->lists, memory->list_length));
  memory->kept = settings.form == BoxForm::kRotated
                     ? static_cast<void*>(parts.take<GroupedBox<RotatedBox>>(room))
                     : parts.take<GroupedBox<BoxBounds>>(room);
  return parts.bytes;
}

template <class Box, class T>
__global__ void __launch_bounds__(kTileThreads) collect_candidates(Batch<T> batch, Memory memory) {
  __shared__ NmsTile tile;
  DeviceBlock block;
  const NmsSettings& settings = batch.settings;
  const bool of_boxes = settings.class_agnostic;
  const uint32_t items = of_boxes ? batch.box_count : batch.box_count * batch.class_count;
  const size_t tiles = (items + kNmsTile - 1) / kNmsTile;
  for (size_t at = blockIdx.x; at < tiles * batch.images; at += gridDim.x) {
    const size_t index = at / tiles;
    const NmsImage<T> image = batch.image(index);
    const auto first = static_cast<uint32_t>((at - index * tiles) * kNmsTile);
    const uint32_t end = min(first + kNmsTile, items);
    const size_t list = memory.of_classes ? index * batch.class_count : index;
    const NmsLists lists{memory.keys + list * memory.list_length, memory.list_counts + list,
                         static_cast<uint32_t>(memory.list_length), memory.of_classes};
    if (of_boxes) {
      collect(block, tile, first, end, batch.box_count, lists, [&](uint32_t i, uint64_t* key) {
        return box_candidate<Box>(settings, image, i, key);
      });
    } else {
      collect(block, tile, first, end, batch.box_count, lists, [&](uint32_t i, uint64_t* key) {
        return pair_candidate<Box>(settings, image, i, key);
      });
    }
    block.sync();
  }
}

template <class Box>
__device__ NmsList<Box> list_of(const NmsSettings& settings, const Memory& memory, size_t list,
                                uint32_t class_count) {
  const size_t groups = memory.of_classes ? 1 : class_count;
  return {memory.keys + list * memory.list_length,
          memory.list_counts[list],
          memory.of_classes || settings.class_agnostic,
          static_cast<uint32_t>(memory.limit),
          static_cast<GroupedBox<Box>*>(memory.kept) + list * memory.limit,
          memory.looked_at == nullptr ? nullptr : memory.looked_at + list * groups,
          memory.selected_of_class == nullptr ? nullptr : memory.selected_of_class + list * groups};
}

template <class Box, class T>
__global__ void __launch_bounds__(kNmsMostThreads) select_pairs(Batch<T> batch, Memory memory) {
  __shared__ NmsShared<Box> shared;
  DeviceBlock block;
  const size_t lists_of_image = memory.of_classes ? batch.class_count : 1;
  for (size_t at = blockIdx.x; at < memory.lists; at += gridDim.x) {
    const NmsList<Box> list = list_of<Box>(batch.settings, memory, at, batch.class_count);
    uint32_t* pairs = memory.selected_pairs + at * memory.limit;
    const auto write = [&](uint32_t place, uint64_t key) { pairs[place] = pair_of(key); };
    const uint32_t count = select_from_list(block, shared, batch.settings, list,
                                            batch.image(at / lists_of_image), write);
    if (block.thread() == 0) memory.selected_of_list[at] = count;
  }
}

// One block: where each list's rows begin, and how many there are in all.
__global__ void __launch_bounds__(kNmsMostThreads) place_lists(Memory memory, int64_t* count) {
  __shared__ NmsShared<BoxBounds> shared;
  DeviceBlock block;
  uint64_t before = 0;
  for (size_t first = 0; first < memory.lists; first += block.threads()) {
    const size_t at = first + block.thread();
    const uint32_t own = at < memory.lists ? memory.selected_of_list[at] : 0;
    running_sums(block, shared, own);
    if (at < memory.lists) {
      memory.selected_before[at] = before + shared.sums[block.thread()] - own;
    }
    before += shared.sums[block.threads() - 1];
    block.sync();
  }
  if (block.thread() == 0) *count = static_cast<int64_t>(before);
}

__global__ void __launch_bounds__(kListThreads)
    write_rows(Memory memory, uint32_t box_count, uint32_t class_count, int64_t* selected) {
  const size_t lists_of_image = memory.of_classes ? class_count : 1;
  for (size_t at = blockIdx.x; at < memory.lists; at += gridDim.x) {
    const uint32_t* pairs = memory.selected_pairs + at * memory.limit;
    int64_t* rows = selected + 3 * memory.selected_before[at];
    for (uint32_t i = threadIdx.x; i < memory.selected_of_list[at]; i += blockDim.x) {
      int64_t* row = rows + 3 * static_cast<size_t>(i);
      row[0] = static_cast<int64_t>(at / lists_of_image);
      row[1] = pairs[i] / box_count;
      row[2] = pairs[i] % box_count;
    }
  }
}

template <class T>
struct Outputs {
  T* boxes;
  T* scores;
  int32_t* classes;
  int32_t* counts;
  size_t limit;
};

template <class Box, class T>
__global__ void __launch_bounds__(kNmsMostThreads)
    select_of_images(Batch<T> batch, Memory memory, Outputs<T> out) {
  __shared__ NmsShared<Box> shared;
  DeviceBlock block;
  const auto numbers = static_cast<size_t>(box_numbers(batch.settings.form));
  for (size_t at = blockIdx.x; at < batch.images; at += gridDim.x) {
    const NmsList<Box> list = list_of<Box>(batch.settings, memory, at, batch.class_count);
    const NmsImage<T> image = batch.image(at);
    const size_t row = at * out.limit;
    const auto write = [&](uint32_t place, uint64_t key) {
      const uint32_t class_id = pair_of(key) / batch.box_count;
      const uint32_t box = pair_of(key) - class_id * batch.box_count;
      const T* from = image.boxes + box * numbers;
      T* to = out.boxes + (row + place) * numbers;
      for (size_t i = 0; i < numbers; ++i) to[i] = from[i];
      out.scores[row + place] = static_cast<T>(score_of(key));
      out.classes[row + place] = static_cast<int32_t>(class_id);
    };
    const uint32_t count = select_from_list(block, shared, batch.settings, list, image, write);
    for (size_t i = count + block.thread(); i < out.limit; i += block.threads()) {
      for (size_t k = 0; k < numbers; ++k) out.boxes[(row + i) * numbers + k] = T(0.0F);
      out.scores[row + i] = T(0.0F);
      out.classes[row + i] = -1;
    }
    if (block.thread() == 0) out.counts[at] = static_cast<int32_t>(count);
  }
}

unsigned blocks_for(size_t count) {
  return static_cast<unsigned>(std::min<size_t>(count, kMostBlocks));
}

template <class Box, class T>
cudaError_t collect_all(const Batch<T>& batch, const Memory& memory, cudaStream_t stream) {
  const cudaError_t status = cudaMemsetAsync(memory.list_counts, 0, memory.zeroed, stream);
  if (status != cudaSuccess) return status;
  const size_t items = batch.settings.class_agnostic
                           ? batch.box_count
                           : static_cast<size_t>(batch.box_count) * batch.class_count;
  const size_t tiles = (items + kNmsTile - 1) / kNmsTile * batch.images;
  if (tiles > 0) {
    collect_candidates<Box, T><<<blocks_for(tiles), kTileThreads, 0, stream>>>(batch, memory);
  }
  return cudaGetLastError();
}

template <class Box, class T>
int run_rows(const Batch<T>& batch, const Memory& memory, int64_t* selected, int64_t* count,
             cudaStream_t stream) {
  const cudaError_t status = collect_all<Box>(batch, memory, stream);
  if (status != cudaSuccess) return status;
  const unsigned blocks = blocks_for(memory.lists);
  const unsigned threads = memory.of_classes ? kListThreads : kNmsMostThreads;
  select_pairs<Box, T><<<blocks, threads, 0, stream>>>(batch, memory);
  place_lists<<<1, kNmsMostThreads, 0, stream>>>(memory, count);
  write_rows<<<blocks, kListThreads, 0, stream>>>(memory, batch.box_count, batch.class_count,
                                                  selected);
  return cudaGetLastError();
}

template <class Box, class T>
int run_by_score(const Batch<T>& batch, const Memory& memory, const Outputs<T>& out,
                 cudaStream_t stream) {
  const cudaError_t status = collect_all<Box>(batch, memory, stream);
  if (status != cudaSuccess) return status;
  select_of_images<Box, T>
      <<<blocks_for(batch.images), kNmsMostThreads, 0, stream>>>(batch, memory, out);
  return cudaGetLastError();
}

template <class T>
Batch<T> batch_of(const NmsSettings& settings, const T* boxes, const T* scores, int64_t images,
                  int64_t box_count, int64_t class_count) {
  return {settings,
          boxes,
          scores,
          static_cast<size_t>(images),
          static_cast<uint32_t>(box_count),
          static_cast<uint32_t>(class_count)};
}

}  // namespace

size_t nms_rows_cuda_scratch_bytes(const NmsSettings& settings, int64_t images, int64_t boxes,
                                   int64_t classes) noexcept {
  Memory memory;
  return lay_out(settings, static_cast<size_t>(images), static_cast<size_t>(boxes),
                 static_cast<size_t>(classes), SIZE_MAX, /*rows=*/true, nullptr, &memory);
}

size_t nms_by_score_cuda_scratch_bytes(const NmsSettings& settings, int64_t images, int64_t boxes,
                                       int64_t classes, int64_t limit) noexcept {
  Memory memory;
  return lay_out(settings, static_cast<size_t>(images), static_cast<size_t>(boxes),
                 static_cast<size_t>(classes), static_cast<size_t>(limit), /*rows=*/false, nullptr,
                 &memory);
}

template <class T>
int nms_rows_cuda(const NmsSettings& settings, const T* boxes, const T* scores, int64_t images,
                  int64_t box_count, int64_t class_count, void* scratch, int64_t* selected,
                  int64_t* count, void* stream) noexcept {
  const auto on = static_cast<cudaStream_t>(stream);
  if (images == 0 || box_count == 0 || class_count == 0) {
    return cudaMemsetAsync(count, 0, sizeof *count, on);
  }
  Memory memory;
  lay_out(settings, static_cast<size_t>(images), static_cast<size_t>(box_count),
          static_cast<size_t>(class_count), SIZE_MAX, /*rows=*/true, scratch, &memory);
  const auto batch = batch_of(settings, boxes, scores, images, box_count, class_count);
  return settings.form == BoxForm::kRotated
             ? run_rows<RotatedBox>(batch, memory, selected, count, on)
             : run_rows<BoxBounds>(batch, memory, selected, count, on);
}

template <class T>
int nms_by_score_cuda(const NmsSettings& settings, const T* boxes, const T* scores, int64_t images,
                      int64_t box_count, int64_t class_count, int64_t limit, void* scratch,
                      T* out_boxes, T* out_scores, int32_t* out_classes, int32_t* out_counts,
                      void* stream) noexcept {
  if (images == 0) return 0;
  Memory memory;
  lay_out(settings, static_cast<size_t>(images), static_cast<size_t>(box_count),
          static_cast<size_t>(class_count), static_cast<size_t>(limit), /*rows=*/false, scratch,
          &memory);
  const auto batch = batch_of(settings, boxes, scores, images, box_count, class_count);
  const Outputs<T> out{out_boxes, out_scores, out_classes, out_counts, static_cast<size_t>(limit)};
  const auto on = static_cast<cudaStream_t>(stream);
  return settings.form == BoxForm::kRotated ? run_by_score<RotatedBox>(batch, memory, out, on)
                                            : run_by_score<BoxBounds>(batch, memory, out, on);
}

template int nms_rows_cuda<float>(const NmsSettings&, const float*, const float*, int64_t, int64_t,
                                  int64_t, void*, int64_t*, int64_t*, void*) noexcept;
template int nms_rows_cuda<Half>(const NmsSettings&, const Half*, const Half*, int64_t, int64_t,
                                 int64_t, void*, int64_t*, int64_t*, void*) noexcept;
template int nms_by_score_cuda<float>(const NmsSettings&, const float*, const float*, int64_t,
                                      int64_t, int64_t, int64_t, void*, float*, float*, int32_t*,
                                      int32_t*, void*) noexcept;
template int nms_by_score_cuda<Half>(const NmsSettings&, const Half*, const Half*, int64_t, int64_t,
                                     int64_t, int64_t, void*, Half*, Half*, int32_t*, int32_t*,
                                     void*) noexcept;

}  // namespace zerolane::kernels
