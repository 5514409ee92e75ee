// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "kernels/conv_tiles.h"
#include "kernels/conv_tiles_amx.h"
#include "kernels/isa.h"

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace zerolane::kernels {
namespace {

constexpr int64_t kLine = 64;
constexpr int64_t kTile = 16;       // rows of a tile, and its columns of int32
constexpr int64_t kChunkMost = 64;  // bytes of a tile's row

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }
int64_t divide_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit; }

// Asks the kernel to keep the tiles of this process and its children. Refused before Linux 5.16,
// in some sandboxes, and where a signal stack of a thread is too small for them.
bool may_use_tiles() noexcept {
#if defined(__x86_64__) && defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // asm/prctl.h, CPUID leaf 0DH
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

int64_t span_of(const TileConv& conv, int axis) {
  return conv.dilation[axis] * (conv.kernel[axis] - 1);
}

// Whether any tap of the window reads the planes of a phase.
bool reads_phase(const TileConv& conv, int axis, int64_t phase) {
  for (int64_t tap = 0; tap < conv.kernel[axis]; ++tap) {
    if (tap * conv.dilation[axis] % conv.stride[axis] == phase) return true;
  }
  return false;
}

// How many of the phases [0, end) of an axis have planes.
int64_t planes_before(const TileConv& conv, int axis, int64_t end) {
  int64_t count = 0;
  for (int64_t phase = 0; phase < end; ++phase) count += reads_phase(conv, axis, phase) ? 1 : 0;
  return count;
}

int64_t plane_count(const TileConv& conv) {
  return planes_before(conv, 0, conv.stride[0]) * planes_before(conv, 1, conv.stride[1]);
}

// Taps of one row of the window whose pixels lie side by side in a plane.
struct Run {
  int64_t kernel_row;
  int64_t first_tap;  // its column in the window
  int64_t tap_step;
  int64_t taps;
};

template <typename Visit>
void for_each_run(const TileConv& conv, Visit visit) {
  const int64_t stride = conv.stride[1], dilation = conv.dilation[1], taps = conv.kernel[1];
  // Taps `step` apart lie in one plane, and side by side if they are one stride apart.
  int64_t step = 1;
  while (step < taps && step * dilation % stride != 0) ++step;
  const bool adjacent = step * dilation == stride;
  for (int64_t row = 0; row < conv.kernel[0]; ++row) {
    if (!adjacent) {
      for (int64_t tap = 0; tap < taps; ++tap) visit(Run{row, tap, 1, 1});
      continue;
    }
    for (int64_t first = 0; first < std::min(step, taps); ++first) {
      visit(Run{row, first, step, divide_up(taps - first, step)});
    }
  }
}

// Runs are cut into chunks of one length; their last chunk may begin inside the one before.
struct Cut {
  int64_t chunks = 0;
  int64_t bytes = 0;
};

Cut cut_of(const TileConv& conv) {
  int64_t longest = 0;
  for_each_run(conv,
               [&](const Run& run) { longest = std::max(longest, run.taps * conv.channels); });
  Cut cut;
  cut.bytes = round_up(divide_up(longest, divide_up(longest, kChunkMost)), 4);
  for_each_run(
      conv, [&](const Run& run) { cut.chunks += divide_up(run.taps * conv.channels, cut.bytes); });
  return cut;
}

// The first byte of the chunk whose own part of a run of `bytes` begins at `first`.
int64_t chunk_begin(int64_t first, int64_t bytes, const Cut& cut) {
  return std::max(std::min(first, bytes - cut.bytes), int64_t{0});
}

// How many pixels of padding a plane's rows may share: what follows one row is what precedes the
// next.
int64_t shared_padding(const TileConv& conv, int64_t width, int64_t row_pixels) {
  int64_t shared = row_pixels;
  for (int64_t phase = 0; phase < conv.stride[1]; ++phase) {
    if (!reads_phase(conv, 1, phase)) continue;
    const int64_t lead = divide_up(std::max(conv.before[1] - phase, int64_t{0}), conv.stride[1]);
    const int64_t data_end = divide_up(conv.before[1] + width - phase, conv.stride[1]);
    shared = std::min({shared, lead, std::max(row_pixels - data_end, int64_t{0})});
  }
  return shared;
}

// Writes a filter's weights where they begin in the tile of the first chunk; other chunks' tiles
// follow `step` bytes apart. Four bytes of a chunk lie together, each four 16 times as far apart.
void pack_filter(const TileConv& conv, const Cut& cut, const int8_t* weights, int8_t* to,
                 int64_t step) {
  const int64_t taps = conv.kernel[0] * conv.kernel[1];
  for_each_run(conv, [&](const Run& run) {
    const int64_t bytes = run.taps * conv.channels;
    int64_t tap = run.kernel_row * conv.kernel[1] + run.first_tap, channel = 0;
    for (int64_t first = 0; first < bytes; first += cut.bytes, to += step) {
      const int64_t begin = chunk_begin(first, bytes, cut);
      for (int64_t k = first - begin; k < std::min(cut.bytes, bytes - begin); ++k) {
        to[k / 4 * 4 * kTile + k % 4] = weights[channel * taps + tap];
        if (++channel == conv.channels) {
          channel = 0;
          tap += run.tap_step;
        }
      }
    }
  });
}

struct Tables {
  size_t chunks, offsets, bias, scales, weights, end;
};

Tables tables_of(const TileConv& conv) {
  const Cut cut = cut_of(conv);
  const int64_t filters = round_up(conv.filters, kTile);
  const auto part = [](int64_t bytes) { return static_cast<size_t>(round_up(bytes, kLine)); };
  Tables at{};
  at.offsets = at.chunks + part(cut.chunks * static_cast<int64_t>(sizeof(TileChunk)));
  at.bias = at.offsets + part(cut.chunks * static_cast<int64_t>(sizeof(int64_t)));
  at.scales = at.bias + part(filters * 4);
  at.weights = at.scales + part(filters * 4);
  at.end = at.weights + part(filters * cut.bytes * cut.chunks);
  return at;
}

}  // namespace

bool has_tile_conv() noexcept {
  static const bool known = amx::built() && isa() == Isa::kAmx && may_use_tiles();
  return known;
}

size_t tile_conv_bytes(const TileConv& conv) { return tables_of(conv).end; }

TileConvPlan tile_conv_plan(const TileConv& conv, const int8_t* weights, const int32_t* bias,
                            const float* scales, void* memory) {
  const Cut cut = cut_of(conv);
  const Tables at = tables_of(conv);
  const int64_t filters = round_up(conv.filters, kTile);
  auto* base = static_cast<std::byte*>(memory);
  std::memset(base, 0, at.end);
  auto* chunks = reinterpret_cast<TileChunk*>(base + at.chunks);
  auto* offsets = reinterpret_cast<int64_t*>(base + at.offsets);
  auto* biases = reinterpret_cast<int32_t*>(base + at.bias);
  auto* factors = reinterpret_cast<float*>(base + at.scales);
  auto* packed = reinterpret_cast<int8_t*>(base + at.weights);

  const int64_t taps = conv.kernel[0] * conv.kernel[1];
  float largest = 0;
  for (int64_t f = 0; f < conv.filters; ++f) {
    uint32_t sum = 0;
    for (int64_t i = 0; i < conv.channels * taps; ++i) {
      sum += static_cast<uint32_t>(weights[f * conv.channels * taps + i]);
    }
    const uint32_t own = bias != nullptr ? static_cast<uint32_t>(bias[f]) : 0;
    biases[f] = static_cast<int32_t>(own - sum * conv.input_zero);
    factors[f] = scales[f];
    largest = std::max(largest, scales[f]);
  }

  int64_t chunk = 0;
  for_each_run(conv, [&](const Run& run) {
    const int64_t bytes = run.taps * conv.channels;
    const int64_t column = run.first_tap * conv.dilation[1];
    const int64_t row = run.kernel_row * conv.dilation[0];
    const int64_t plane =
        planes_before(conv, 0, row % conv.stride[0]) * planes_before(conv, 1, conv.stride[1]) +
        planes_before(conv, 1, column % conv.stride[1]);
    for (int64_t first = 0; first < bytes; first += cut.bytes, ++chunk) {
      const int64_t begin = chunk_begin(first, bytes, cut);
      chunks[chunk] = {static_cast<int32_t>(plane), static_cast<int32_t>(row / conv.stride[0]),
                       static_cast<int32_t>(column / conv.stride[1]), static_cast<int32_t>(begin)};
      offsets[chunk] = begin;
    }
  });

  for (int64_t f = 0; f < conv.filters; ++f) {
    const int64_t block = f / (2 * kTile);
    const int64_t in_block = std::min(filters - block * 2 * kTile, 2 * kTile);
    int8_t* tile = packed + block * 2 * kTile * cut.bytes * cut.chunks +
                   f % (2 * kTile) / kTile * kTile * cut.bytes;
    pack_filter(conv, cut, weights + f * conv.channels * taps, tile + f % kTile * 4,
                in_block * cut.bytes);
  }

  const bool plain = taps == 1 && conv.stride[0] == 1 && conv.stride[1] == 1 &&
                     conv.before[0] + conv.before[1] + conv.after[0] + conv.after[1] == 0;
  TileConvPlan plan{};
  plan.conv = conv;
  plan.chunk_count = cut.chunks;
  plan.chunk_bytes = cut.bytes;
  plan.in_place = plain && cut.bytes <= conv.channels;
  plan.may_overflow = !(largest < 0.5F);
  plan.chunks = chunks;
  plan.offsets = offsets;
  plan.weights = packed;
  plan.bias = biases;
  plan.scales = factors;
  return plan;
}

TileConvSizes tile_conv_sizes(const TileConvPlan& plan, int64_t height, int64_t width) {
  const TileConv& conv = plan.conv;
  TileConvSizes sizes{};
  sizes.height = height;
  sizes.width = width;
  const int64_t extent[2] = {height, width};
  int64_t out[2], reach[2];  // of a plane: pixels that the windows of a row, a column, touch
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t span = span_of(conv, axis);
    out[axis] =
        (extent[axis] + conv.before[axis] + conv.after[axis] - span - 1) / conv.stride[axis] + 1;
    reach[axis] = out[axis] + span / conv.stride[axis];
  }
  sizes.out_height = out[0];
  sizes.out_width = out[1];
  if (plan.in_place) {
    sizes.row_pixels = out[1];
  } else {
    sizes.row_pixels = std::max(out[1], reach[1] - shared_padding(conv, width, reach[1]));
    sizes.plane_rows = reach[0];
    // Behind the last plane: what shared padding and tiles that are too long reach.
    sizes.image_bytes = round_up(
        (plane_count(conv) * reach[0] * sizes.row_pixels + reach[1]) * conv.channels + kChunkMost,
        kLine);
    sizes.scratch = sizes.image_bytes +
                    round_up(plan.chunk_count * static_cast<int64_t>(sizeof(int64_t)), kLine);
  }
  sizes.positions = (out[0] - 1) * sizes.row_pixels + out[1];
  return sizes;
}

void tile_conv_start(const TileConvPlan& plan, const TileConvSizes& sizes, void* scratch) {
  if (plan.in_place) return;
  const TileConv& conv = plan.conv;
  auto* offsets = reinterpret_cast<int64_t*>(static_cast<std::byte*>(scratch) + sizes.image_bytes);
  for (int64_t i = 0; i < plan.chunk_count; ++i) {
    const TileChunk& chunk = plan.chunks[i];
    const int64_t row = chunk.plane * sizes.plane_rows + chunk.row;
    offsets[i] = (row * sizes.row_pixels + chunk.column) * conv.channels + chunk.byte;
  }
  auto* behind = static_cast<uint8_t*>(scratch) +
                 plane_count(conv) * sizes.plane_rows * sizes.row_pixels * conv.channels;
  std::memset(behind, conv.input_zero,
              static_cast<size_t>(static_cast<uint8_t*>(scratch) + sizes.image_bytes - behind));
}

void tile_conv_copy(const TileConvPlan& plan, const TileConvSizes& sizes, const uint8_t* image,
                    int64_t begin, int64_t end, void* scratch) {
  const TileConv& conv = plan.conv;
  const auto pixel = static_cast<size_t>(conv.channels);
  const int64_t stride = conv.stride[1];
  const auto fill = [&](uint8_t* to, int64_t pixels) {
    if (pixels > 0) std::memset(to, conv.input_zero, static_cast<size_t>(pixels) * pixel);
  };
  int64_t plane = 0;
  for (int64_t phase_row = 0; phase_row < conv.stride[0]; ++phase_row) {
    if (!reads_phase(conv, 0, phase_row)) continue;
    for (int64_t phase = 0; phase < stride; ++phase) {
      if (!reads_phase(conv, 1, phase)) continue;
      // Columns [first, last) of the plane hold pixels of the image.
      const int64_t first = divide_up(std::max(conv.before[1] - phase, int64_t{0}), stride);
      const int64_t last = std::clamp(divide_up(conv.before[1] + sizes.width - phase, stride),
                                      std::min(first, sizes.row_pixels), sizes.row_pixels);
      for (int64_t row = begin; row < end; ++row) {
        uint8_t* to =
            static_cast<uint8_t*>(scratch) +
            static_cast<size_t>((plane * sizes.plane_rows + row) * sizes.row_pixels) * pixel;
        const int64_t y = row * conv.stride[0] + phase_row - conv.before[0];
        if (y < 0 || y >= sizes.height || first >= last) {
          fill(to, sizes.row_pixels);
          continue;
        }
        fill(to, first);
        const uint8_t* from =
            image +
            static_cast<size_t>(y * sizes.width + first * stride + phase - conv.before[1]) * pixel;
        uint8_t* at = to + static_cast<size_t>(first) * pixel;
        if (stride == 1) {
          std::memcpy(at, from, static_cast<size_t>(last - first) * pixel);
        } else {
          for (int64_t column = first; column < last; ++column) {
            std::memcpy(at, from, pixel);
            at += pixel;
            from += static_cast<size_t>(stride) * pixel;
          }
        }
        fill(to + static_cast<size_t>(last) * pixel, sizes.row_pixels - last);
      }
      ++plane;
    }
  }
}

void tile_conv_run(const TileConvPlan& plan, const TileConvSizes& sizes, const uint8_t* image,
                   int64_t begin, int64_t end, int64_t first_block, int64_t end_block, uint8_t* out,
                   const void* scratch) {
  amx::tile_conv_run(plan, sizes, image, begin, end, first_block, end_block, out, scratch);
}

}  // namespace zerolane::kernels
