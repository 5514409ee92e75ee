// SPDX-License-Identifier: Apache-2.0
#include "kernels/gelu_element.h"
#include "kernels/map_cuda.cuh"
#include "kernels/scaled_gelu_cuda.h"

namespace zerolane::kernels {
namespace {

template <typename Element, bool kTanh>
struct ScaledGelu {
  float alpha;
  float scale;

  ZL_HOST_DEVICE Element operator()(Element x, int64_t) const {
    const float z = static_cast<float>(x) * alpha;
    return static_cast<Element>((kTanh ? gelu_tanh_32(z) : gelu_erf_32(z)) * scale);
  }
};

template <bool kTanh>
struct ScaledGelu<double, kTanh> {
  double alpha;
  double scale;

  ZL_HOST_DEVICE double operator()(double x, int64_t) const {
    const double z = x * alpha;
    return (kTanh ? gelu_tanh_64(z) : gelu_erf_64(z)) * scale;
  }
};

template <typename Element>
int run(void* stream, const Element* x, Element* y, int64_t n, double alpha, double scale,
        GeluForm form) {
  using Erf = ScaledGelu<Element, false>;
  using Tanh = ScaledGelu<Element, true>;
  using Scalar = decltype(Erf::alpha);
  const auto a = static_cast<Scalar>(alpha);
  const auto s = static_cast<Scalar>(scale);
  return form == GeluForm::kErf ? map_on(stream, x, y, n, Erf{a, s})
                                : map_on(stream, x, y, n, Tanh{a, s});
}

}  // namespace

int scaled_gelu_on(void* stream, const float* x, float* y, int64_t n, double alpha, double scale,
                   GeluForm form) {
  return run(stream, x, y, n, alpha, scale, form);
}

int scaled_gelu_on(void* stream, const double* x, double* y, int64_t n, double alpha, double scale,
                   GeluForm form) {
  return run(stream, x, y, n, alpha, scale, form);
}

int scaled_gelu_on(void* stream, const Half* x, Half* y, int64_t n, double alpha, double scale,
                   GeluForm form) {
  return run(stream, x, y, n, alpha, scale, form);
}

int scaled_gelu_on(void* stream, const BFloat16* x, BFloat16* y, int64_t n, double alpha,
                   double scale, GeluForm form) {
  return run(stream, x, y, n, alpha, scale, form);
}

}  // namespace zerolane::kernels
