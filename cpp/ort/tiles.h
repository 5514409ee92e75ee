// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/conv_tiles.h"

namespace zerolane::ort {

// INT8 convolutions on the tiles of AMX. ONNX Runtime's own kernel for them works with vectors. So
// it is let optimize a model first and write down the result, in which each of these convolutions,
// with all that was fused into it, is one node on NHWC tensors. A node of ours takes its place:
//
//     x, scales, weights, ... --> QLinearConv   becomes   x --> zerolane.tiles::TileConv
//
// Attribute `index` (int) is its place among TileModel's nodes, which hold the weights. Results are
// the same bits.
inline constexpr std::string_view kTileDomain = "zerolane.tiles";
inline constexpr std::string_view kTileOp = "TileConv";

// Memory, aligned to 64 bytes, on large pages where the system has them: a run reads all weights,
// and translating the addresses of small pages takes a third of its time (resnet50).
class LargePages {
 public:
  LargePages() = default;
  // Throws kOutOfMemory.
  explicit LargePages(size_t bytes);
  LargePages(LargePages&& other) noexcept;
  LargePages& operator=(LargePages&& other) noexcept;
  ~LargePages();

  std::byte* data() const noexcept { return data_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

struct TileNode {
  std::string name;
  bool one_dimensional = false;  // tensors are [batch, width, channels]
  kernels::TileConvPlan plan{};

  size_t rank() const { return one_dimensional ? 3 : 4; }
  // The output's extent of an axis that the window moves along, from the input's, which is -1 where
  // it is not known. Nullopt where it is not known either, or the window is larger than the image.
  std::optional<int64_t> out_extent(size_t axis, int64_t extent) const;
};

struct TileModel {
  std::vector<std::byte> bytes;  // without the weights that the nodes hold
  std::vector<TileNode> nodes;
  LargePages tables;  // of the nodes' plans
};

// The optimized model with its convolutions replaced. Those that are left to the library: other
// types than uint8 for activations and int8 for weights, zero points of weights that are not 0,
// groups, padding beyond the window, whatever is no constant, and what would hardly use a tile
// (fewer than 8 filters, or than 16 bytes to multiply for each). None are left: no nodes, and no
// bytes. Throws kInvalidModel for bytes that are no readable model, kOutOfMemory.
TileModel tile_model(std::span<const std::byte> optimized);

}  // namespace zerolane::ort
