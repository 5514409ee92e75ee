// SPDX-License-Identifier: Apache-2.0
#include "kernels/lanes.h"
#include "kernels/quantize.h"
#include "kernels/quantize_element.h"

namespace zerolane::kernels::ZL_ISA {
namespace {

constexpr size_t kVectors = 4;
constexpr size_t kStep = kVectors * kLanes;

// What the elements of one vector are quantized with.
struct Parameters {
  Floats scale, reciprocal, zero_point, least, most;
};

// The same for all elements of a run.
template <typename Integer>
struct OneForAll {
  OneForAll(float s, float zero)
      : multiply(ZL_HAS_FMA != 0 && may_multiply(s)),
        all{Floats{} + s, Floats{} + 1.0F / s, Floats{} + zero,
            Floats{} + (IntegerRange<Integer>::kLeast - zero),
            Floats{} + (IntegerRange<Integer>::kMost - zero)} {}
  ZL_ELEMENT Parameters at(size_t) const { return all; }

  bool multiply;
  Parameters all;
};

// Those of a block of columns, where tensors are rows of axis * inner columns.
constexpr size_t kColumns = 256;

template <typename Integer>
struct OneForEach {
  template <typename Scale>
  OneForEach(const Scale* scales, const Integer* zero_points, size_t first, size_t count,
             size_t inner)
      : multiply(ZL_HAS_FMA != 0) {
    size_t index = first / inner;
    size_t within = first % inner;
    for (size_t i = 0; i < count; ++i) {
      scale[i] = static_cast<float>(scales[index]);
      zero[i] = zero_points != nullptr ? static_cast<float>(zero_points[index]) : 0.0F;
      multiply = multiply && may_multiply(scale[i]);
      if (++within == inner) {
        within = 0;
        ++index;
      }
    }
    // A vector may reach beyond the last column.
    for (size_t i = count; i < kColumns; ++i) {
      scale[i] = 1;
      zero[i] = 0;
    }
    for (size_t i = 0; i < kColumns; ++i) {
      reciprocal[i] = 1.0F / scale[i];
      least[i] = IntegerRange<Integer>::kLeast - zero[i];
      most[i] = IntegerRange<Integer>::kMost - zero[i];
    }
  }
  ZL_ELEMENT Parameters at(size_t i) const {
    return {load(scale + i), load(reciprocal + i), load(zero + i), load(least + i), load(most + i)};
  }

  bool multiply;
  float scale[kColumns];
  float reciprocal[kColumns];
  float zero[kColumns];
  float least[kColumns];
  float most[kColumns];
};

template <bool kMultiply>
ZL_ELEMENT Words quantize_lanes(Floats x, const Parameters& with) {
  Floats quotient;
  if constexpr (kMultiply) {
    quotient = corrected_quotient(x, with.scale, with.reciprocal, with.least, with.most);
  } else {
    quotient = x / with.scale;
  }
  return quantized(quotient, with.least, with.most, with.zero_point);
}

template <bool kMultiply, typename Element, typename Integer, typename With>
ZL_ELEMENT void quantize_step(const Element* x, Integer* y, const With& with, size_t at) {
  Words lanes[kVectors];
  for (size_t j = 0; j < kVectors; ++j) {
    lanes[j] = quantize_lanes<kMultiply>(load(x + j * kLanes), with.at(at + j * kLanes));
  }
  store_bytes(y, lanes);
}

template <bool kMultiply, typename Element, typename Integer, typename With>
ZL_ELEMENT void quantize_run(const Element* x, Integer* y, size_t n, const With& with) {
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) quantize_step<kMultiply>(x + i, y + i, with, i);
  if (i < n) {
    Element odd[kStep] = {};
    Integer to[kStep];
    __builtin_memcpy(static_cast<void*>(odd), x + i, (n - i) * sizeof(Element));
    quantize_step<kMultiply>(odd, to, with, i);
    __builtin_memcpy(y + i, to, n - i);
  }
}

template <typename Element, typename Integer, typename With>
void quantize_with(const Element* x, Integer* y, size_t n, const With& with) {
#if ZL_HAS_FMA
  if (with.multiply) return quantize_run<true>(x, y, n, with);
#endif
  quantize_run<false>(x, y, n, with);
}

template <typename Element, typename Integer, typename With>
void dequantize_with(const Integer* x, Element* y, size_t n, const With& with) {
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Parameters here = with.at(i);
    store(y + i, (load(x + i) - here.zero_point) * here.scale);
  }
  if (i < n) {
    const Parameters here = with.at(i);
    Integer odd[kLanes] = {};
    Element to[kLanes];
    __builtin_memcpy(odd, x + i, n - i);
    store(to, (load(odd) - here.zero_point) * here.scale);
    __builtin_memcpy(static_cast<void*>(y + i), to, (n - i) * sizeof(Element));
  }
}

// Calls run(offset, count, with) for stretches of the tensor: where the inner extent is long, for
// each of them; where it is short, for blocks of columns in each row.
template <typename Scale, typename Integer, typename Run>
ZL_ELEMENT void each_stretch(const QuantizeLayout& layout, const Scale* scale,
                             const Integer* zero_point, const Run& run) {
  constexpr size_t kLong = 64;
  if (layout.inner >= kLong || layout.axis == 1) {
    for (size_t i = 0; i < layout.outer * layout.axis; ++i) {
      const size_t index = i % layout.axis;
      const float zero = zero_point != nullptr ? static_cast<float>(zero_point[index]) : 0.0F;
      run(i * layout.inner, layout.inner,
          OneForAll<Integer>(static_cast<float>(scale[index]), zero));
    }
    return;
  }
  const size_t columns = layout.axis * layout.inner;
  for (size_t first = 0; first < columns; first += kColumns) {
    const size_t count = columns - first < kColumns ? columns - first : kColumns;
    const OneForEach<Integer> with(scale, zero_point, first, count, layout.inner);
    for (size_t row = 0; row < layout.outer; ++row) run(row * columns + first, count, with);
  }
}

template <typename Element, typename Integer>
void quantize_all(const Element* x, Integer* y, const QuantizeLayout& layout, const Element* scale,
                  const Integer* zero_point) {
  each_stretch(layout, scale, zero_point, [&](size_t offset, size_t count, const auto& with) {
    quantize_with(x + offset, y + offset, count, with);
  });
}

template <typename Element, typename Integer>
void dequantize_all(const Integer* x, Element* y, const QuantizeLayout& layout,
                    const Element* scale, const Integer* zero_point) {
  each_stretch(layout, scale, zero_point, [&](size_t offset, size_t count, const auto& with) {
    dequantize_with(x + offset, y + offset, count, with);
  });
}

template <typename Element>
float largest_size(const Element* x, size_t n) {
  Floats most[kVectors] = {};
  const auto take = [&](Floats v, size_t j) {
    const Floats size = from_bits<Floats>(to_bits(v) & 0x7fffffffU);
    // Infinities and NaN are not below infinity.
    most[j] = larger_lanes(size < __builtin_inff() ? size : Floats{}, most[j]);
  };
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    for (size_t j = 0; j < kVectors; ++j) take(load(x + i + j * kLanes), j);
  }
  for (; i < n; i += kLanes) take(load_some(x + i, n - i < kLanes ? n - i : kLanes, 0.0F), 0);
  return largest_lane(larger_lanes(larger_lanes(most[0], most[1]), larger_lanes(most[2], most[3])));
}

}  // namespace

#define ZL_QUANTIZE(element, Element, integer, Integer)                                           \
  void quantize_##element##_##integer(const Element* x, Integer* y, const QuantizeLayout& layout, \
                                      const Element* scale, const Integer* zero_point) {          \
    quantize_all(x, y, layout, scale, zero_point);                                                \
  }                                                                                               \
  void dequantize_##integer##_##element(const Integer* x, Element* y,                             \
                                        const QuantizeLayout& layout, const Element* scale,       \
                                        const Integer* zero_point) {                              \
    dequantize_all(x, y, layout, scale, zero_point);                                              \
  }
ZL_QUANTIZE(float32, float, int8, int8_t)
ZL_QUANTIZE(float32, float, uint8, uint8_t)
ZL_QUANTIZE(float16, Half, int8, int8_t)
ZL_QUANTIZE(float16, Half, uint8, uint8_t)
#undef ZL_QUANTIZE

float largest_size_float32(const float* x, size_t n) { return largest_size(x, n); }
float largest_size_float16(const Half* x, size_t n) { return largest_size(x, n); }

}  // namespace zerolane::kernels::ZL_ISA
