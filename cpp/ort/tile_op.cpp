// SPDX-License-Identifier: Apache-2.0
#include "ort/tile_op.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <climits>
#include <exception>
#include <optional>
#include <utility>

#include "core/buffer.h"
#include "core/error.h"
#include "core/shape.h"
#include "ort/op_shapes.h"

namespace zerolane::ort {
namespace {

constexpr ONNXTensorElementDataType kUint8 = 2;
constexpr int64_t kBlock = 32;  // pixels, and filters, that tiles compute at once
// Products for which another thread is woken: some 10 us of one.
constexpr int64_t kTaskProducts = int64_t{16} << 20;

// Runs the body of a callback; an exception becomes a status, none leaves.
template <typename Body>
OrtStatus* guarded(const Runtime& rt, Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const std::exception& error) {
    return rt.api.CreateStatus(kOrtInvalidArgument, error.what());
  }
}

int64_t divide_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit; }

// One image of one run, cut into parts for threads.
struct Work {
  const kernels::TileConvPlan& plan;
  const kernels::TileConvSizes& sizes;
  const uint8_t* image;
  uint8_t* out;
  void* scratch;
  int64_t tasks;
  bool by_filters;  // parts are ranges of filters, else of pixels

  int64_t blocks() const { return divide_up(plan.conv.filters, kBlock); }

  void copy(int64_t part) const {
    kernels::tile_conv_copy(plan, sizes, image, sizes.plane_rows * part / tasks,
                            sizes.plane_rows * (part + 1) / tasks, scratch);
  }
  void compute(int64_t part) const {
    int64_t begin = 0, end = sizes.positions, first = 0, last = blocks();
    if (by_filters) {
      first = blocks() * part / tasks;
      last = blocks() * (part + 1) / tasks;
    } else {
      const int64_t all = divide_up(sizes.positions, kBlock);
      begin = all * part / tasks * kBlock;
      end = std::min(all * (part + 1) / tasks * kBlock, sizes.positions);
    }
    kernels::tile_conv_run(plan, sizes, image, begin, end, first, last, out, scratch);
  }
};

}  // namespace

// Runs of several threads come at once.
struct TileOp::Kernel {
  Kernel(const TileOp& tile_op, const TileNode& tile_node) : op(tile_op), node(tile_node) {}
  const TileOp& op;
  const TileNode& node;

  void ok(OrtStatus* status) const {
    if (status != nullptr) [[unlikely]]
      check(op.rt_, status, "running " + node.name, node.name);
  }
  void compute(OrtKernelContext* context) const;
  [[noreturn]] void refuse(const Shape& shape) const;
  void run_image(OrtKernelContext* context, Work& work) const;
};

void TileOp::Kernel::refuse(const Shape& shape) const {
  const kernels::TileConv& conv = node.plan.conv;
  throw make_error(Code::kShapeMismatch, "running " + node.name,
                   "its input has shape " + shape.text() + ", expected " +
                       std::to_string(conv.channels) +
                       " channels in the last dimension and an image no smaller than the window",
                   "give inputs of the shapes that the model was made for", node.name);
}

void TileOp::Kernel::run_image(OrtKernelContext* context, Work& work) const {
  const bool copies = !work.plan.in_place;
  if (copies) kernels::tile_conv_start(work.plan, work.sizes, work.scratch);
  const int64_t products =
      work.sizes.positions * work.plan.conv.filters * work.plan.chunk_count * work.plan.chunk_bytes;
  work.by_filters = work.blocks() > divide_up(work.sizes.positions, kBlock);
  const int64_t parts = work.by_filters ? work.blocks() : divide_up(work.sizes.positions, kBlock);
  work.tasks = std::clamp(products / kTaskProducts, int64_t{1},
                          std::min(parts, static_cast<int64_t>(op.threads_)));
  if (work.tasks == 1) {
    if (copies) work.copy(0);
    work.compute(0);
    return;
  }
  const auto each = [&](void (*body)(void*, size_t)) {
    ok(op.rt_.api.KernelContext_ParallelFor(context, body, static_cast<size_t>(work.tasks), 0,
                                            &work));
  };
  if (copies) {
    each([](void* user, size_t part) {
      static_cast<const Work*>(user)->copy(static_cast<int64_t>(part));
    });
  }
  each([](void* user, size_t part) {
    static_cast<const Work*>(user)->compute(static_cast<int64_t>(part));
  });
}

void TileOp::Kernel::compute(OrtKernelContext* context) const {
  const Api& api = op.rt_.api;
  const kernels::TileConv& conv = node.plan.conv;
  const OrtValue* input = nullptr;
  ok(api.KernelContext_GetInput(context, 0, &input));
  Handle<OrtTensorTypeAndShapeInfo> info(api.ReleaseTensorTypeAndShapeInfo);
  size_t rank = 0;
  std::array<int64_t, kMaxRank> dims{};
  const int64_t* known = dims.data();
  if (api.GetTensorElementTypeAndShapeDataReference != nullptr) [[likely]] {
    ONNXTensorElementDataType type = 0;
    ok(api.GetTensorElementTypeAndShapeDataReference(input, &type, &known, &rank));
  } else {
    ok(api.GetTensorTypeAndShape(input, info.out()));
    ok(api.GetDimensionsCount(info.get(), &rank));
    if (rank <= kMaxRank) ok(api.GetDimensions(info.get(), dims.data(), rank));
  }
  const Shape shape(std::span<const int64_t>(known, std::min(rank, size_t{kMaxRank})));
  if (rank != node.rank() || shape[rank - 1] != conv.channels) refuse(shape);
  int64_t images = shape[0];
  int64_t height = node.one_dimensional ? 1 : shape[1];
  const int64_t width = shape[rank - 2];
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t padded = (axis == 0 ? height : width) + conv.before[axis] + conv.after[axis];
    if (padded <= conv.dilation[axis] * (conv.kernel[axis] - 1)) refuse(shape);
  }
  kernels::TileConvSizes sizes = kernels::tile_conv_sizes(node.plan, height, width);
  std::array<int64_t, 4> out_dims{images, sizes.out_height, sizes.out_width, conv.filters};
  if (node.one_dimensional) out_dims = {images, sizes.out_width, conv.filters, 0};
  OrtValue* output = nullptr;
  ok(api.KernelContext_GetOutput(context, 0, out_dims.data(), rank, &output));
  if (shape.count() == 0) return;
  void *from = nullptr, *to = nullptr;
  ok(api.GetTensorMutableData(const_cast<OrtValue*>(input), &from));
  ok(api.GetTensorMutableData(output, &to));
  if (node.plan.in_place) {
    sizes = kernels::tile_conv_sizes(node.plan, images * height, width);
    images = 1;
  }
  Buffer scratch;
  if (sizes.scratch > 0) scratch = host_pool()->allocate(static_cast<size_t>(sizes.scratch));
  Work work{node.plan,
            sizes,
            static_cast<const uint8_t*>(from),
            static_cast<uint8_t*>(to),
            scratch.data(),
            1,
            false};
  for (int64_t i = 0; i < images; ++i) {
    run_image(context, work);
    work.image += height * width * conv.channels;
    work.out += sizes.out_height * sizes.out_width * conv.filters;
  }
}

// Memory is planned by shapes, which an optimized model's file does not have.
void TileOp::infer(OrtShapeInferContext* context) const {
  const Api& api = rt_.api;
  const std::string doing = "inferring the shapes of " + name_;
  const auto need = [&](OrtStatus* status) { check(rt_, status, doing, name_); };
  const OrtOpAttr* attribute = nullptr;
  int64_t index = -1;
  size_t size = 0, rank = 0;
  need(api.ShapeInferContext_GetAttribute(context, "index", &attribute));
  need(api.ReadOpAttr(attribute, kOrtAttrInt, &index, sizeof index, &size));
  const TileNode& node = nodes_.at(static_cast<size_t>(index));
  OrtTensorTypeAndShapeInfo* input = nullptr;  // borrowed
  need(api.ShapeInferContext_GetInputTypeShape(context, 0, &input));
  need(api.GetDimensionsCount(input, &rank));
  if (rank != node.rank()) return;  // not known, or refused when it runs
  std::array<int64_t, 4> dims{};
  std::array<const char*, 4> symbols{};
  need(api.GetDimensions(input, dims.data(), rank));
  need(api.GetSymbolicDimensions(input, symbols.data(), rank));
  std::array<std::string, 4> unknown;
  for (size_t axis = 1; axis + 1 < rank; ++axis) {
    symbols[axis] = "";
    const std::optional<int64_t> extent = node.out_extent(axis, dims[axis]);
    dims[axis] = extent.value_or(-1);
    if (extent) continue;
    static std::atomic<uint64_t> count{0};
    unknown[axis] = std::string(kUnknownExtent) + std::to_string(count.fetch_add(1));
    symbols[axis] = unknown[axis].c_str();
  }
  dims[rank - 1] = node.plan.conv.filters;
  symbols[rank - 1] = "";
  Handle<OrtTensorTypeAndShapeInfo> output(api.ReleaseTensorTypeAndShapeInfo);
  need(api.CreateTensorTypeAndShapeInfo(output.out()));
  need(api.SetTensorElementType(output.get(), kUint8));
  need(api.SetDimensions(output.get(), dims.data(), rank));
  need(api.SetSymbolicDimensions(output.get(), symbols.data(), rank));
  need(api.ShapeInferContext_SetOutputTypeShape(context, 0, output.get()));
}

TileOp::TileOp(const Runtime& rt, TileModel model, int threads, std::string name)
    : rt_(rt),
      tables_(std::move(model.tables)),
      nodes_(std::move(model.nodes)),
      threads_(threads),
      name_(std::move(name)),
      record_{},
      domain_(rt.api.ReleaseCustomOpDomain) {
  record_.op = this;
  record_.version = 18;
  record_.GetName = [](const OrtCustomOp*) { return kTileOp.data(); };
  record_.GetExecutionProviderType = [](const OrtCustomOp*) { return "CPUExecutionProvider"; };
  record_.GetInputType = [](const OrtCustomOp*, size_t) { return kUint8; };
  record_.GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  record_.GetOutputType = record_.GetInputType;
  record_.GetOutputTypeCount = record_.GetInputTypeCount;
  record_.GetInputCharacteristic = [](const OrtCustomOp*, size_t) -> int32_t { return 0; };
  record_.GetOutputCharacteristic = record_.GetInputCharacteristic;
  record_.GetInputMemoryType = [](const OrtCustomOp*, size_t) -> OrtMemType {
    return kOrtMemTypeDefault;
  };
  record_.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  record_.GetVariadicInputHomogeneity = record_.GetVariadicInputMinArity;
  record_.GetVariadicOutputMinArity = record_.GetVariadicInputMinArity;
  record_.GetVariadicOutputHomogeneity = record_.GetVariadicInputMinArity;
  record_.CreateKernelV2 = [](const OrtCustomOp* self, const void*, const OrtKernelInfo* info,
                              void** kernel) {
    const TileOp& op = *static_cast<const Record*>(self)->op;
    return guarded(op.rt_, [&] {
      int64_t index = -1;
      check(op.rt_, op.rt_.api.KernelInfoGetAttribute_int64(info, "index", &index),
            "loading " + op.name_, op.name_);
      *kernel = new Kernel(op, op.nodes_.at(static_cast<size_t>(index)));
    });
  };
  record_.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  record_.KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
    const auto& self = *static_cast<const Kernel*>(kernel);
    return guarded(self.op.rt_, [&] { self.compute(context); });
  };
  record_.InferOutputShapeFn = [](const OrtCustomOp* self, OrtShapeInferContext* context) {
    const TileOp& op = *static_cast<const Record*>(self)->op;
    return guarded(op.rt_, [&] { op.infer(context); });
  };
  record_.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  record_.GetEndVersion = [](const OrtCustomOp*) { return INT_MAX; };
  record_.GetMayInplace = [](int** inputs, int** outputs) -> size_t {
    *inputs = *outputs = nullptr;
    return 0;
  };
  record_.ReleaseMayInplace = [](int*, int*) {};
  record_.GetAliasMap = record_.GetMayInplace;
  record_.ReleaseAliasMap = record_.ReleaseMayInplace;
  const std::string doing = "registering the operator for tiles";
  check(rt, rt.api.CreateCustomOpDomain(kTileDomain.data(), domain_.out()), doing, name_);
  check(rt, rt.api.CustomOpDomain_Add(domain_.get(), &record_), doing, name_);
}

void TileOp::add_to(OrtSessionOptions* options) const {
  check(rt_, rt_.api.AddCustomOpDomain(options, domain_.get()), "registering ops", name_);
}

}  // namespace zerolane::ort
