// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "zerolane/cuda.h"

namespace zerolane::kernels {

// Some neighbouring elements, moved by one instruction.
template <typename Element, int kCount>
struct alignas(sizeof(Element) * kCount) Pack {
  Element at[kCount];
};

// A body for for_each_on: y[i] = body(x[i], i) for the elements of one pack, then, past the packs,
// for one element.
template <int kCount, typename From, typename To, typename Body>
struct MapPacks {
  const From* x;
  To* y;
  int64_t packs;
  Body body;

  ZL_HOST_DEVICE void operator()(int64_t i) const {
    if (i < packs) {
      const auto from = reinterpret_cast<const Pack<From, kCount>*>(x)[i];
      Pack<To, kCount> to;
      for (int j = 0; j < kCount; ++j) to.at[j] = body(from.at[j], i * kCount + j);
      reinterpret_cast<Pack<To, kCount>*>(y)[i] = to;
    } else {
      const int64_t odd = packs * kCount + (i - packs);
      y[odd] = body(x[odd], odd);
    }
  }
};

// y[i] = body(x[i], i) for i < n on the stream, 16 bytes of the wider type at a time where the
// addresses allow it. Returns the launch's status.
template <typename From, typename To, typename Body>
int map_on(void* stream, const From* x, To* y, int64_t n, const Body& body) {
  constexpr int kWider = sizeof(From) > sizeof(To) ? sizeof(From) : sizeof(To);
  constexpr int kCount = 16 / kWider;
  const bool aligned = reinterpret_cast<uintptr_t>(x) % (sizeof(From) * kCount) == 0 &&
                       reinterpret_cast<uintptr_t>(y) % (sizeof(To) * kCount) == 0;
  const int64_t packs = aligned ? n / kCount : 0;
  return for_each_on(stream, packs + (n - packs * kCount),
                     MapPacks<kCount, From, To, Body>{x, y, packs, body});
}

}  // namespace zerolane::kernels
