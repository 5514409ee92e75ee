// SPDX-License-Identifier: Apache-2.0
#include "runtime/batch_copy.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace zerolane {

void copy_block(const View& to, int64_t to_first, const View& from, int64_t from_first, size_t axis,
                const Shape& block) {
  const size_t rank = block.rank();
  const size_t element = dtype_bytes(to.dtype, 1);
  if (block.count() == 0) return;
  if (axis == 0 && rank > 0) {  // usually whole rows
    size_t row = element;
    bool whole = true;
    for (size_t d = 1; d < rank; ++d) {
      whole &= block[d] == to.shape[d] && block[d] == from.shape[d];
      row *= static_cast<size_t>(block[d]);
    }
    if (whole) {
      std::memcpy(static_cast<std::byte*>(to.data) + static_cast<size_t>(to_first) * row,
                  static_cast<const std::byte*>(from.data) + static_cast<size_t>(from_first) * row,
                  static_cast<size_t>(block[0]) * row);
      return;
    }
  }
  // From which axis on the block is one piece in both.
  size_t split = rank;
  while (split > 0) {
    const size_t d = split - 1;
    split = d;
    if (block[d] != to.shape[d] || block[d] != from.shape[d]) break;
  }
  std::array<size_t, kMaxRank> to_stride{};
  std::array<size_t, kMaxRank> from_stride{};
  size_t to_bytes = element;
  size_t from_bytes = element;
  for (size_t d = rank; d-- > 0;) {
    to_stride[d] = to_bytes;
    from_stride[d] = from_bytes;
    to_bytes *= static_cast<size_t>(to.shape[d]);
    from_bytes *= static_cast<size_t>(from.shape[d]);
  }
  size_t piece = element;
  for (size_t d = split; d < rank; ++d) piece *= static_cast<size_t>(block[d]);
  auto* target = static_cast<std::byte*>(to.data);
  const auto* source = static_cast<const std::byte*>(from.data);
  if (rank > 0) {
    target += static_cast<size_t>(to_first) * to_stride[axis];
    source += static_cast<size_t>(from_first) * from_stride[axis];
  }
  std::array<int64_t, kMaxRank> index{};
  for (;;) {
    std::memcpy(target, source, piece);
    size_t d = split;
    for (; d > 0; --d) {
      const size_t at = d - 1;
      target += to_stride[at];
      source += from_stride[at];
      if (++index[at] < block[at]) break;
      target -= to_stride[at] * static_cast<size_t>(block[at]);
      source -= from_stride[at] * static_cast<size_t>(block[at]);
      index[at] = 0;
    }
    if (d == 0) return;
  }
}

void fill(const View& view, std::span<const std::byte> element) {
  auto* data = static_cast<std::byte*>(view.data);
  const size_t bytes = view.bytes();
  if (std::ranges::all_of(element, [](std::byte b) { return b == std::byte{0}; })) {
    std::memset(data, 0, bytes);
    return;
  }
  for (size_t at = 0; at + element.size() <= bytes; at += element.size()) {
    std::memcpy(data + at, element.data(), element.size());
  }
}

Shape with_extent(const Shape& shape, size_t axis, int64_t extent) {
  std::array<int64_t, kMaxRank> dims{};
  std::copy_n(shape.data(), shape.rank(), dims.begin());
  dims[axis] = extent;
  return Shape(std::span(dims.data(), shape.rank()));
}

}  // namespace zerolane
