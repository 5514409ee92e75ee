// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/block.h"
#include "kernels/order_element.h"
#include "kernels/softmax_element.h"

namespace zerolane::kernels {

// One row of softmax_top_k() for a block of GPU threads. The k largest keys are found digit by
// digit from the top (radix select), gathered in any order and sorted. Keys differ, so the result
// does not depend on the order of the threads.
template <typename Element>
struct SoftmaxTopKRow {
  const Element* logits;
  Element* probability;
  int64_t* index;
  int64_t classes;
  int64_t k;
  float inverse_temperature;

  static_assert(kBlockThreads == 256, "a thread for each value of a digit");

  struct Shared {
    float most[kBlockThreads];
    double sum[kBlockThreads];
    unsigned histogram[256];
    uint64_t prefix;  // the digits found so far of the least key that is taken
    uint64_t mask;    // which digits they are
    unsigned wanted;  // how many keys with that prefix are still to be taken
    unsigned count;
    bool found;
  };

  template <typename Block>
  ZL_HOST_DEVICE void operator()(const Block& block, int64_t row, Shared* shared) const {
    const Element* x = logits + row * classes;
    // The keys are kept where the indices go: both are 64 bits.
    auto* keys = reinterpret_cast<uint64_t*>(index + row * k);
    sum_up(block, x, shared);
    select(block, x, shared);
    block.each([&](int thread) {
      for (int64_t i = thread; i < classes; i += kBlockThreads) {
        const uint64_t key = key_at(x, i);
        if ((key & shared->mask) >= shared->prefix) keys[block.add(&shared->count, 1U)] = key;
      }
    });
    sort(block, keys);
    block.each([&](int thread) {
      for (int64_t j = thread; j < k; j += kBlockThreads) {
        const uint32_t place = place_of(keys[j]);
        const float w =
            softmax_weight(static_cast<float>(x[place]), shared->most[0], inverse_temperature);
        const float share = static_cast<float>(static_cast<double>(w) / shared->sum[0]);
        probability[row * k + j] = static_cast<Element>(share);
        index[row * k + j] = place;
      }
    });
  }

 private:
  static ZL_HOST_DEVICE uint64_t key_at(const Element* x, int64_t i) {
    return rank_key(static_cast<float>(x[i]), static_cast<uint32_t>(i));
  }

  template <typename Block>
  ZL_HOST_DEVICE void sum_up(const Block& block, const Element* x, Shared* shared) const {
    block.each([&](int thread) {
      float most = -__builtin_inff();
      for (int64_t i = thread; i < classes; i += kBlockThreads) {
        const auto value = static_cast<float>(x[i]);
        most = value > most ? value : most;  // NaN loses
      }
      shared->most[thread] = most;
    });
    join_all(block, shared->most, [](float a, float b) { return a > b ? a : b; });
    block.each([&](int thread) {
      // Doubles are dear on most GPUs: they take sums of 64 floats.
      constexpr int64_t kRun = 64 * kBlockThreads;
      double sum = 0;
      for (int64_t from = thread; from < classes; from += kRun) {
        const int64_t end = from + kRun < classes ? from + kRun : classes;
        float part = 0;
        for (int64_t i = from; i < end; i += kBlockThreads) {
          part += softmax_weight(static_cast<float>(x[i]), shared->most[0], inverse_temperature);
        }
        sum += static_cast<double>(part);
      }
      shared->sum[thread] = sum;
    });
    join_all(block, shared->sum, [](double a, double b) { return a + b; });
  }

  // Leaves mask and prefix such that k keys have (key & mask) >= prefix.
  template <typename Block>
  ZL_HOST_DEVICE void select(const Block& block, const Element* x, Shared* shared) const {
    block.each([&](int thread) {
      if (thread != 0) return;
      shared->prefix = shared->mask = 0;
      shared->wanted = static_cast<unsigned>(k);
      shared->count = 0;
      shared->found = k == classes;
    });
    for (int shift = 56; shift >= 0; shift -= 8) {
      // Read by all before any thread writes it again: two phases lie between.
      if (shared->found) break;
      block.each([&](int thread) { shared->histogram[thread] = 0; });
      block.each([&](int thread) {
        for (int64_t i = thread; i < classes; i += kBlockThreads) {
          const uint64_t key = key_at(x, i);
          if ((key & shared->mask) != shared->prefix) continue;
          block.add(&shared->histogram[(key >> shift) & 255U], 1U);
        }
      });
      block.each([&](int thread) {
        if (thread != 0) return;
        unsigned digit = 255;
        while (shared->histogram[digit] < shared->wanted) {
          shared->wanted -= shared->histogram[digit--];
        }
        shared->prefix |= static_cast<uint64_t>(digit) << shift;
        shared->mask |= uint64_t{255} << shift;
        shared->found = shared->histogram[digit] == shared->wanted;
      });
    }
  }

  // Largest first: the bitonic network in which every comparison looks the same way, so that keys
  // which are not there, taken for least, would never move.
  template <typename Block>
  ZL_HOST_DEVICE void sort(const Block& block, uint64_t* keys) const {
    for (int64_t size = 2; size < 2 * k; size *= 2) {
      for (int64_t step = size; step > 1; step /= 2) {
        const int64_t flip = step == size ? size - 1 : step / 2;
        block.each([&](int thread) {
          for (int64_t i = thread; i < k; i += kBlockThreads) {
            const int64_t other = i ^ flip;
            if (other <= i || other >= k || keys[i] >= keys[other]) continue;
            const uint64_t kept = keys[i];
            keys[i] = keys[other];
            keys[other] = kept;
          }
        });
      }
    }
  }
};

}  // namespace zerolane::kernels
