// SPDX-License-Identifier: Apache-2.0
// Ops with CUDA bodies that are plain C++, for tests of the TensorRT adapter: they run in the order
// of a stream of the stand-in for CUDA, whose device memory is the host's. On a real GPU their
// launch fails. Built by build.py beside this file.
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "cuda/table.h"
#include "zerolane/op.h"

namespace zl = zerolane::op;

namespace {

// Enqueues work on a stream; returns the launch's status. The work is kept, as a graph may run it
// again.
template <typename Work>
int launch(void* stream, const Work& work) {
  namespace cuda = zerolane::cuda;
  static const cuda::Table* table = []() -> const cuda::Table* {
    const char* path = std::getenv("ZEROLANE_CUDA_LIBRARY");
    void* library = path != nullptr ? ::dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
    void* get = library != nullptr ? ::dlsym(library, cuda::kTableSymbol) : nullptr;
    return get != nullptr ? reinterpret_cast<cuda::TableFunction>(get)() : nullptr;
  }();
  if (table == nullptr) return 999;
  return table->launch_host(
      0, static_cast<cuda::NativeStream*>(stream),
      [](void* kept) { (*static_cast<Work*>(kept))(); }, new Work(work));
}

template <typename T>
float to_float(T value) {
  return static_cast<float>(value);
}

// y = factor * x + offset, with every kind of attribute, a constant and scratch memory.
struct Scale {
  float factor = 2;
  int64_t big = 0;
  std::string mode = "plain";
  std::vector<float> offsets;
  std::vector<int64_t> steps{1, 2};
  std::vector<float> sum;

  static void define(zl::Definition<Scale>& op) {
    op.name("plug", "Scale").doc("y = factor * x + sums of the lists");
    const auto T =
        op.type<float, zerolane::Half, zerolane::BFloat16, int32_t, int64_t, int8_t>("T");
    op.attribute("factor", &Scale::factor).required().bounds(-1000, 1000);
    op.attribute("big", &Scale::big);
    op.attribute("mode", &Scale::mode).choices({"plain", "negate", ""});
    op.attribute("offsets", &Scale::offsets);
    op.attribute("steps", &Scale::steps);
    op.input("x", T);
    op.output("y", T);
    op.cpu(T);
    op.cuda(T);
  }
  void init() {
    float all = static_cast<float>(big >> 40);
    for (float offset : offsets) all += offset;
    for (int64_t step : steps) all += static_cast<float>(step);
    sum = {all};
  }
  std::vector<ZlConstant> constants() const { return {{sum.data(), sizeof(float)}}; }
  size_t scratch(const zl::Call& call) const { return call.on_gpu() ? sizeof(float) : 0; }
  void shape(zl::Shapes& s) const { s.output(0, s.dims(0)); }
  template <typename T>
  void run(const T* x, T* y, int64_t count, float more) const {
    for (int64_t i = 0; i < count; ++i) {
      const float value = to_float(x[i]) * factor + more;
      y[i] = static_cast<T>(mode == "negate" ? -value : value);
    }
  }
  template <typename T>
  void cpu(const zl::Call& call) const {
    const auto x = call.input<T>(0);
    run<T>(x.data(), call.output<T>(0).data(), x.size(), call.constant<float>(0)[0]);
  }
  template <typename T>
  int cuda(const zl::Call& call) const {
    const auto x = call.input<T>(0);
    T* y = call.output<T>(0).data();
    const float* more = call.constant<float>(0);
    auto* scratch = call.scratch<float>();
    if (reinterpret_cast<uintptr_t>(scratch) % 256 != 0) return 998;
    return launch(call.stream(), [this, in = x.data(), y, count = x.size(), more, scratch] {
      *scratch = *more;
      run<T>(in, y, count, *scratch);
    });
  }
};

// The same name in another domain computes something else.
struct OtherScale {
  float factor = 2;
  static void define(zl::Definition<OtherScale>& op) {
    op.name("other", "Scale").doc("y = x - factor");
    op.attribute("factor", &OtherScale::factor);
    const auto T = op.type<float>("T");
    op.input("x", T);
    op.output("y", T);
    op.cpu();
    op.cuda();
  }
  void shape(zl::Shapes& s) const { s.output(0, s.dims(0)); }
  void cpu(const zl::Call& call) const {
    const auto x = call.input<float>(0);
    for (int64_t i = 0; i < x.size(); ++i) call.output<float>(0)[i] = x[i] - factor;
  }
  int cuda(const zl::Call& call) const {
    const auto x = call.input<float>(0);
    float* y = call.output<float>(0).data();
    return launch(call.stream(), [this, in = x.data(), y, count = x.size()] {
      for (int64_t i = 0; i < count; ++i) y[i] = in[i] - factor;
    });
  }
};

// The name of an operator of ONNX, in two versions.
template <int kVersion>
struct Relu {
  static void define(zl::Definition<Relu>& op) {
    op.name("plug", "Relu", kVersion).doc("y = x + 100 * version");
    const auto T = op.template type<float>("T");
    op.input("x", T);
    op.output("y", T);
    op.cpu();
    op.cuda();
  }
  void shape(zl::Shapes& s) const { s.output(0, s.dims(0)); }
  void cpu(const zl::Call& call) const {
    const auto x = call.template input<float>(0);
    for (int64_t i = 0; i < x.size(); ++i)
      call.template output<float>(0)[i] = x[i] + 100 * kVersion;
  }
  int cuda(const zl::Call& call) const {
    const auto x = call.template input<float>(0);
    float* y = call.template output<float>(0).data();
    return launch(call.stream(), [in = x.data(), y, count = x.size()] {
      for (int64_t i = 0; i < count; ++i) y[i] = in[i] + 100 * kVersion;
    });
  }
};

// Inputs in a row, an extent that is a sum.
struct Join {
  static void define(zl::Definition<Join>& op) {
    op.name("plug", "Join").doc("all inputs, one after another, along axis 0");
    const auto T = op.type<float, int32_t>("T");
    op.variadic_input("x", T);
    op.output("y", T);
    op.cpu(T);
    op.cuda(T);
  }
  void shape(zl::Shapes& s) const {
    zl::Dims dims = s.dims(0);
    for (size_t i = 1; i < s.input_count(); ++i) {
      s.require_rank(i, dims.rank());
      dims[0] = dims[0] + s.dim(i, 0);
      for (int axis = 1; axis < dims.rank(); ++axis) {
        dims[axis] = s.require_same(dims[axis], s.dim(i, axis), "the columns of the inputs");
      }
    }
    s.output(0, dims);
  }
  template <typename T>
  void cpu(const zl::Call& call) const {
    T* y = call.output<T>(0).data();
    for (size_t i = 0; i < call.input_count(); ++i) {
      const auto x = call.input<T>(i);
      y = std::copy(x.begin(), x.end(), y);
    }
  }
  template <typename T>
  int cuda(const zl::Call& call) const {
    T* y = call.output<T>(0).data();
    int status = 0;
    for (size_t i = 0; status == 0 && i < call.input_count(); ++i) {
      const auto x = call.input<T>(i);
      status = launch(call.stream(),
                      [in = x.data(), y, count = x.size()] { std::copy_n(in, count, y); });
      y += x.size();
    }
    return status;
  }
};

// An optional input in the middle, an optional output, and one that nobody may want.
struct Affine {
  static void define(zl::Definition<Affine>& op) {
    op.name("plug", "Affine").doc("y = x * w + b; rows = how many; total = sum of y");
    const auto T = op.type<float>("T");
    const auto I = op.type<int64_t>("I");
    op.input("x", T);
    op.optional_input("b", T);
    op.input("w", T);
    op.output("y", T);
    op.output("rows", I);
    op.optional_output("total", T);
    op.cpu();
    op.cuda();
  }
  void shape(zl::Shapes& s) const {
    s.require_rank(0, 2);
    const zl::Dim columns = s.require_same(s.dim(0, 1), s.dim(2, 0), "the columns of x and w");
    if (s.has(1)) s.require_same(columns, s.dim(1, 0), "the columns of x and b");
    s.output(0, {s.dim(0, 0), columns});
    s.output(1, {});
    s.output(2, {});
  }
  struct Run {
    const float *x, *b, *w;
    float* y;
    int64_t* rows;
    float* total;
    int64_t count, columns;
    void operator()() const {
      float sum = 0;
      for (int64_t i = 0; i < count; ++i) {
        y[i] = x[i] * w[i % columns] + (b != nullptr ? b[i % columns] : 0);
        sum += y[i];
      }
      *rows = columns > 0 ? count / columns : 0;
      if (total != nullptr) *total = sum;
    }
  };
  Run make(const zl::Call& call) const {
    const auto x = call.input<float>(0);
    return {x.data(),
            call.has_input(1) ? call.input<float>(1).data() : nullptr,
            call.input<float>(2).data(),
            call.output<float>(0).data(),
            call.output<int64_t>(1).data(),
            call.wants_output(2) ? call.output<float>(2).data() : nullptr,
            x.size(),
            x.dim(1)};
  }
  void cpu(const zl::Call& call) const { make(call)(); }
  int cuda(const zl::Call& call) const { return launch(call.stream(), make(call)); }
};

// Data decides the size of two outputs.
struct Above {
  float threshold = 0;
  static void define(zl::Definition<Above>& op) {
    op.name("plug", "Above").doc("the values above a threshold, their places, and all x doubled");
    const auto T = op.type<float>("T");
    const auto I = op.type<int64_t>("I");
    op.attribute("threshold", &Above::threshold);
    op.input("x", T);
    op.output("values", T);
    op.output("places", I);
    op.output("doubled", T);
    op.cpu();
    op.cuda();
  }
  void shape(zl::Shapes& s) const {
    s.require_rank(0, 1);
    const zl::Dim count = s.counted(s.dim(0, 0) / 2, s.dim(0, 0));
    s.output(0, {count});
    s.output(1, {count, s.number(1)});
    s.output(2, {s.dim(0, 0)});
  }
  void cpu(const zl::Call& call) const {
    const auto x = call.input<float>(0);
    const int64_t count = std::count_if(x.begin(), x.end(), [&](float v) { return v > threshold; });
    const auto values = call.allocate<float>(0, {count});
    const auto places = call.allocate<int64_t>(1, {count, 1});
    run(x.data(), x.size(), values.data(), places.data(), call.output<float>(2).data());
  }
  int64_t run(const float* x, int64_t size, float* values, int64_t* places, float* doubled) const {
    int64_t count = 0;
    for (int64_t i = 0; i < size; ++i) {
      doubled[i] = 2 * x[i];
      if (!(x[i] > threshold)) continue;
      values[count] = x[i];
      places[count++] = i;
    }
    return count;
  }
  int cuda(const zl::Call& call) const {
    const auto x = call.input<float>(0);
    float* values = call.output<float>(0).data();
    int64_t* places = call.output<int64_t>(1).data();
    float* doubled = call.output<float>(2).data();
    int64_t* count = call.count(0);
    return launch(call.stream(), [this, in = x.data(), size = x.size(), values, places, doubled,
                                  count] { *count = run(in, size, values, places, doubled); });
  }
};

// All arithmetic on extents.
struct Extents {
  static void define(zl::Definition<Extents>& op) {
    op.name("plug", "Extents").doc("ones of computed shape");
    const auto T = op.type<float>("T");
    op.input("x", T);
    op.output("y", T);
    op.cpu();
    op.cuda();
  }
  void shape(zl::Shapes& s) const {
    s.require_rank(0, 2);
    const zl::Dim n = s.dim(0, 0), m = s.dim(0, 1);
    s.output(0, {n / 2, ceil_divide(n, 2), max(n, m), min(n, 3), (n + 1) * m - m});
  }
  void cpu(const zl::Call& call) const {
    const auto y = call.output<float>(0);
    std::fill(y.begin(), y.end(), 1.0f);
  }
  int cuda(const zl::Call& call) const {
    const auto y = call.output<float>(0);
    return launch(call.stream(),
                  [to = y.data(), count = y.size()] { std::fill_n(to, count, 1.0f); });
  }
};

// Bytes in, bytes out; and in another type of two.
struct Invert {
  static void define(zl::Definition<Invert>& op) {
    op.name("plug", "Invert").doc("y = 255 - x, f = y / 255");
    const auto U = op.type<uint8_t>("U");
    const auto T = op.type<float>("T");
    op.input("x", U);
    op.output("y", U);
    op.output("f", T);
    op.cpu();
    op.cuda();
  }
  void shape(zl::Shapes& s) const {
    s.output(0, s.dims(0));
    s.output(1, s.dims(0));
  }
  static void run(const uint8_t* x, uint8_t* y, float* f, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      y[i] = static_cast<uint8_t>(255 - x[i]);
      f[i] = static_cast<float>(y[i]) / 255;
    }
  }
  void cpu(const zl::Call& call) const {
    const auto x = call.input<uint8_t>(0);
    run(x.data(), call.output<uint8_t>(0).data(), call.output<float>(1).data(), x.size());
  }
  int cuda(const zl::Call& call) const {
    const auto x = call.input<uint8_t>(0);
    return launch(call.stream(),
                  [in = x.data(), y = call.output<uint8_t>(0).data(),
                   f = call.output<float>(1).data(), count = x.size()] { run(in, y, f, count); });
  }
};

struct CpuOnly {
  static void define(zl::Definition<CpuOnly>& op) {
    op.name("plug", "CpuOnly").doc("y = x");
    const auto T = op.type<float>("T");
    op.input("x", T);
    op.output("y", T);
    op.cpu();
  }
  void shape(zl::Shapes& s) const { s.output(0, s.dims(0)); }
  void cpu(const zl::Call& call) const {
    const auto x = call.input<float>(0);
    std::copy(x.begin(), x.end(), call.output<float>(0).begin());
  }
};

// Everything that can go wrong, by number.
struct Faulty {
  int64_t how = 0;
  static void define(zl::Definition<Faulty>& op) {
    op.name("plug", "Faulty").doc("fails as it is told");
    const auto T = op.type<float>("T");
    op.attribute("how", &Faulty::how);
    op.input("x", T);
    op.output("y", T);
    op.cpu();
    op.cuda();
  }
  void init() {
    if (how == 1) throw std::runtime_error("init failed");
  }
  size_t scratch(const zl::Call& call) const {
    if (how == 2) throw zl::Error("no scratch today", kZlUnsupported);
    const int64_t rows = call.input<float>(0).dim(0);
    return how == 3 && rows == 5 ? 5000 : 0;  // not the most with the most rows
  }
  void shape(zl::Shapes& s) const {
    if (how == 4) throw zl::Error("this shape is not to be had", kZlShapeMismatch);
    if (how == 5) throw std::runtime_error("something else");
    if (how == 6) return;
    if (how == 7) return s.output(0, {s.dim(0, 0) / 0});
    if (how == 8) return s.output(0, {s.number(INT64_MAX) * 4});
    if (how == 9) return s.output(0, {s.dim(0, 5)});
    if (how == 10) {
      zl::Dims dims;
      for (int i = 0; i < 9; ++i) dims.push_back(s.dim(0, 0));
      return s.output(0, dims);
    }
    if (how == 11) return s.output(0, {s.counted(s.dim(0, 0), s.dim(0, 0)) + 1, s.dim(0, 1)});
    if (how == 16) return s.output(0, {s.dim(0, 0), s.counted(s.dim(0, 1), s.dim(0, 1))});
    // Hangs on what is known: other shapes on numbers than on expressions.
    if (how == 12)
      return s.output(0, {s.dim(0, 0).known() ? s.dim(0, 0) + 1 : s.dim(0, 0), s.dim(0, 1)});
    s.output(0, s.dims(0));
  }
  void cpu(const zl::Call&) const {}
  int cuda(const zl::Call& call) const {
    if (how == 13) return 7;
    if (how == 14) throw std::runtime_error("the body failed");
    if (how == 15) throw zl::Error("not this input");
    const auto x = call.input<float>(0);
    const auto y = call.output<float>(0);
    return launch(call.stream(), [from = x.data(), to = y.data(), count = x.size()] {
      std::copy_n(from, count, to);
    });
  }
};

}  // namespace

ZEROLANE_OPS("plug_ops", "3.4", Scale, OtherScale, Relu<1>, Relu<2>, Join, Affine, Above, Extents,
             Invert, CpuOnly, Faulty)
