// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/isa.h"

// Calls body(name, function) for each compilation of a vector source's function that this CPU runs.
// The test declares them with ZL_DECLARE_ISA, in namespace zerolane::kernels.
#define ZL_FOR_EACH_ISA(function, body)                                    \
  do {                                                                     \
    const auto& zl_body = (body);                                          \
    zl_body("baseline", &::zerolane::kernels::baseline::function);         \
    if (::zerolane::kernels::isa() != ::zerolane::kernels::Isa::kBaseline) \
      zl_body("avx2", &::zerolane::kernels::avx2::function);               \
    if (::zerolane::kernels::isa() >= ::zerolane::kernels::Isa::kAvx512)   \
      zl_body("avx512", &::zerolane::kernels::avx512::function);           \
  } while (false)
