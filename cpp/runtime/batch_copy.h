// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "core/tensor.h"

namespace zerolane {

// Copies the elements [0, block) of every axis between two dense tensors of one rank and element
// type; on `axis` they begin at `to_first` there and at `from_first` here. The block lies inside
// both.
void copy_block(const View& to, int64_t to_first, const View& from, int64_t from_first, size_t axis,
                const Shape& block);

// Writes `element` over the whole of it; the memory of an element, or nothing for zeros.
void fill(const View& view, std::span<const std::byte> element);

// `shape` with another extent on `axis`.
Shape with_extent(const Shape& shape, size_t axis, int64_t extent);

}  // namespace zerolane
