// SPDX-License-Identifier: Apache-2.0
// One box of a batch of images: what a GPU thread does, and tests do on the CPU. Called with the
// box's number, image * n + i.
#pragma once

#include "kernels/box_decode.h"
#include "kernels/box_decode_element.h"

namespace zerolane::kernels {

template <class T>
ZL_HOST_DEVICE BoxOf<float> read_box(const T* numbers) {
  return {numbers[0], numbers[1], numbers[2], numbers[3]};
}

template <class T>
ZL_HOST_DEVICE void write_box(const BoxOf<float>& box, T* numbers) {
  numbers[0] = static_cast<T>(box.a);
  numbers[1] = static_cast<T>(box.b);
  numbers[2] = static_cast<T>(box.c);
  numbers[3] = static_cast<T>(box.d);
}

template <class T>
struct DecodeOneDistance {
  DistanceDecode decode;
  const T* distances;
  int64_t n;
  T* boxes;

  ZL_HOST_DEVICE float side(const T* image, int64_t i, int64_t number) const {
    const int64_t bins = decode.bins;
    const int64_t step = decode.channels_first ? n : 1;
    const T* at = image + (decode.channels_first ? number * bins * n + i : (4 * i + number) * bins);
    if (bins == 1) return *at;
    return expected_bin<float>(bins, [&](int64_t k) { return static_cast<float>(at[k * step]); });
  }

  ZL_HOST_DEVICE void operator()(int64_t index) const {
    const int64_t image = index / n;
    const int64_t i = index - image * n;
    const T* from = distances + image * n * 4 * decode.bins;
    const BoxOf<float> sides = {side(from, i, 0), side(from, i, 1), side(from, i, 2),
                                side(from, i, 3)};
    write_box(box_of_distances<float>(sides, decode.points[i], decode.points[n + i],
                                      decode.points[2 * n + i], decode.corners),
              boxes + 4 * index);
  }
};

template <class T>
struct DecodeOneDelta {
  DeltaDecode decode;
  const T* deltas;
  const T* anchors;
  int64_t n;
  bool anchors_of_images;  // [images, n, 4], else [n, 4]
  T* boxes;

  ZL_HOST_DEVICE void operator()(int64_t index) const {
    const int64_t anchor = anchors_of_images ? index : index % n;
    write_box(box_of_deltas(read_box(deltas + 4 * index), read_box(anchors + 4 * anchor), decode),
              boxes + 4 * index);
  }
};

template <class T>
struct DecodeOneCell {
  CellDecode decode;
  const T* raw;
  int64_t n;
  T* boxes;

  ZL_HOST_DEVICE void operator()(int64_t index) const {
    const int64_t i = index % n;
    const float* cells = decode.cells + i;
    const BoxOf<float> cell = {cells[0], cells[n], cells[3 * n], cells[4 * n]};
    write_box(
        box_of_cell(read_box(raw + 4 * index), cell, cells[2 * n], decode.version5, decode.corners),
        boxes + 4 * index);
  }
};

}  // namespace zerolane::kernels
