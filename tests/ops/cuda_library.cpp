// SPDX-License-Identifier: Apache-2.0
// Ops with a body for a GPU, for the stand-in of CUDA: its memory is the host's and its streams are
// threads, so the body enqueues plain C++ there, as a launch would.
#include <dlfcn.h>

#include <cstdlib>
#include <functional>

#include "cuda/table.h"
#include "zerolane/op.h"

namespace zl = zerolane::op;

namespace {

int enqueue(const zl::Call& call, std::function<void()> work) {
  static const zerolane::cuda::Table* table = [] {
    void* library = ::dlopen(std::getenv("ZEROLANE_CUDA_LIBRARY"), RTLD_NOW | RTLD_NOLOAD);
    using Get = const zerolane::cuda::Table* (*)();
    return reinterpret_cast<Get>(::dlsym(library, "zerolane_cuda_table"))();
  }();
  auto* held = new std::function<void()>(std::move(work));
  return table->launch_host(
      0, static_cast<zerolane::cuda::NativeStream*>(call.stream()),
      [](void* argument) {
        auto* body = static_cast<std::function<void()>*>(argument);
        (*body)();
        delete body;
      },
      held);
}

// y = table[x mod size] through a constant and scratch memory.
struct GpuLookup {
  std::vector<float> table{1, 2, 4, 8};
  static void define(zl::Definition<GpuLookup>& op) {
    op.name("gpu", "Lookup");
    const auto T = op.type<float>("T");
    const auto I = op.type<int32_t, int64_t>("I");
    op.attribute("table", &GpuLookup::table).counts(1, 100);
    op.input("index", I);
    op.output("y", T);
    op.cuda(I);
  }
  std::vector<ZlConstant> constants() const {
    return {{table.data(), table.size() * sizeof(float)}};
  }
  size_t scratch(const zl::Call& call) const {
    return call.on_gpu() ? static_cast<size_t>(call.input_dtype(0).bits / 8) * 1000 : 0;
  }
  void shape(zl::Shapes& s) const { s.output(0, s.dims(0)); }
  template <typename I>
  int cuda(const zl::Call& call) const {
    const I* index = call.input<I>(0).data();
    const int64_t count = call.input<I>(0).size();
    float* y = call.output<float>(0).data();
    const auto* values = call.constant<float>(0);
    auto* scratch = call.scratch<I>();
    const auto size = static_cast<I>(table.size());
    return enqueue(call, [=] {
      for (int64_t i = 0; i < count; ++i) scratch[i % 1000] = index[i] % size;
      for (int64_t i = 0; i < count; ++i) y[i] = values[index[i] % size];
    });
  }
};

// Data decides the rows of two outputs.
struct GpuAbove {
  static void define(zl::Definition<GpuAbove>& op) {
    op.name("gpu", "Above");
    const auto T = op.type<float>("T");
    const auto I = op.type<int64_t>("I");
    op.input("x", T);
    op.output("values", T);
    op.output("places", I);
    op.cuda();
  }
  void shape(zl::Shapes& s) const {
    s.require_rank(0, 1);
    const zl::Dim count = s.counted(s.dim(0, 0), s.dim(0, 0));
    s.output(0, {count});
    s.output(1, {count, s.number(2)});
  }
  int cuda(const zl::Call& call) const {
    const float* x = call.input<float>(0).data();
    const int64_t size = call.input<float>(0).size();
    float* values = call.output<float>(0).data();
    int64_t* places = call.output<int64_t>(1).data();
    int64_t* count = call.count(0);
    return enqueue(call, [=] {
      int64_t at = 0;
      for (int64_t i = 0; i < size; ++i) {
        if (!(x[i] > 0)) continue;
        places[2 * at] = places[2 * at + 1] = i;
        values[at++] = x[i];
      }
      *count = at;
    });
  }
};

struct GpuBroken {
  static void define(zl::Definition<GpuBroken>& op) {
    op.name("gpu", "Broken");
    const auto T = op.type<float>("T");
    op.input("x", T);
    op.output("y", T);
    op.cuda();
  }
  void shape(zl::Shapes& s) const { s.output(0, s.dims(0)); }
  int cuda(const zl::Call&) const { return 98; }
};

}  // namespace

ZEROLANE_OPS("gpu_ops", "1.0", GpuLookup, GpuAbove, GpuBroken)
