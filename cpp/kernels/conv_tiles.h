// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace zerolane::kernels {

// Quantized convolution on the tiles of Intel AMX. Activations are NHWC of uint8, weights of int8
// have zero points of 0, and there is one group:
//
//   y = saturate(round(float(bias + sum (x - input_zero) * w) * scale) + output_zero)
//
// summed in int32 that wraps, rounded to nearest, ties to even; each filter has its own scale
// (x's times w's by y's, in float). These are the bits of ONNX Runtime's QLinearConv.
struct TileConv {
  int64_t channels;
  int64_t filters;
  int64_t kernel[2];  // of these and the following: rows, columns
  int64_t stride[2];
  int64_t dilation[2];
  int64_t before[2];  // padding
  int64_t after[2];
  uint8_t input_zero;
  uint8_t output_zero;
};

// Whether tiles can be used: the build, the CPU, the system and ZEROLANE_ISA (isa.h) allow it.
bool has_tile_conv() noexcept;

// Up to 64 bytes of one pixel, or of pixels beside it, that one tile instruction multiplies. The
// image lies in up to stride[0] * stride[1] planes, each holding every stride-th row and column, so
// that neighbours in the output are neighbours in a plane whatever the stride.
struct TileChunk {
  int32_t plane;   // of those that the window reads
  int32_t row;     // in the plane, for the output's row 0
  int32_t column;  // the same
  int32_t byte;    // where the chunk begins, from that pixel on
};

// What a node's calls have in common.
struct TileConvPlan {
  TileConv conv;
  int64_t chunk_count;
  int64_t chunk_bytes;  // of all chunks; a multiple of 4 up to 64
  bool in_place;        // images are read where they are; else from a copy with its padding
  bool may_overflow;    // scales so large that a float may exceed int32
  const TileChunk* chunks;
  const int64_t* offsets;  // of chunks from a pixel on, where images are read in place
  const int8_t* weights;   // [block of 32 filters][chunk][16 filters][chunk_bytes / 4][16][4]
  const int32_t* bias;     // [filters, filled up to 16], the input's zero point worked in
  const float* scales;     // the same
};

// Bytes of a plan's tables. All extents of `conv` are 1 or more, paddings 0 or more.
size_t tile_conv_bytes(const TileConv& conv);
// The plan, its tables in `memory`, which is aligned to 64 bytes and outlives it. weights are
// [filters][channels][rows][columns], bias (null: 0) and scales [filters].
TileConvPlan tile_conv_plan(const TileConv& conv, const int8_t* weights, const int32_t* bias,
                            const float* scales, void* memory);

// The same for images of one size. `height` and `width` with their padding are no smaller than
// the window. Images that are read in place may be handed in as one of many rows.
struct TileConvSizes {
  int64_t height;
  int64_t width;
  int64_t out_height;
  int64_t out_width;
  int64_t row_pixels;   // of a plane: positions from one row of the output to the next
  int64_t plane_rows;   // 0: read in place
  int64_t positions;    // of tiles' rows: the output's pixels, and those between its rows
  int64_t image_bytes;  // of the copy; a multiple of 64
  int64_t scratch;      // bytes of scratch memory, aligned to 64, for one image at a time; 0: none
};
TileConvSizes tile_conv_sizes(const TileConvPlan& plan, int64_t height, int64_t width);

// Readies `scratch` for tile_conv_copy and tile_conv_run of these sizes.
void tile_conv_start(const TileConvPlan& plan, const TileConvSizes& sizes, void* scratch);

// Copies rows [begin, end) of all planes, of sizes.plane_rows, from an image into the scratch
// memory. Parts may be copied by several threads.
void tile_conv_copy(const TileConvPlan& plan, const TileConvSizes& sizes, const uint8_t* image,
                    int64_t begin, int64_t end, void* scratch);

// Computes positions [begin, end) of filters [32 * first_block, 32 * end_block) of an image that
// was copied, or is read in place. Parts may be computed by several threads. Only where
// has_tile_conv().
void tile_conv_run(const TileConvPlan& plan, const TileConvSizes& sizes, const uint8_t* image,
                   int64_t begin, int64_t end, int64_t first_block, int64_t end_block, uint8_t* out,
                   const void* scratch);

}  // namespace zerolane::kernels
