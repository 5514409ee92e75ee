// SPDX-License-Identifier: Apache-2.0
#include "ort/tiles.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/wire.h"
#include "core/wire_edit.h"
#include "ort/model_view.h"

namespace zerolane::ort {
namespace {

constexpr std::int32_t kFloat = 1, kUint8 = 2, kInt8 = 3, kInt32 = 6;
constexpr std::int64_t kVersion = 1;
constexpr std::int64_t kMostExtent = 1 << 20;
constexpr std::int64_t kLeastFilters = 8;
constexpr std::int64_t kLeastBytes = 16;

// A constant whose values stand in the file as bytes, or as one number (of a type of up to 32
// bits).
struct Constant {
  TensorView tensor;
  std::span<const std::byte> raw;
  std::optional<std::int32_t> number;

  std::int64_t count() const {
    std::int64_t product = 1;
    for (const std::int64_t dim : tensor.dims) {
      if (dim < 1 || dim > kMostExtent || product > kMostExtent * kMostExtent / dim) return 0;
      product *= dim;
    }
    return product;
  }
  template <class Value>
  bool holds(std::int32_t type, std::int64_t values) const {
    return tensor.elem_type == type && !tensor.external && count() == values &&
           raw.size() == static_cast<std::size_t>(values) * sizeof(Value);
  }
  template <class Value>
  std::vector<Value> values() const {
    std::vector<Value> all(raw.size() / sizeof(Value));
    if (!raw.empty()) std::memcpy(all.data(), raw.data(), raw.size());
    return all;
  }
};

// A convolution that was found, before its weights are packed.
struct Found {
  TileNode node;
  kernels::TileConv conv{};
  std::span<const std::byte> weights;
  std::vector<std::int32_t> bias;
  std::vector<float> scales;
};

class Finder {
 public:
  explicit Finder(const ModelView& model) : model_(model) {}

  // The convolution that stands for a node, or nullopt.
  std::optional<Found> read(const NodeView& node) const {
    if (node.op_type != "QLinearConv" || node.domain != "com.microsoft" || node.graph != 0)
      return {};
    const bool has_bias = model_.has_input(node, 8);
    if (node.input_count < 8 || node.output_count != 1 ||
        int_attribute(node, "channels_last").value_or(0) != 1 ||
        int_attribute(node, "group").value_or(1) != 1 ||
        text_attribute(node, "auto_pad").value_or("NOTSET") != "NOTSET") {
      return {};
    }
    const Constant weights = constant(node, 3);
    const auto& dims = weights.tensor.dims;
    const std::int64_t count = weights.count();
    if ((dims.size() != 3 && dims.size() != 4) || count == 0 ||
        !weights.holds<std::int8_t>(kInt8, count)) {
      return {};
    }
    Found found;
    found.node.name = node.name;
    found.node.one_dimensional = dims.size() == 3;
    found.weights = weights.raw;
    kernels::TileConv& conv = found.conv;
    conv.filters = dims[0];
    conv.channels = dims[1];
    if (!read_window(node, dims, &conv)) return {};
    if (conv.filters < kLeastFilters || count / conv.filters < kLeastBytes) return {};

    const auto input_zero = zero_point(node, 2), output_zero = zero_point(node, 7);
    const auto input_scale = scales(node, 1, 1), output_scale = scales(node, 6, 1);
    const auto weight_scales = scales(node, 4, conv.filters);
    if (!input_zero || !output_zero || input_scale.empty() || output_scale.empty() ||
        weight_scales.empty() || !has_zeros(node, 5, conv.filters)) {
      return {};
    }
    conv.input_zero = *input_zero;
    conv.output_zero = *output_zero;
    found.bias.resize(static_cast<std::size_t>(conv.filters));
    if (has_bias) {
      const Constant given = constant(node, 8);
      if (!given.holds<std::int32_t>(kInt32, conv.filters)) return {};
      found.bias = given.values<std::int32_t>();
    }
    // In the order in which the library multiplies.
    for (const float scale : weight_scales) {
      found.scales.push_back(input_scale[0] * scale / output_scale[0]);
      if (!std::isfinite(found.scales.back())) return {};
    }
    return found;
  }

 private:
  Constant constant(const NodeView& node, std::size_t input) const {
    Constant found;
    const ValueSource source = model_.find(node.graph, model_.inputs(node)[input]);
    if (source.kind != ValueSource::Kind::kConstant) return found;
    found.tensor = read_tensor(source.field);
    WireReader reader(source.field);
    for (WireField part; reader.next(part);) {
      if (part.is_bytes(9)) found.raw = part.payload;
      if (part.is_varint(5)) found.number = static_cast<std::int32_t>(part.value);
      if (part.is_bytes(5)) {
        WireReader packed(part);
        for (std::uint64_t value = 0; packed.next_packed(value);) {
          found.number = static_cast<std::int32_t>(value);
        }
      }
    }
    return found;
  }

  // One per tensor, of uint8.
  std::optional<std::uint8_t> zero_point(const NodeView& node, std::size_t input) const {
    const Constant given = constant(node, input);
    if (given.holds<std::uint8_t>(kUint8, 1)) return std::to_integer<std::uint8_t>(given.raw[0]);
    if (given.tensor.elem_type != kUint8 || given.count() != 1 || !given.raw.empty()) return {};
    if (!given.number || *given.number < 0 || *given.number > 255) return {};
    return static_cast<std::uint8_t>(*given.number);
  }

  // Positive and finite: one, or `most`, in which case one stands for all. Empty: others.
  std::vector<float> scales(const NodeView& node, std::size_t input, std::int64_t most) const {
    const Constant given = constant(node, input);
    if (!given.holds<float>(kFloat, 1) && !given.holds<float>(kFloat, most)) return {};
    std::vector<float> all = given.values<float>();
    for (const float scale : all) {
      if (!std::isfinite(scale) || !(scale > 0)) return {};
    }
    all.resize(static_cast<std::size_t>(most), all[0]);
    return all;
  }

  bool has_zeros(const NodeView& node, std::size_t input, std::int64_t most) const {
    if (!model_.has_input(node, input)) return true;
    const Constant given = constant(node, input);
    if (given.tensor.elem_type != kInt8) return false;
    if (given.raw.empty()) return given.count() == 1 && given.number == 0;
    return (given.holds<std::int8_t>(kInt8, 1) || given.holds<std::int8_t>(kInt8, most)) &&
           std::ranges::all_of(given.raw, [](std::byte each) { return each == std::byte{0}; });
  }

  static bool read_window(const NodeView& node, const std::vector<std::int64_t>& dims,
                          kernels::TileConv* conv) {
    const std::size_t rank = dims.size() - 2;
    const auto read = [&](std::string_view name, std::size_t size, std::int64_t fallback) {
      std::vector<std::int64_t> values(size, fallback);
      if (!has_attribute(node, name)) return values;
      return ints_attribute(node, name).value_or(std::vector<std::int64_t>{});
    };
    const auto kernel = has_attribute(node, "kernel_shape")
                            ? read("kernel_shape", rank, 1)
                            : std::vector<std::int64_t>(dims.begin() + 2, dims.end());
    const auto strides = read("strides", rank, 1), dilations = read("dilations", rank, 1);
    const auto pads = read("pads", 2 * rank, 0);
    if (!std::equal(kernel.begin(), kernel.end(), dims.begin() + 2, dims.end()) ||
        strides.size() != rank || dilations.size() != rank || pads.size() != 2 * rank) {
      return false;
    }
    for (std::size_t axis = 0; axis < 2; ++axis) {
      conv->kernel[axis] = conv->stride[axis] = conv->dilation[axis] = 1;
    }
    for (std::size_t i = 0; i < rank; ++i) {
      const std::size_t axis = i + 2 - rank;
      const auto in_range = [](std::int64_t value, std::int64_t least) {
        return value >= least && value <= 1024;
      };
      if (!in_range(kernel[i], 1) || !in_range(strides[i], 1) || !in_range(dilations[i], 1) ||
          !in_range(pads[i], 0) || !in_range(pads[rank + i], 0)) {
        return false;
      }
      // The padding is copied with the image: no more of it than a window reaches.
      if (std::max(pads[i], pads[rank + i]) > dilations[i] * (kernel[i] - 1)) return false;
      conv->kernel[axis] = kernel[i];
      conv->stride[axis] = strides[i];
      conv->dilation[axis] = dilations[i];
      conv->before[axis] = pads[i];
      conv->after[axis] = pads[rank + i];
    }
    return true;
  }

  const ModelView& model_;
};

std::string tile_node(const ModelView& model, const NodeView& node, std::size_t index) {
  std::string attribute, made, field;
  put_bytes(attribute, 1, "index");
  put_int(attribute, 3, index);
  put_int(attribute, 20, 2);  // AttributeProto.INT
  put_bytes(made, 1, model.inputs(node)[0]);
  put_bytes(made, 2, model.outputs(node)[0]);
  put_bytes(made, 3, node.name);
  put_bytes(made, 4, kTileOp);
  put_bytes(made, 5, attribute);
  put_bytes(made, 7, kTileDomain);
  put_bytes(field, 1, made);
  return field;
}

// The names that some node other than `replaced` reads, or that the model gives as its outputs.
std::set<std::string_view> names_in_use(const ModelView& model, std::span<const std::byte> bytes,
                                        const std::map<std::size_t, std::size_t>& replaced) {
  std::set<std::string_view> used;
  for (const NodeView& node : model.nodes()) {
    if (node.graph == 0 && replaced.contains(node.field.offset)) continue;
    const auto inputs = model.inputs(node);
    used.insert(inputs.begin(), inputs.end());
  }
  WireReader reader(bytes);
  for (WireField graph; reader.next(graph);) {
    if (!graph.is_bytes(7)) continue;
    WireReader parts(graph);
    for (WireField part; parts.next(part);) {
      if (part.is_bytes(11) || part.is_bytes(12)) used.insert(last_text(part, 1));
    }
  }
  return used;
}

}  // namespace

std::optional<int64_t> TileNode::out_extent(size_t axis, int64_t extent) const {
  const kernels::TileConv& conv = plan.conv;
  const size_t at = axis - (one_dimensional ? 0 : 1);
  const int64_t left =
      extent + conv.before[at] + conv.after[at] - conv.dilation[at] * (conv.kernel[at] - 1) - 1;
  if (extent < 0 || left < 0) return {};
  return left / conv.stride[at] + 1;
}

LargePages::LargePages(size_t bytes) {
  constexpr size_t kPage = size_t{2} << 20;
  bytes_ = (bytes + kPage - 1) / kPage * kPage;
  void* memory = ::mmap(nullptr, bytes_ + kPage, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    throw make_error(Code::kOutOfMemory, "packing weights",
                     std::to_string(bytes_) + " bytes could not be had", "free memory");
  }
  auto* begin = static_cast<std::byte*>(memory);
  const size_t before = (kPage - reinterpret_cast<uintptr_t>(begin) % kPage) % kPage;
  if (before > 0) ::munmap(begin, before);
  data_ = begin + before;
  ::munmap(data_ + bytes_, kPage - before);
  ::madvise(data_, bytes_, MADV_HUGEPAGE);  // a wish
}

LargePages::LargePages(LargePages&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

LargePages& LargePages::operator=(LargePages&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

LargePages::~LargePages() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

TileModel tile_model(std::span<const std::byte> optimized) {
  TileModel made;
  const ModelView model(optimized);
  const Finder finder(model);
  std::map<std::size_t, std::size_t> replaced;  // offset of a node: its index
  std::map<std::size_t, std::string> nodes;     // the same: what takes its place
  std::vector<Found> all;
  bool has_subgraphs = false;
  for (const NodeView& node : model.nodes()) {
    has_subgraphs = has_subgraphs || node.graph != 0;
    auto found = finder.read(node);
    if (!found) continue;
    nodes[node.field.offset] = tile_node(model, node, all.size());
    replaced[node.field.offset] = all.size();
    all.push_back(std::move(*found));
  }
  if (all.empty()) return made;
  std::size_t bytes = 0;
  for (const Found& each : all) bytes += kernels::tile_conv_bytes(each.conv);
  made.tables = LargePages(bytes);
  std::byte* tables = made.tables.data();
  for (Found& each : all) {
    each.node.plan = kernels::tile_conv_plan(
        each.conv, reinterpret_cast<const std::int8_t*>(each.weights.data()), each.bias.data(),
        each.scales.data(), tables);
    tables += kernels::tile_conv_bytes(each.conv);
    made.nodes.push_back(std::move(each.node));
  }

  const auto used = names_in_use(model, optimized, replaced);
  WireEdits edits;
  WireReader reader(optimized);
  for (WireField field; reader.next(field);) {
    if (!field.is_bytes(7)) continue;
    edits.edit_message(field, [&] {
      WireEdits::Growth growth = 0;
      WireReader parts(field);
      for (WireField part; parts.next(part);) {
        const auto node = part.is_bytes(1) ? nodes.find(part.offset) : nodes.end();
        if (node != nodes.end()) {
          growth += edits.overwrite(part.offset, part.end_offset(), std::move(node->second));
        } else if (part.is_bytes(5) && !has_subgraphs && !used.contains(last_text(part, 8))) {
          growth += edits.overwrite(part.offset, part.end_offset(), {});
        }
      }
      return growth;
    });
  }
  std::string opset, import;
  put_bytes(opset, 1, kTileDomain);
  put_int(opset, 2, static_cast<std::uint64_t>(kVersion));
  put_bytes(import, 8, opset);
  edits.insert(optimized.size(), std::move(import));
  made.bytes = edits.apply(optimized);
  return made;
}

}  // namespace zerolane::ort
