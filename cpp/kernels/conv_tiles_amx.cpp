// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv_tiles_amx.h"

#include <immintrin.h>

// Compiled with AMX and AVX-512: like a vector source (isa.h) it holds no function that the linker
// could take for another's.
namespace zerolane::kernels::amx {
namespace {

constexpr int64_t kTile = 16;
constexpr int64_t kBlock = 2 * kTile;
// Weights beyond this are not read again for each block of pixels: they would not stay in a second
// level cache.
constexpr int64_t kWeightsStay = 1 << 20;

// The operand of LDTILECFG.
struct alignas(64) TileConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};

// Tiles 0 to 3 hold sums, 4 and 5 pixels, 6 and 7 weights.
void configure(int64_t pixels, int64_t chunk_bytes) {
  TileConfig config{};
  config.palette = 1;
  for (int i = 0; i < 8; ++i) {
    config.row_bytes[i] = i == 4 || i == 5 ? static_cast<uint16_t>(chunk_bytes) : 64;
    config.rows[i] = static_cast<uint8_t>(i < 6 ? pixels : chunk_bytes / 4);
  }
  _tile_loadconfig(&config);
}

struct Sums {
  alignas(64) int32_t tile[4][kTile][kTile];  // [2 * pixels' tile + filters' tile]
};

// Sums that are not results yet. They are finished while tiles multiply for the next ones.
struct Pending {
  Sums sums;
  uint8_t* to[kBlock];  // where the results of a pixel go
  int64_t pixels;       // 0: nothing is pending
  int64_t filters;
  const float* scales;
};

// Where the chunks of up to 32 pixels and filters are.
struct Operands {
  const int64_t* offsets;
  int64_t chunks;
  const uint8_t* pixels[2];
  int64_t pixel_stride;
  const int8_t* weights;
  int64_t tile_bytes;
  const int32_t* bias;
  // Weights that come next, fetched into the second level cache meanwhile: lines a chunk.
  const int8_t* next;
  int64_t next_lines;
};

template <int kPixelTiles, int kFilterTiles>
void multiply(const Operands& at) {
  const auto stride = static_cast<size_t>(at.pixel_stride);
  // A stride of 0 gives each pixel the same row of biases to begin with.
  _tile_loadd(0, at.bias, 0);
  if constexpr (kFilterTiles == 2) _tile_loadd(1, at.bias + kTile, 0);
  if constexpr (kPixelTiles == 2) _tile_loadd(2, at.bias, 0);
  if constexpr (kPixelTiles == 2 && kFilterTiles == 2) _tile_loadd(3, at.bias + kTile, 0);
  const int8_t* weights = at.weights;
  const int8_t* next = at.next;
  for (int64_t i = 0; i < at.chunks; ++i) {
    for (int64_t line = 0; line < at.next_lines; ++line, next += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
    }
    const int64_t offset = at.offsets[i];
    _tile_loadd(4, at.pixels[0] + offset, stride);
    _tile_loadd(6, weights, 64);
    if constexpr (kPixelTiles == 2) _tile_loadd(5, at.pixels[1] + offset, stride);
    if constexpr (kFilterTiles == 2) _tile_loadd(7, weights + at.tile_bytes, 64);
    _tile_dpbusd(0, 4, 6);
    if constexpr (kPixelTiles == 2) _tile_dpbusd(2, 5, 6);
    if constexpr (kFilterTiles == 2) _tile_dpbusd(1, 4, 7);
    if constexpr (kPixelTiles == 2 && kFilterTiles == 2) _tile_dpbusd(3, 5, 7);
    weights += kFilterTiles * at.tile_bytes;
  }
}

template <int kPixelTiles, int kFilterTiles>
void save(Sums& sums) {
  _tile_stored(0, sums.tile[0], 64);
  if constexpr (kFilterTiles == 2) _tile_stored(1, sums.tile[1], 64);
  if constexpr (kPixelTiles == 2) _tile_stored(2, sums.tile[2], 64);
  if constexpr (kPixelTiles == 2 && kFilterTiles == 2) _tile_stored(3, sums.tile[3], 64);
}

// What turns sums into results.
struct Finish {
  __m512 low;  // least and greatest result, less its zero point
  __m512 high;
  __m512i zero;  // int16
};

template <bool kMayOverflow>
__m512i scaled(const int32_t* sums, __m512 scale, const Finish& finish) {
  __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums)), scale);
  if constexpr (kMayOverflow) {
    value = _mm512_min_ps(_mm512_max_ps(value, finish.low), finish.high);
  }
  return _mm512_cvtps_epi32(value);
}

// Four rows of 16 sums to four times 16 results, in their order.
template <bool kMayOverflow>
__m512i finished(const int32_t* const rows[4], __m512 even, __m512 odd, const Finish& finish) {
  const __m512i first = _mm512_packs_epi32(scaled<kMayOverflow>(rows[0], even, finish),
                                           scaled<kMayOverflow>(rows[1], odd, finish));
  const __m512i second = _mm512_packs_epi32(scaled<kMayOverflow>(rows[2], even, finish),
                                            scaled<kMayOverflow>(rows[3], odd, finish));
  const __m512i packed = _mm512_packus_epi16(_mm512_adds_epi16(first, finish.zero),
                                             _mm512_adds_epi16(second, finish.zero));
  // Packing works in each 128 bits alone: four dwords of one row lie four apart.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, packed);
}

template <bool kMayOverflow>
void store_32(const Pending& job, const Finish& finish) {
  const __m512 even = _mm512_loadu_ps(job.scales), odd = _mm512_loadu_ps(job.scales + kTile);
  const auto mask = static_cast<__mmask32>((uint64_t{1} << job.filters) - 1);
  for (int64_t p = 0; p < job.pixels; p += 2) {
    const auto* tiles = job.sums.tile + p / kTile * 2;
    const int64_t row = p % kTile;
    const int32_t* const rows[4] = {tiles[0][row], tiles[1][row], tiles[0][row + 1],
                                    tiles[1][row + 1]};
    const __m512i results = finished<kMayOverflow>(rows, even, odd, finish);
    const __m256i first = _mm512_castsi512_si256(results);
    const __m256i second = _mm512_extracti64x4_epi64(results, 1);
    if (job.filters == kBlock) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(job.to[p]), first);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(job.to[p + 1]), second);
    } else {
      _mm256_mask_storeu_epi8(job.to[p], mask, first);
      _mm256_mask_storeu_epi8(job.to[p + 1], mask, second);
    }
  }
}

template <bool kMayOverflow>
void store_16(const Pending& job, const Finish& finish) {
  const __m512 scale = _mm512_loadu_ps(job.scales);
  const auto mask = static_cast<__mmask16>((uint32_t{1} << job.filters) - 1);
  for (int64_t p = 0; p < job.pixels; p += 4) {
    const auto& tile = job.sums.tile[p / kTile * 2];
    const int64_t row = p % kTile;
    const int32_t* const rows[4] = {tile[row], tile[row + 1], tile[row + 2], tile[row + 3]};
    const __m512i results = finished<kMayOverflow>(rows, scale, scale, finish);
    _mm_mask_storeu_epi8(job.to[p], mask, _mm512_castsi512_si128(results));
    _mm_mask_storeu_epi8(job.to[p + 1], mask, _mm512_extracti32x4_epi32(results, 1));
    _mm_mask_storeu_epi8(job.to[p + 2], mask, _mm512_extracti32x4_epi32(results, 2));
    _mm_mask_storeu_epi8(job.to[p + 3], mask, _mm512_extracti32x4_epi32(results, 3));
  }
}

// One part of an image.
class Part {
 public:
  Part(const TileConvPlan& plan, const TileConvSizes& sizes, const uint8_t* image, uint8_t* out,
       const void* scratch)
      : plan_(plan), sizes_(sizes), image_(image), output_(out) {
    const auto* copy = static_cast<const uint8_t*>(scratch);
    at_.offsets = plan.offsets;
    if (!plan.in_place) {
      image_ = copy;
      at_.offsets = reinterpret_cast<const int64_t*>(copy + sizes.image_bytes);
    }
    at_.chunks = plan.chunk_count;
    at_.pixel_stride = plan.conv.channels;
    at_.tile_bytes = kTile * plan.chunk_bytes;
    rows_ = sizes.positions < kTile ? sizes.positions : kTile;
    const int zero = plan.conv.output_zero;
    finish_.low = _mm512_set1_ps(static_cast<float>(-zero));
    finish_.high = _mm512_set1_ps(static_cast<float>(255 - zero));
    finish_.zero = _mm512_set1_epi16(static_cast<int16_t>(zero));
  }

  void run(int64_t begin, int64_t end, int64_t first_block, int64_t end_block) {
    configure(rows_, plan_.chunk_bytes);
    const int64_t block_bytes = kBlock * plan_.chunk_count * plan_.chunk_bytes;
    if ((end_block - first_block) * block_bytes <= kWeightsStay) {
      for (int64_t p = begin; p < end; p += kBlock) {
        place(p, end);
        for (int64_t block = first_block; block < end_block; ++block) compute(block);
      }
    } else {
      const int64_t passes = (end - begin + kBlock - 1) / kBlock;
      const int64_t lines = kBlock * plan_.chunk_bytes / 64;  // of a block, for a chunk
      for (int64_t block = first_block; block < end_block; ++block) {
        at_.next_lines = block + 1 < end_block ? (lines + passes - 1) / passes : 0;
        at_.next = plan_.weights + (block + 1) * block_bytes;
        for (int64_t p = begin; p < end; p += kBlock) {
          place(p, end);
          compute(block);
          at_.next += at_.next_lines * 64 * plan_.chunk_count;
        }
      }
      at_.next_lines = 0;
    }
    finish();
    _tile_release();
  }

 private:
  // Chooses the pixels from position p on. The image's last tile begins earlier than it ought to
  // where it would not be full; what it computes twice is dropped.
  void place(int64_t p, int64_t end) {
    tiles_ = end - p > kTile ? 2 : 1;
    for (int64_t tile = 0; tile < tiles_; ++tile) {
      const int64_t wanted = p + tile * kTile;
      const int64_t latest = sizes_.positions - rows_;
      const int64_t first = wanted < latest ? wanted : latest;
      at_.pixels[tile] = image_ + first * plan_.conv.channels;
      place_rows(tile * kTile, first, wanted, end);
    }
  }

  // Where the results of 16 positions from `first` on go, row by row of the image; those before
  // `wanted`, from `end` on and between rows of the image are none.
  void place_rows(int64_t at, int64_t first, int64_t wanted, int64_t end) {
    int64_t y = first / sizes_.row_pixels, x = first % sizes_.row_pixels;
    for (int64_t done = 0; done < kTile; x = 0, ++y) {
      const int64_t left = kTile - done, in_row = sizes_.row_pixels - x;
      const int64_t count = in_row < left ? in_row : left;
      const int64_t skipped = wanted - first - done;
      const int64_t valid =
          sizes_.out_width - x < end - first - done ? sizes_.out_width - x : end - first - done;
      uint8_t* out = output_ + (y * sizes_.out_width + x) * plan_.conv.filters;
      for (int64_t i = 0; i < count; ++i, out += plan_.conv.filters) {
        to_[at + done + i] = i >= skipped && i < valid ? out : nullptr;
      }
      done += count;
    }
  }

  void compute(int64_t block) {
    const int64_t first = block * kBlock;
    const int64_t left = plan_.conv.filters - first;
    const int64_t filters = left < kBlock ? left : kBlock;
    at_.weights = plan_.weights + first * plan_.chunk_count * plan_.chunk_bytes;
    at_.bias = plan_.bias + first;
    if (filters > kTile) {
      tiles_ == 2 ? compute<2, 2>(first, filters) : compute<1, 2>(first, filters);
    } else {
      tiles_ == 2 ? compute<2, 1>(first, filters) : compute<1, 1>(first, filters);
    }
  }

  // The sums before are finished between the multiplications, which take long, and the stores of
  // their results: loads after those would wait for them, as all addresses look alike in their low
  // 12 bits.
  template <int kPixelTiles, int kFilterTiles>
  void compute(int64_t first, int64_t filters) {
    multiply<kPixelTiles, kFilterTiles>(at_);
    finish();
    save<kPixelTiles, kFilterTiles>(pending_.sums);
    pending_.pixels = tiles_ * kTile;
    pending_.filters = filters;
    pending_.scales = plan_.scales + first;
    // Rows without a result go to a place that nobody reads.
    for (int64_t i = 0; i < kBlock; ++i) {
      pending_.to[i] = to_[i] != nullptr ? to_[i] + first : dropped_;
    }
  }

  void finish() {
    if (pending_.pixels == 0) return;
    if (pending_.filters > kTile) {
      plan_.may_overflow ? store_32<true>(pending_, finish_) : store_32<false>(pending_, finish_);
    } else {
      plan_.may_overflow ? store_16<true>(pending_, finish_) : store_16<false>(pending_, finish_);
    }
    pending_.pixels = 0;
  }

  const TileConvPlan& plan_;
  const TileConvSizes& sizes_;
  const uint8_t* image_;
  uint8_t* output_;
  Operands at_{};
  Finish finish_{};
  int64_t rows_ = 0;   // pixels of a tile
  int64_t tiles_ = 0;  // of pixels, now
  uint8_t* to_[kBlock] = {};
  uint8_t dropped_[kBlock] = {};
  Pending pending_ = {};
};

}  // namespace

bool built() noexcept { return true; }

void tile_conv_run(const TileConvPlan& plan, const TileConvSizes& sizes, const uint8_t* image,
                   int64_t begin, int64_t end, int64_t first_block, int64_t end_block, uint8_t* out,
                   const void* scratch) {
  Part(plan, sizes, image, out, scratch).run(begin, end, first_block, end_block);
}

}  // namespace zerolane::kernels::amx
