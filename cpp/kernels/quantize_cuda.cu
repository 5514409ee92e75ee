// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantize_cuda.h"

#include <cstddef>

#include "kernels/map_cuda.cuh"
#include "kernels/quantize_element.h"

namespace zerolane::kernels {
namespace {

// Which scale the element has, divided in 32 bits where the tensor is small enough: 64 are slow.
struct Place {
  int64_t inner;
  int64_t axis;
  bool small;

  ZL_HOST_DEVICE int64_t operator()(int64_t i) const {
    if (axis == 1) return 0;
    if (small) {
      return static_cast<uint32_t>(i) / static_cast<uint32_t>(inner) % static_cast<uint32_t>(axis);
    }
    return i / inner % axis;
  }
};

template <typename Element, typename Integer>
struct Quantize {
  const Element* scale;
  const Integer* zero_point;
  Place place;

  ZL_HOST_DEVICE Integer operator()(Element x, int64_t i) const {
    const int64_t at = place(i);
    const float zero = zero_point != nullptr ? static_cast<float>(zero_point[at]) : 0.0F;
    const uint32_t bits =
        quantized(static_cast<float>(x) / static_cast<float>(scale[at]),
                  IntegerRange<Integer>::kLeast - zero, IntegerRange<Integer>::kMost - zero, zero);
    return static_cast<Integer>(bits);
  }
};

template <typename Element, typename Integer>
struct Dequantize {
  const Element* scale;
  const Integer* zero_point;
  Place place;

  ZL_HOST_DEVICE Element operator()(Integer x, int64_t i) const {
    const int64_t at = place(i);
    const float zero = zero_point != nullptr ? static_cast<float>(zero_point[at]) : 0.0F;
    return static_cast<Element>((static_cast<float>(x) - zero) * static_cast<float>(scale[at]));
  }
};

template <template <typename, typename> class Body, typename From, typename To, typename Element,
          typename Integer>
int each_element(void* stream, const From* x, To* y, const QuantizeLayout& layout,
                 const Element* scale, const Integer* zero_point) {
  const size_t n = layout.outer * layout.axis * layout.inner;
  const Place place{static_cast<int64_t>(layout.inner), static_cast<int64_t>(layout.axis),
                    n <= 0xffffffffU};
  return map_on(stream, x, y, static_cast<int64_t>(n),
                Body<Element, Integer>{scale, zero_point, place});
}

// The largest finite size as bits, which for positive floats are in the order of the numbers.
struct Clear {
  unsigned* largest;
  ZL_HOST_DEVICE void operator()(int64_t) const { *largest = 0; }
};

template <typename Element>
__global__ void find_largest(const Element* x, int64_t n, unsigned* largest) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  unsigned most = 0;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    const unsigned size = to_bits(static_cast<float>(x[i])) & 0x7fffffffU;
    most = size < 0x7f800000U && size > most ? size : most;
  }
  for (int half = 16; half > 0; half /= 2) {
    const unsigned other = __shfl_xor_sync(0xffffffffU, most, half);
    most = other > most ? other : most;
  }
  if (threadIdx.x % 32 == 0 && most != 0) atomicMax(largest, most);
}

template <typename Element>
struct SetScale {
  const unsigned* largest;
  Element* scale;
  ZL_HOST_DEVICE void operator()(int64_t) const {
    *scale = scale_of_size<Element>(from_bits<float>(*largest));
  }
};

template <typename Element>
int dynamic_quantize(void* stream, const Element* x, int8_t* y, Element* scale, int64_t n,
                     unsigned* scratch) {
  int status = for_each_on(stream, 1, Clear{scratch});
  if (status == 0 && n > 0) {
    constexpr int64_t kThreads = 256;
    constexpr int64_t kMostBlocks = 1024;
    const int64_t blocks = (n + kThreads - 1) / kThreads;
    find_largest<<<static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks), kThreads, 0,
                   static_cast<cudaStream_t>(stream)>>>(x, n, scratch);
    status = static_cast<int>(cudaGetLastError());
  }
  if (status == 0) status = for_each_on(stream, 1, SetScale<Element>{scratch, scale});
  if (status != 0) return status;
  const QuantizeLayout layout{1, 1, static_cast<size_t>(n)};
  return each_element<Quantize>(stream, x, y, layout, static_cast<const Element*>(scale),
                                static_cast<const int8_t*>(nullptr));
}

}  // namespace

int quantize_on(void* stream, const float* x, int8_t* y, const QuantizeLayout& layout,
                const float* scale, const int8_t* zero_point) {
  return each_element<Quantize>(stream, x, y, layout, scale, zero_point);
}

int dequantize_on(void* stream, const int8_t* x, float* y, const QuantizeLayout& layout,
                  const float* scale, const int8_t* zero_point) {
  return each_element<Dequantize>(stream, x, y, layout, scale, zero_point);
}

int quantize_on(void* stream, const float* x, uint8_t* y, const QuantizeLayout& layout,
                const float* scale, const uint8_t* zero_point) {
  return each_element<Quantize>(stream, x, y, layout, scale, zero_point);
}

int dequantize_on(void* stream, const uint8_t* x, float* y, const QuantizeLayout& layout,
                  const float* scale, const uint8_t* zero_point) {
  return each_element<Dequantize>(stream, x, y, layout, scale, zero_point);
}

int quantize_on(void* stream, const Half* x, int8_t* y, const QuantizeLayout& layout,
                const Half* scale, const int8_t* zero_point) {
  return each_element<Quantize>(stream, x, y, layout, scale, zero_point);
}

int dequantize_on(void* stream, const int8_t* x, Half* y, const QuantizeLayout& layout,
                  const Half* scale, const int8_t* zero_point) {
  return each_element<Dequantize>(stream, x, y, layout, scale, zero_point);
}

int quantize_on(void* stream, const Half* x, uint8_t* y, const QuantizeLayout& layout,
                const Half* scale, const uint8_t* zero_point) {
  return each_element<Quantize>(stream, x, y, layout, scale, zero_point);
}

int dequantize_on(void* stream, const uint8_t* x, Half* y, const QuantizeLayout& layout,
                  const Half* scale, const uint8_t* zero_point) {
  return each_element<Dequantize>(stream, x, y, layout, scale, zero_point);
}

int dynamic_quantize_on(void* stream, const float* x, int8_t* y, float* scale, int64_t n,
                        unsigned* scratch) {
  return dynamic_quantize(stream, x, y, scale, n, scratch);
}

int dynamic_quantize_on(void* stream, const Half* x, int8_t* y, Half* scale, int64_t n,
                        unsigned* scratch) {
  return dynamic_quantize(stream, x, y, scale, n, scratch);
}

}  // namespace zerolane::kernels
