// SPDX-License-Identifier: Apache-2.0
#include "kernels/roi_align_cuda.h"
#include "kernels/roi_align_element.h"

namespace zerolane::kernels {
namespace {

// Where element `index` of [.., extent] lies on the last axis; `index` becomes that of the rest.
// Most are short, and 64-bit division is slow.
__device__ int64_t split(int64_t* index, int64_t extent) {
  int64_t outer;
  if ((*index | extent) >> 32 == 0) {
    outer = static_cast<uint32_t>(*index) / static_cast<uint32_t>(extent);
  } else {
    outer = *index / extent;
  }
  const int64_t inner = *index - outer * extent;
  *index = outer;
  return inner;
}

// One element of the output.
template <class Element>
struct Pool {
  RoiAlign what;
  const Element* maps;
  int64_t batch;
  const Element* boxes;
  const int64_t* map;
  Element* pooled;

  __device__ void operator()(int64_t at) const {
    int64_t rest = at;
    const auto column = static_cast<int32_t>(split(&rest, what.out_width));
    const auto row = static_cast<int32_t>(split(&rest, what.out_height));
    const int64_t channel = split(&rest, what.channels);
    const int64_t picture = map[rest];
    if (picture < 0 || picture >= batch) {
      pooled[at] = static_cast<Element>(0.0F);
      return;
    }
    const Element* box = boxes + 4 * rest;
    const RoiAxis rows = roi_axis(what, static_cast<float>(box[1]), static_cast<float>(box[3]),
                                  what.out_height, what.height);
    const RoiAxis columns = roi_axis(what, static_cast<float>(box[0]), static_cast<float>(box[2]),
                                     what.out_width, what.width);
    const Element* from = maps + (picture * what.channels + channel) * what.height * what.width;
    pooled[at] = static_cast<Element>(roi_align_element(what, from, rows, columns, row, column));
  }
};

template <class Element>
int launch(const RoiAlign& what, const Element* maps, int64_t batch, const Element* boxes,
           const int64_t* map, int64_t count, Element* pooled, void* stream) {
  return for_each_on(stream, count * what.channels * what.out_height * what.out_width,
                     Pool<Element>{what, maps, batch, boxes, map, pooled});
}

}  // namespace

int launch_roi_align(const RoiAlign& what, const float* maps, int64_t batch, const float* boxes,
                     const int64_t* map, int64_t count, float* pooled, void* stream) noexcept {
  return launch(what, maps, batch, boxes, map, count, pooled, stream);
}

int launch_roi_align(const RoiAlign& what, const Half* maps, int64_t batch, const Half* boxes,
                     const int64_t* map, int64_t count, Half* pooled, void* stream) noexcept {
  return launch(what, maps, batch, boxes, map, count, pooled, stream);
}

}  // namespace zerolane::kernels
