// SPDX-License-Identifier: Apache-2.0
// Ops with one fault each, which `zerolane op test` must find, and some without; built by build.py.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>
#include <vector>

#include "zerolane/op.h"

namespace zl = zerolane::op;

namespace {

// y = 2 * x with float elements; what a fault adds is in the derived class's run().
template <typename Derived>
struct Doubles {
  static void describe(zl::Definition<Derived>& op, const char* name) {
    op.name("faulty", name).doc("y = 2 * x");
    const auto T = op.template type<float>("T");
    op.input("x", T);
    op.output("y", T);
    op.cpu();
  }
  void shape(zl::Shapes& s) const { s.output(0, s.dims(0)); }
  void cpu(const zl::Call& call) const {
    const auto x = call.input<float>(0);
    const auto y = call.output<float>(0);
    static_cast<const Derived*>(this)->run(x.data(), y.data(), x.size());
  }
  static void plain(const float* x, float* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i] = 2 * x[i];
  }
};

#define FAULT(Name)                                                                        \
  struct Name : Doubles<Name> {                                                            \
    static void define(zl::Definition<Name>& op) { describe(op, #Name); }                  \
    void run([[maybe_unused]] const float* x, [[maybe_unused]] float* y, int64_t n) const; \
  };                                                                                       \
  void Name::run([[maybe_unused]] const float* x, [[maybe_unused]] float* y, int64_t n) const

FAULT(Sound) { plain(x, y, n); }

FAULT(WritesBehind) {
  plain(x, y, n);
  if (n % 8 != 0) y[n] = 0;
}
FAULT(WritesInFront) {
  plain(x, y, n);
  if (n > 1) y[-1] = 0;
}
FAULT(ReadsBehind) {
  plain(x, y, n);
  const volatile float behind = x[n];
  (void)behind;
}
FAULT(ReadsInFront) {
  plain(x, y, n);
  const volatile float before = x[-1];
  (void)before;
}
FAULT(WritesInput) {
  plain(x, y, n);
  if (n > 2) const_cast<float*>(x)[2] = 7;
}
FAULT(RewritesInput) {  // the same bits: only a page that cannot be written to tells
  plain(x, y, n);
  if (n > 0) const_cast<volatile float*>(x)[0] = x[0];
}
FAULT(SkipsTail) { plain(x, y, n - n % 8); }
FAULT(Accumulates) {
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}
FAULT(Remembers) {
  static float last = 0;
  plain(x, y, n);
  if (n > 0) {
    y[0] += 1e-3F * last;
    last = x[n - 1];
  }
}
FAULT(Counts) {
  static int calls = 0;
  plain(x, y, n);
  if (n > 0) y[0] += static_cast<float>(++calls % 3);
}
FAULT(Races) {
  static std::vector<float> shared(1 << 20);
  std::copy_n(x, n, shared.begin());
  // A body that takes long enough for another thread to come in, on a machine with nothing else to
  // do.
  std::this_thread::sleep_for(std::chrono::microseconds(50));
  for (int64_t i = 0; i < n; ++i) y[i] = 2 * shared[static_cast<size_t>(i)];
}
FAULT(WrongAtNan) {
  for (int64_t i = 0; i < n; ++i) y[i] = std::max(-1e30F, 2 * x[i]);
}
FAULT(WrongValue) {
  plain(x, y, n);
  if (n > 4) y[4] += 1;
}
FAULT(Crashes) {
  plain(x, y, n);
  if (n == 0) *static_cast<volatile float*>(nullptr) = 0;
}
FAULT(Throws) {
  plain(x, y, n);
  if (n == 67) throw zl::Error("67 elements were given, expected any other number");
}
FAULT(Hangs) {
  plain(x, y, n);
  while (n == 1031) std::this_thread::sleep_for(std::chrono::milliseconds(50));
}

// The data decides the extent; takes rank 1.
template <bool kTooFar>
struct Positive {
  static void define(zl::Definition<Positive>& op) {
    op.name("faulty", kTooFar ? "PositiveTooFar" : "Positive").doc("the positive elements of x");
    const auto T = op.template type<float>("T");
    op.input("x", T);
    op.output("y", T);
    op.cpu();
  }
  void shape(zl::Shapes& s) const {
    s.require_rank(0, 1);
    s.output(0, {s.counted(s.dim(0, 0) / 2, s.dim(0, 0))});
  }
  void cpu(const zl::Call& call) const {
    const auto x = call.input<float>(0);
    const auto y =
        call.allocate<float>(0, {std::count_if(x.begin(), x.end(), [](float v) { return v > 0; })});
    float* end = std::copy_if(x.begin(), x.end(), y.begin(), [](float v) { return v > 0; });
    if (kTooFar && y.size() < x.size()) *end = 1;
  }
};

// Inputs that are not free: rank 5, and every element is an index into the first axis.
struct Picks {
  static void define(zl::Definition<Picks>& op) {
    op.name("faulty", "Picks").doc("y = x's first axis by index");
    const auto I = op.type<int64_t, int32_t>("I");
    op.input("index", I);
    op.output("y", I);
    op.cpu(I);
  }
  void shape(zl::Shapes& s) const {
    s.require_rank(0, 5);
    s.output(0, s.dims(0));
  }
  template <typename T>
  void cpu(const zl::Call& call) const {
    const auto x = call.input<T>(0);
    const auto y = call.output<T>(0);
    for (int64_t i = 0; i < x.size(); ++i) {
      if (x[i] < 0 || x[i] >= x.size()) throw zl::Error("an index is outside");
      y[i] = x[x[i]];
    }
  }
};

// Everything that a table can say, without a fault.
struct Rich {
  float factor = 1;
  int64_t times = 1;
  std::string mode = "plain";
  std::vector<float> offsets;

  static void define(zl::Definition<Rich>& op) {
    op.name("faulty", "Rich").doc("y = factor * times * x + sum of offsets (+ b); n = elements");
    const auto T = op.type<float, double, zerolane::Half>("T");
    const auto N = op.type<int64_t>("N");
    op.attribute("factor", &Rich::factor).bounds(-8, 8).required();
    op.attribute("times", &Rich::times).bounds(0, 5);
    op.attribute("mode", &Rich::mode).choices({"plain", "negative"});
    op.attribute("offsets", &Rich::offsets).counts(0, 3).bounds(-4, 4);
    op.input("x", T);
    op.optional_input("b", T, "one for each element of the last axis");
    op.output("y", T);
    op.output("n", N);
    op.cpu(T);
  }
  void shape(zl::Shapes& s) const {
    s.require(s.rank(0) > 0, "x is a scalar");
    if (s.has(1)) {
      s.require_rank(1, 1);
      s.require_same(s.dim(0, -1), s.dim(1, 0), "the extents of x and b");
    }
    s.output(0, s.dims(0));
    s.output(1, {});
  }
  template <typename T>
  void cpu(const zl::Call& call) const {
    const auto x = call.input<T>(0);
    const auto y = call.output<T>(0);
    double more = 0;
    for (float offset : offsets) more += offset;
    for (int64_t i = 0; i < x.size(); ++i) {
      double v = factor * static_cast<double>(times) * static_cast<double>(x[i]) + more;
      if (call.has_input(1)) v += static_cast<double>(call.input<T>(1)[i % x.dim(-1)]);
      if (mode == "negative") v = -v;
      if constexpr (std::is_same_v<T, double>) {
        y[i] = v;
      } else {
        y[i] = static_cast<T>(static_cast<float>(v));
      }
    }
    call.output<int64_t>(1)[0] = x.size();
  }
};

}  // namespace

ZEROLANE_OPS("faulty", "1", Sound, WritesBehind, WritesInFront, ReadsBehind, ReadsInFront,
             WritesInput, RewritesInput, SkipsTail, Accumulates, Remembers, Counts, Races,
             WrongAtNan, WrongValue, Crashes, Throws, Hangs, Positive<false>, Positive<true>, Picks,
             Rich)
