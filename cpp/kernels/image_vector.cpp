// SPDX-License-Identifier: Apache-2.0
#include "kernels/image_vector.h"

#include "kernels/half_vector.h"
#include "kernels/image_element.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif
#if defined(__AVX512F__)
#include "kernels/image_permuted.h"
#endif

namespace zerolane::kernels::ZL_ISA {
namespace {

// Rows are mixed first, over all of a row's elements, then pixels of the mixed row: most of the
// work is on neighbouring memory, and one code serves every ratio.

#if defined(__AVX512F__)
using Floats = __m512;
[[gnu::always_inline]] inline Floats load_pixels(const uint8_t* from) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}
[[gnu::always_inline]] inline Floats load(const float* from) { return _mm512_loadu_ps(from); }
[[gnu::always_inline]] inline void store(float* to, Floats values) { _mm512_storeu_ps(to, values); }
#elif defined(__AVX2__)
using Floats = __m256;
[[gnu::always_inline]] inline Floats load_pixels(const uint8_t* from) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
}
[[gnu::always_inline]] inline Floats load(const float* from) { return _mm256_loadu_ps(from); }
[[gnu::always_inline]] inline void store(float* to, Floats values) { _mm256_storeu_ps(to, values); }
#else
using Floats = float;
[[gnu::always_inline]] inline Floats load_pixels(const uint8_t* from) {
  return static_cast<float>(*from);
}
[[gnu::always_inline]] inline Floats load(const float* from) { return *from; }
[[gnu::always_inline]] inline void store(float* to, Floats values) { *to = values; }
#endif
constexpr int32_t kLanes =
    sizeof(Floats) / sizeof(float);  // NOLINT(bugprone-sizeof-expression): one, at baseline

// mixed = the span's rows, weighted. Of a single row, head and tail are the same and count 1 and 0.
void mix_rows(const uint8_t* image, int32_t elements, const Span& rows, float middle,
              float* __restrict mixed) {
  const uint8_t* __restrict first = image + static_cast<int64_t>(rows.first) * elements;
  const uint8_t* __restrict last = first + static_cast<int64_t>(rows.count - 1) * elements;
  const float head = rows.head;
  const float tail = rows.tail;
  int32_t i = 0;
  for (; i + kLanes <= elements; i += kLanes) {
    store(mixed + i, load_pixels(first + i) * head + load_pixels(last + i) * tail);
  }
  for (; i < elements; ++i) {
    mixed[i] = static_cast<float>(first[i]) * head + static_cast<float>(last[i]) * tail;
  }
  for (const uint8_t* row = first + elements; row < last; row += elements) {
    for (i = 0; i + kLanes <= elements; i += kLanes) {
      store(mixed + i, load(mixed + i) + load_pixels(row + i) * middle);
    }
    for (; i < elements; ++i) mixed[i] += static_cast<float>(row[i]) * middle;
  }
}

// The channels of a pixel; what lies above kChannels is of no use.
typedef float Pixel __attribute__((vector_size(16)));
static_assert(sizeof(Pixel) == kMostChannels * sizeof(float));

[[gnu::always_inline]] inline Pixel load_pixel(const float* from) {
  Pixel pixel;
  __builtin_memcpy(&pixel, from, sizeof pixel);
  return pixel;
}

[[gnu::always_inline]] inline void store4(float* to, Pixel values) {
  __builtin_memcpy(to, &values, sizeof values);
}

template <int kChannels, bool kPairs>
[[gnu::always_inline]] inline Pixel mix_pixels(const float* row, const Span& span, float middle) {
  const float* pixel = row + span.first * kChannels;
  if (kPairs) return load_pixel(pixel) * span.head + load_pixel(pixel + kChannels) * span.tail;
  const float* last = pixel + (span.count - 1) * kChannels;
  Pixel sum = load_pixel(pixel) * span.head + load_pixel(last) * span.tail;
  for (pixel += kChannels; pixel < last; pixel += kChannels) sum += load_pixel(pixel) * middle;
  return sum;
}

// One row of the place: pixels of the mixed row, weighted, to planes. kPairs: no span is longer.
template <int kChannels, bool kPairs>
void mix_columns(const ImageToPlanes& what, const float* row, const Span* spans,
                 float* const* planes) {
  const float middle = span_middle(what.in_width, what.width);
  int32_t x = 0;
  for (; x + 4 <= what.width; x += 4) {
    const Pixel a = mix_pixels<kChannels, kPairs>(row, spans[x], middle);
    const Pixel b = mix_pixels<kChannels, kPairs>(row, spans[x + 1], middle);
    const Pixel c = mix_pixels<kChannels, kPairs>(row, spans[x + 2], middle);
    const Pixel d = mix_pixels<kChannels, kPairs>(row, spans[x + 3], middle);
    const Pixel ab01 = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    const Pixel cd01 = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    const Pixel ab23 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Pixel cd23 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    const Pixel channels[kMostChannels] = {
        __builtin_shufflevector(ab01, cd01, 0, 1, 4, 5),
        __builtin_shufflevector(ab01, cd01, 2, 3, 6, 7),
        __builtin_shufflevector(ab23, cd23, 0, 1, 4, 5),
        __builtin_shufflevector(ab23, cd23, 2, 3, 6, 7),
    };
    for (int k = 0; k < kChannels; ++k) {
      store4(planes[k] + x, channels[k] * what.scale[k] + what.offset[k]);
    }
  }
  for (; x < what.width; ++x) {
    const Pixel pixel = mix_pixels<kChannels, kPairs>(row, spans[x], middle);
    for (int k = 0; k < kChannels; ++k) {
      planes[k][x] = pixel[k] * what.scale[k] + what.offset[k];
    }
  }
}

using MixColumns = void (*)(const ImageToPlanes&, const float*, const Span*, float* const*);

MixColumns mixer(int32_t channels, bool pairs) {
  switch (channels) {
    case 1:
      return pairs ? mix_columns<1, true> : mix_columns<1, false>;
    case 2:
      return pairs ? mix_columns<2, true> : mix_columns<2, false>;
    case 3:
      return pairs ? mix_columns<3, true> : mix_columns<3, false>;
    default:
      return pairs ? mix_columns<4, true> : mix_columns<4, false>;
  }
}

template <class Element>
void fill(Element* to, int64_t count, Element value) {
  for (int64_t i = 0; i < count; ++i) to[i] = value;
}

// Where a row is mixed to: in place, or into `rows`, to be rounded afterwards.
[[gnu::always_inline]] inline float* mixed_into(float* plane, float*) { return plane; }
[[gnu::always_inline]] inline float* mixed_into(Half*, float* rows) { return rows; }
[[gnu::always_inline]] inline void finish(const float*, float*, int32_t) {}
[[gnu::always_inline]] inline void finish(const float* row, Half* plane, int32_t count) {
  from_float(row, plane, static_cast<size_t>(count));
}

// What makes rows of the place from rows of a picture.
class RowMixer {
 public:
  RowMixer(const ImageToPlanes& what, void* scratch)
      : what_(what), middle_(span_middle(what.in_height, what.height)) {
    const ImageScratch places(what);
    auto* const start = static_cast<char*>(scratch);
    spans_ = reinterpret_cast<Span*>(start + places.spans);
    row_ = reinterpret_cast<float*>(start + places.row);
    bool pairs = true;
    for (int32_t x = 0; x < what.width; ++x) {
      spans_[x] = span_of(what.interpolation, x, what.in_width, what.width);
      pairs = pairs && spans_[x].count <= 2;
    }
    mix_columns_ = mixer(what.channels, pairs);
    // Read behind the last pixel, with weight 0: must be numbers.
    const int32_t elements = what.in_width * what.channels;
    fill(row_ + elements, kImageRowSlack, 0.0F);
#if defined(__AVX512F__)
    columns_ = {reinterpret_cast<int32_t*>(start + places.first),
                reinterpret_cast<float*>(start + places.tail)};
    apart_ = what.channels == kPermutedChannels && permute_columns(spans_, what.width, columns_);
    for (int32_t c = 0; apart_ && c < kPermutedChannels; ++c) {
      rows_[c] = row_ + c * (what.in_width + kImageRowSlack);
      fill(rows_[c] + what.in_width, kImageRowSlack, 0.0F);
    }
#endif
  }

  // Row y of the place, a row for each channel.
  void mix(const uint8_t* image, int32_t y, float* const* to) const {
    const Span rows = span_of(what_.interpolation, y, what_.in_height, what_.height);
#if defined(__AVX512F__)
    if (apart_) {
      mix_rows_apart(image, what_.in_width, rows, middle_, rows_);
      mix_columns_apart(what_, columns_, rows_, to);
      return;
    }
#endif
    mix_rows(image, what_.in_width * what_.channels, rows, middle_, row_);
    mix_columns_(what_, row_, spans_, to);
  }

 private:
  const ImageToPlanes& what_;
  float middle_;
  Span* spans_;
  float* row_;
  MixColumns mix_columns_;
#if defined(__AVX512F__)
  bool apart_;
  PermutedColumns columns_;
  float* rows_[kPermutedChannels];
#endif
};

template <class Element>
void convert(const ImageToPlanes& what, const uint8_t* images, int64_t batch, Element* planes,
             void* scratch) {
  const RowMixer mixer(what, scratch);
  auto* rounded_later =
      reinterpret_cast<float*>(static_cast<char*>(scratch) + ImageScratch(what).planes);
  Element border[kMostChannels];
  for (int32_t c = 0; c < what.channels; ++c) border[c] = static_cast<Element>(what.border[c]);
  const int64_t width = what.out_width;
  const int64_t plane = width * what.out_height;
  const int32_t right = what.left + what.width;
  for (int64_t n = 0; n < batch; ++n) {
    Element* outputs[kMostChannels];
    for (int32_t c = 0; c < what.channels; ++c) {
      outputs[c] = planes + (n * what.channels + what.plane[c]) * plane;
      fill(outputs[c], what.top * width, border[c]);
      const int64_t bottom = (what.top + what.height) * width;
      fill(outputs[c] + bottom, plane - bottom, border[c]);
      outputs[c] += what.top * width;
    }
    const uint8_t* image =
        images + n * what.in_height * static_cast<int64_t>(what.in_width) * what.channels;
    for (int32_t y = 0; y < what.height; ++y) {
      float* mixed[kMostChannels];
      for (int32_t c = 0; c < what.channels; ++c) {
        mixed[c] = mixed_into(outputs[c] + what.left, rounded_later + c * what.width);
      }
      mixer.mix(image, y, mixed);
      for (int32_t c = 0; c < what.channels; ++c) {
        fill(outputs[c], what.left, border[c]);
        finish(mixed[c], outputs[c] + what.left, what.width);
        fill(outputs[c] + right, width - right, border[c]);
        outputs[c] += width;
      }
    }
  }
}

}  // namespace

void image_to_planes_float(const ImageToPlanes& what, const uint8_t* images, int64_t batch,
                           float* planes, void* scratch) {
  convert(what, images, batch, planes, scratch);
}

void image_to_planes_half(const ImageToPlanes& what, const uint8_t* images, int64_t batch,
                          Half* planes, void* scratch) {
  convert(what, images, batch, planes, scratch);
}

}  // namespace zerolane::kernels::ZL_ISA
