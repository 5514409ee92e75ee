// SPDX-License-Identifier: Apache-2.0
// libFuzzer over the ops of one library: attributes, element types, ranks, shapes and values are
// read from the input. An op may refuse with a zerolane::Error; anything else is a finding. The
// library is named by ZEROLANE_FUZZ_OPS, one op of it by ZEROLANE_FUZZ_OP (none: all).
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "registry/call.h"
#include "registry/library.h"

namespace {

using namespace zerolane;

constexpr size_t kMostElements = 1 << 16;  // of one tensor, so that a run takes milliseconds

// Takes choices off the input; zeros when it is used up.
class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  uint8_t byte() { return at_ < size_ ? data_[at_++] : 0; }
  uint64_t word() {
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | byte();
    return value;
  }
  size_t below(size_t count) { return count == 0 ? 0 : byte() % count; }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

double real(Choices& from, double least, double greatest) {
  static constexpr double kOdd[] = {0, -0.0, 1, -1, 0.5, 1e-30, 1e30, 1e-45, 65504, INFINITY, NAN};
  const double low = std::isfinite(least) ? least : -1e6;
  const double high = std::isfinite(greatest) ? greatest : 1e6;
  switch (from.below(4)) {
    case 0:
      return kOdd[from.below(std::size(kOdd))];
    case 1:
      return from.below(2) == 0 ? low : high;
    default:
      return low + (high - low) * (static_cast<double>(from.word() >> 11) * 0x1p-53);
  }
}

int64_t integer(Choices& from, double least, double greatest) {
  static constexpr int64_t kOdd[] = {0, 1, -1, 2, 3, 7, 255, INT64_MAX, INT64_MIN, INT32_MAX};
  const auto clamp = [](double v) {
    if (std::isnan(v)) return int64_t{0};
    return v <= -9.2e18 ? INT64_MIN : v >= 9.2e18 ? INT64_MAX : static_cast<int64_t>(v);
  };
  switch (from.below(4)) {
    case 0:
      return kOdd[from.below(std::size(kOdd))];
    case 1:
      return from.below(2) == 0 ? clamp(least) : clamp(greatest);
    case 2:
      return static_cast<int64_t>(from.byte());
    default:
      return clamp(std::floor(real(from, least, greatest)));
  }
}

Attributes attributes(Choices& from, const ZlOp& op) {
  Attributes given;
  for (uint64_t i = 0; i < op.attribute_count; ++i) {
    const ZlAttribute& row = op.attributes[i];
    if (row.required == 0 && from.below(3) == 0) continue;
    size_t count = from.below(6);
    if (row.greatest_count < 6) count = static_cast<size_t>(row.greatest_count);
    if (from.below(8) == 0) count = from.below(64);
    switch (row.type) {
      case kZlInt:
        given.emplace_back(row.name, integer(from, row.least, row.greatest));
        break;
      case kZlFloat:
        given.emplace_back(row.name, real(from, row.least, row.greatest));
        break;
      case kZlString: {
        std::string text = "other";
        if (row.choice_count > 0 && from.below(16) != 0) {
          text = row.choices[from.below(static_cast<size_t>(row.choice_count))];
        }
        given.emplace_back(row.name, text);
        break;
      }
      case kZlInts: {
        std::vector<int64_t> list;
        for (size_t k = 0; k < count; ++k) list.push_back(integer(from, row.least, row.greatest));
        given.emplace_back(row.name, list);
        break;
      }
      default: {
        std::vector<double> list;
        for (size_t k = 0; k < count; ++k) list.push_back(real(from, row.least, row.greatest));
        given.emplace_back(row.name, list);
      }
    }
  }
  return given;
}

Shape shape(Choices& from) {
  static constexpr int64_t kExtents[] = {0,  1,  2,  3,  4,  5,   7,   8,
                                         13, 16, 31, 33, 80, 129, 400, 1025};
  std::vector<int64_t> dims(from.below(6));
  for (int64_t& dim : dims) {
    dim = kExtents[from.below(std::size(kExtents))];
    if (from.below(64) == 0) dim = static_cast<int64_t>(from.word() >> 1);
  }
  return Shape(dims);
}

// Exactly as large as it must be, so that the sanitizer sees one element beyond.
struct Memory {
  std::unique_ptr<uint8_t[]> bytes;
  void* data() const { return bytes.get(); }
};

Memory filled(Choices& from, DType dtype, size_t count) {
  Memory memory{std::make_unique<uint8_t[]>(dtype_bytes(dtype, count))};
  const size_t bytes = dtype_bytes(dtype, count);
  uint64_t state = from.word() | 1;
  const size_t mode = from.below(4);
  if (dtype == DType::kFloat32 && mode != 0) {
    auto* values = reinterpret_cast<float*>(memory.bytes.get());
    for (size_t i = 0; i < count; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      values[i] = static_cast<float>(static_cast<double>(state >> 40) * 0x1p-24);
      if (mode == 2) values[i] = values[i] * 2000 - 1000;
      if (mode == 3 && (state >> 60) == 0) values[i] = i % 2 == 0 ? NAN : INFINITY;
    }
    return memory;
  }
  for (size_t i = 0; i < bytes; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    memory.bytes[i] = static_cast<uint8_t>(state >> 56);
    if (mode == 1 && dtype_bytes(dtype, 1) > 1 && i % dtype_bytes(dtype, 1) != 0) {
      memory.bytes[i] = 0;  // small whole numbers
    }
  }
  return memory;
}

const std::vector<const OpEntry*>& ops() {
  static const std::vector<const OpEntry*> found = [] {
    const char* path = std::getenv("ZEROLANE_FUZZ_OPS");
    if (path == nullptr) {
      std::fprintf(stderr, "ZEROLANE_FUZZ_OPS names no library of ops\n");
      std::exit(2);
    }
    std::vector<const OpEntry*> all = load_op_library(path).ops;
    if (const char* one = std::getenv("ZEROLANE_FUZZ_OP")) {
      std::erase_if(all, [&](const OpEntry* entry) { return entry->op != one; });
    }
    return all;
  }();
  return found;
}

void run_one(Choices& from) {
  if (ops().empty()) std::abort();
  const OpEntry& entry = *ops()[from.below(ops().size())];
  OpCall call(std::make_shared<const OpState>(entry, attributes(from, *entry.table), entry.name));
  const size_t extra = entry.variadic() ? from.below(3) : 0;
  auto& inputs = call.inputs(entry.inputs.size() + extra);
  std::vector<DType> types;
  for (const auto& allowed : entry.types) types.push_back(allowed[from.below(allowed.size())]);
  std::vector<Memory> memory;
  Shape last;
  for (size_t i = 0; i < inputs.size(); ++i) {
    OpInput& input = inputs[i];
    input.present = entry.input(i).kind != kZlOptional || from.below(2) == 0;
    input.dtype = types[entry.input(i).type];
    // Often like the input before: many ops want that.
    input.shape = i > 0 && from.below(2) == 0 ? last : shape(from);
    last = input.shape;
    size_t count = 0;
    try {
      count = input.shape.count();
    } catch (const Error&) {
      count = SIZE_MAX;
    }
    if (count > kMostElements) {
      // Too much to hold: the shape function alone sees it.
      input.data = nullptr;
      call.plan();
      return;
    }
    memory.push_back(filled(from, input.dtype, count));
    input.data = memory.back().data();
  }
  call.plan();
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].present && inputs[i].shape.count() > kMostElements) return;
  }
  for (size_t i = 0; i < call.output_count(); ++i) {
    const size_t count = call.output_shape(i).count();
    if (count > kMostElements * 16) return;
    if (call.is_counted(i)) continue;
    memory.push_back({std::make_unique<uint8_t[]>(dtype_bytes(call.output_dtype(i), count))});
    call.set_output(i, memory.back().data());
  }
  struct Owner {
    std::vector<Memory>& memory;
    OpCall& call;
  } owner{memory, call};
  call.set_allocator(
      [](void* self, size_t index, const Shape& shape) -> void* {
        auto& own = *static_cast<Owner*>(self);
        own.memory.push_back({std::make_unique<uint8_t[]>(
            dtype_bytes(own.call.output_dtype(index), shape.count()))});
        return own.memory.back().data();
      },
      &owner);
  call.run_host();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Choices from(data, size);
  try {
    run_one(from);
  } catch (const zerolane::Error& error) {
    // Typed refusals are what is wanted; an internal error means that op and host disagree.
    if (error.code() == zerolane::Code::kInternal) {
      std::fprintf(stderr, "internal error: %s\n", error.what());
      std::abort();
    }
  }
  return 0;
}
