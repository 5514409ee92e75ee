// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/exp_element.h"

namespace zerolane::kernels {

// The Gaussian error linear unit (Hendrycks and Gimpel, arXiv:1606.08415), x P(X <= x) for a normal
// X, written so that nothing cancels:
//
//   gelu(x) = max(x, 0) - a Q(a),   a = |x|,   Q(a) = P(X > a) = erfc(a / sqrt 2) / 2
//
// so the negative tail keeps its relative accuracy, where x/2 (1 + erf(x / sqrt 2)) loses all of
// it. Infinities give their limits, inf and 0; NaN gives NaN. _32 is for floats, _64 for doubles.
//
// Q(a) = e^(-a^2/2) R(a), R a rational function fitted for the least relative error (2^-27.5 as
// float, 2^-59.9 as double) up to where the product leaves the normal numbers.
//
// Error where the result is normal: at most 4 ulp for x > 0 and 12 ulp for x < 0; tests measure it.
// Results below the normal numbers may be 0.
template <typename F>
ZL_ELEMENT F gelu_erf_32(F x) {
  const F size = from_bits<F>(to_bits(x) & 0x7fffffffU);
  const F a = kNormalMost32 < size ? F{} + kNormalMost32 : size;
  F p = a * 0.00404347785F + 0.04013973744F;
  p = p * a + 0.1817664911F;
  p = p * a + 0.4363044271F;
  p = p * a + 0.5F;
  F q = a * 0.01013535795F + 0.1006225716F;
  q = q * a + 0.4655946344F;
  q = q * a + 1.196389833F;
  q = q * a + 1.670493797F;
  q = q * a + 1.0F;
  return (x > 0.0F ? x : F{}) - a * p * exp_of_half_square_32(a) / q;
}

template <typename F>
ZL_ELEMENT F gelu_erf_64(F x) {
  const F size = from_bits<F>(to_bits(x) & 0x7fffffffffffffffU);
  const F a = kNormalMost64 < size ? F{} + kNormalMost64 : size;
  F p = a * 2.23959325809129007e-7 + 6.96979094052910227e-6;
  p = p * a + 1.06489754370154706e-4;
  p = p * a + 0.00103901177398552336;
  p = p * a + 0.00711874280622597044;
  p = p * a + 0.035650417698087855;
  p = p * a + 0.131993808560029998;
  p = p * a + 0.357235534750705195;
  p = p * a + 0.679464004194406591;
  p = p * a + 0.827829524263254095;
  p = p * a + 0.5;
  F q = a * 5.61382778440326829e-7 + 1.74706750398278544e-5;
  q = q * a + 2.67491612037947064e-4;
  q = q * a + 0.00262188696559432584;
  q = q * a + 0.0181098494524541819;
  q = q * a + 0.0919318202404987983;
  q = q * a + 0.348175200682428393;
  q = q * a + 0.979785053066213685;
  q = q * a + 2.00096055590424257;
  q = q * a + 2.81657257352924963;
  q = q * a + 2.45354360932937376;
  q = q * a + 1.0;
  return (x > 0.0 ? x : F{}) - a * p * exp_of_half_square_64(a) / q;
}

// The form with tanh, x/2 (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3), likewise:
//
//   gelu_tanh(x) = max(x, 0) - a / (1 + e^(2u(a)))
//
// Error: at most 3 ulp for x > 0. For x < 0 that of e^(-2u) joins: some 2 ulp for each unit of 2u,
// so 8 ulp down to x = -2 and 20 down to x = -3, where the result is 0.004.
template <typename F>
ZL_ELEMENT F gelu_tanh_32(F x) {
  constexpr float kMost = 10.031F;  // where exp is 0
  const F size = from_bits<F>(to_bits(x) & 0x7fffffffU);
  const F a = kMost < size ? F{} + kMost : size;
  const F e = exp_of_negative_32(a * (a * a * -0.0713548162726F - 1.5957691216F), F{});
  return (x > 0.0F ? x : F{}) - a * e / (e + 1.0F);
}

template <typename F>
ZL_ELEMENT F gelu_tanh_64(F x) {
  constexpr double kMost = 21.1527;
  const F size = from_bits<F>(to_bits(x) & 0x7fffffffffffffffU);
  const F a = kMost < size ? F{} + kMost : size;
  const F e = exp_of_negative_64(a * (a * a * -0.0713548162726002488 - 1.59576912160573071), F{});
  return (x > 0.0 ? x : F{}) - a * e / (e + 1.0);
}

}  // namespace zerolane::kernels
