// SPDX-License-Identifier: Apache-2.0
#include "kernels/scaled_gelu.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "kernel_isas.h"
#include "kernels/gelu_element.h"

using namespace zerolane;
using namespace zerolane::kernels;

namespace zerolane::kernels {
ZL_DECLARE_ISA(void, scaled_gelu_float32,
               (const float* x, float* y, size_t n, float alpha, float scale, GeluForm form))
ZL_DECLARE_ISA(void, scaled_gelu_float64,
               (const double* x, double* y, size_t n, double alpha, double scale, GeluForm form))
ZL_DECLARE_ISA(void, scaled_gelu_float16,
               (const Half* x, Half* y, size_t n, float alpha, float scale, GeluForm form))
ZL_DECLARE_ISA(void, scaled_gelu_bfloat16,
               (const BFloat16* x, BFloat16* y, size_t n, float alpha, float scale, GeluForm form))
}  // namespace zerolane::kernels

namespace {

long double reference(long double x, GeluForm form) {
  if (form == GeluForm::kErf) return x * std::erfc(-x / std::numbers::sqrt2_v<long double>) / 2;
  const long double u =
      std::sqrt(2 / std::numbers::pi_v<long double>) * (x + 0.044715L * x * x * x);
  return x / (1 + std::exp(-2 * u));
}

// How many units in the last place of the true result lie between the two.
template <typename Real>
double error_in_ulp(Real got, long double expected) {
  const auto near = static_cast<Real>(expected);
  const Real ulp =
      std::nextafter(std::abs(near), std::numeric_limits<Real>::infinity()) - std::abs(near);
  return static_cast<double>(std::abs(got - expected) / ulp);
}

// The whole range in which results are normal, at both scales.
template <typename Real>
std::vector<Real> arguments() {
  std::vector<Real> x;
  const Real least = std::is_same_v<Real, float> ? Real(-13.2) : Real(-37.4);
  for (int i = 0; i <= 200'003; ++i) x.push_back(least + (Real(14) - least) * Real(i) / 200'003);
  for (Real small = Real(1e-30); small < 1; small *= Real(1.37)) {
    x.push_back(small);
    x.push_back(-small);
  }
  return x;
}

template <typename Real>
struct Errors {
  double positive = 0;
  double near = 0;  // 0 > x > -3
  double tail = 0;
};

template <typename Real, typename Scalar, typename Function>
Errors<Real> errors_of(const Function& function, GeluForm form, Scalar scale) {
  Errors<Real> worst;
  const std::vector<Real> x = arguments<Real>();
  std::vector<Real> y(x.size());
  function(x.data(), y.data(), x.size(), Scalar(1), scale, form);
  for (size_t i = 0; i < x.size(); ++i) {
    const long double expected = reference(x[i], form);
    // A little above the least normal number: a factor below it may have been flushed.
    if (std::abs(expected) < 64 * std::numeric_limits<Real>::min()) {
      REQUIRE(std::abs(y[i]) <= 80 * std::numeric_limits<Real>::min());
      continue;
    }
    const double error = error_in_ulp(y[i], expected);
    double& kept = x[i] > 0 ? worst.positive : x[i] > -3 ? worst.near : worst.tail;
    kept = std::max(kept, error);
  }
  return worst;
}

template <typename Real>
void check_accuracy(const char* isa,
                    void (*function)(const Real*, Real*, size_t, Real, Real, GeluForm)) {
  CAPTURE(isa);
  const Errors<Real> erf = errors_of<Real>(function, GeluForm::kErf, Real(1));
  CHECK(erf.positive <= 4);
  CHECK(erf.near <= 12);
  CHECK(erf.tail <= 12);
  const Errors<Real> tanh = errors_of<Real>(function, GeluForm::kTanh, Real(1));
  CHECK(tanh.positive <= 3);
  CHECK(tanh.near <= 20);
}

template <typename Element, typename Scalar>
void check_odd_sizes(const char* isa,
                     void (*function)(const Element*, Element*, size_t, Scalar, Scalar, GeluForm)) {
  CAPTURE(isa);
  for (const GeluForm form : {GeluForm::kErf, GeluForm::kTanh}) {
    for (size_t n = 0; n < 70; ++n) {
      CAPTURE(n);
      std::vector<Element> x(n + 1);
      std::vector<Element> y(n + 2, static_cast<Element>(-77.0F));
      for (size_t i = 0; i <= n; ++i) {
        x[i] = static_cast<Element>(static_cast<float>(i % 13) * 0.5F - 3.0F);
      }
      function(x.data() + 1, y.data() + 1, n, Scalar(1.25), Scalar(-2), form);
      REQUIRE(static_cast<float>(y[0]) == -77.0F);
      REQUIRE(static_cast<float>(y[n + 1]) == -77.0F);
      for (size_t i = 0; i < n; ++i) {
        const long double expected = -2 * reference(1.25L * static_cast<double>(x[i + 1]), form);
        // Half a unit of the last place of bfloat16, the coarsest.
        REQUIRE(static_cast<double>(y[i + 1]) == doctest::Approx(static_cast<double>(expected))
                                                     .epsilon(sizeof(Element) == 2 ? 0.004 : 1e-5));
      }
    }
  }
}

template <typename Element, typename Scalar>
void check_specials(const char* isa,
                    void (*function)(const Element*, Element*, size_t, Scalar, Scalar, GeluForm)) {
  CAPTURE(isa);
  const float infinity = std::numeric_limits<float>::infinity();
  for (const GeluForm form : {GeluForm::kErf, GeluForm::kTanh}) {
    const float special[] = {infinity, -infinity, std::nanf(""), 0.0F, 60000.0F, -60000.0F};
    Element x[6];
    Element y[6];
    for (int i = 0; i < 6; ++i) x[i] = static_cast<Element>(special[i]);
    function(x, y, 6, Scalar(1), Scalar(1), form);
    CHECK(static_cast<float>(y[0]) == infinity);
    CHECK(static_cast<float>(y[1]) == 0.0F);
    CHECK(std::isnan(static_cast<float>(y[2])));
    CHECK(static_cast<float>(y[3]) == 0.0F);
    CHECK(static_cast<float>(y[4]) == static_cast<float>(x[4]));
    CHECK(static_cast<float>(y[5]) == 0.0F);
  }
}

}  // namespace

TEST_CASE("exp keeps its error bound") {
  double worst_32 = 0;
  for (float x = -87.3F; x < 0; x += 0.00021F) {
    worst_32 =
        std::max(worst_32, error_in_ulp(exp_of_negative_32(x, 0.0F), std::exp((long double)x)));
  }
  CHECK(worst_32 <= 1.5);
  double worst_64 = 0;
  for (double x = -708.3; x < 0; x += 0.00171) {
    worst_64 =
        std::max(worst_64, error_in_ulp(exp_of_negative_64(x, 0.0), std::exp((long double)x)));
  }
  CHECK(worst_64 <= 1.5);
  CHECK(exp_of_negative_32(kExpLeast32, 0.0F) == 0);
  CHECK(exp_of_negative_64(kExpLeast64, 0.0) == 0);
  CHECK(std::isnan(exp_of_negative_32(std::nanf(""), 0.0F)));
  CHECK(std::isnan(exp_of_negative_64(std::nan(""), 0.0)));
}

TEST_CASE("scaled gelu keeps its error bounds") {
  ZL_FOR_EACH_ISA(scaled_gelu_float32, check_accuracy<float>);
  ZL_FOR_EACH_ISA(scaled_gelu_float64, check_accuracy<double>);
}

TEST_CASE("scaled gelu takes any number of elements at any address") {
  ZL_FOR_EACH_ISA(scaled_gelu_float32, (check_odd_sizes<float, float>));
  ZL_FOR_EACH_ISA(scaled_gelu_float64, (check_odd_sizes<double, double>));
  ZL_FOR_EACH_ISA(scaled_gelu_float16, (check_odd_sizes<Half, float>));
  ZL_FOR_EACH_ISA(scaled_gelu_bfloat16, (check_odd_sizes<BFloat16, float>));
}

TEST_CASE("scaled gelu has limits at infinity and keeps NaN") {
  ZL_FOR_EACH_ISA(scaled_gelu_float32, (check_specials<float, float>));
  ZL_FOR_EACH_ISA(scaled_gelu_float64, (check_specials<double, double>));
  ZL_FOR_EACH_ISA(scaled_gelu_float16, (check_specials<Half, float>));
  ZL_FOR_EACH_ISA(scaled_gelu_bfloat16, (check_specials<BFloat16, float>));
}
