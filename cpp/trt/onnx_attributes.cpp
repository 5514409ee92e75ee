// SPDX-License-Identifier: Apache-2.0
#include "trt/onnx_attributes.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace zerolane::trt {
namespace {

double float_of(std::span<const std::byte> bytes) {
  float value = 0;
  std::memcpy(&value, bytes.data(), sizeof value);
  return static_cast<double>(value);
}

// What an AttributeProto holds. Of lists, both forms: packed, and a field an element.
struct Attribute {
  std::string_view name;
  std::uint64_t type = 0;
  bool from_caller = false;
  double real = 0;
  int64_t integer = 0;
  std::string text;
  std::vector<double> reals;
  std::vector<int64_t> integers;

  explicit Attribute(const WireField& message) {
    WireReader reader(message);
    for (WireField part; reader.next(part);) {
      if (part.is_bytes(1)) name = part.text();
      if (part.is_varint(20)) type = part.value;
      if (part.is_bytes(21)) from_caller = !part.text().empty();
      if (part.number == 2 && part.type == WireType::kFixed32) real = float_of(part.payload);
      if (part.is_varint(3)) integer = static_cast<int64_t>(part.value);
      if (part.is_bytes(4)) text = part.text();
      if (part.number == 7 && part.type == WireType::kFixed32) {
        reals.push_back(float_of(part.payload));
      } else if (part.is_bytes(7)) {
        for (size_t at = 0; at + sizeof(float) <= part.payload.size(); at += sizeof(float)) {
          reals.push_back(float_of(part.payload.subspan(at)));
        }
      }
      if (part.is_varint(8)) {
        integers.push_back(static_cast<int64_t>(part.value));
      } else if (part.is_bytes(8)) {
        WireReader packed(part);
        for (std::uint64_t value; packed.next_packed(value);) {
          integers.push_back(static_cast<int64_t>(value));
        }
      }
    }
  }
};

}  // namespace

Attributes read_attributes(const OpEntry& entry, const WireField& node, const std::string& where) {
  const auto doing = [&](const std::string& name) {
    return "reading attribute '" + name + "' of " + where;
  };
  const std::span rows(entry.table->attributes, entry.table->attribute_count);
  Attributes given;
  WireReader reader(node);
  for (WireField field; reader.next(field);) {
    if (!field.is_bytes(5)) continue;
    Attribute attribute(field);
    const std::string name(attribute.name);
    const bool known =
        std::ranges::any_of(rows, [&](const ZlAttribute& row) { return name == row.name; });
    if (!known) continue;
    if (attribute.from_caller) {
      throw make_error(Code::kUnsupported, doing(name),
                       "the function around it takes the value from its caller",
                       "inline the function (onnx.inliner)", name);
    }
    std::erase_if(given, [&](const auto& pair) { return pair.first == name; });
    switch (attribute.type) {  // AttributeProto.AttributeType
      case 1:
        given.emplace_back(name, attribute.real);
        break;
      case 2:
        given.emplace_back(name, attribute.integer);
        break;
      case 3:
        given.emplace_back(name, std::move(attribute.text));
        break;
      case 6:
        given.emplace_back(name, std::move(attribute.reals));
        break;
      case 7:
        given.emplace_back(name, std::move(attribute.integers));
        break;
      default:
        throw make_error(Code::kInvalidArgument, doing(name),
                         "it is of ONNX's attribute type " + std::to_string(attribute.type) +
                             ", expected a number, text, or a list of numbers",
                         "export the model again", name);
    }
  }
  return given;
}

}  // namespace zerolane::trt
