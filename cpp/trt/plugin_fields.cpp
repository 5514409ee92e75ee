// SPDX-License-Identifier: Apache-2.0
#include "trt/plugin_fields.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace zerolane::trt {
namespace {

constexpr int64_t kFormat = 1;
constexpr size_t kMostInputs = 1 << 16;
constexpr size_t kMostCounted = 64;

const PluginField* find(const PluginFieldCollection& fields, const char* name) {
  for (int32_t i = 0; i < fields.nbFields; ++i) {
    const PluginField& field = fields.fields[i];
    if (field.name != nullptr && std::strcmp(field.name, name) == 0) return &field;
  }
  return nullptr;
}

[[noreturn]] void refuse(const OpEntry& entry, const std::string& found) {
  throw make_error(Code::kInvalidModel, "reading a plugin of op " + entry.name + " from an engine",
                   found, "the engine is damaged, or another zerolane made it: build it again",
                   entry.name);
}

// The items of a field; they may lie unaligned.
template <typename Item>
std::vector<Item> items(const OpEntry& entry, const PluginField& field, PluginFieldType type) {
  if (field.type != type || field.length < 1 || field.data == nullptr) {
    refuse(entry, std::string("field '") + field.name + "' is of TensorRT's type " +
                      std::to_string(static_cast<int>(field.type)) + " and length " +
                      std::to_string(field.length) + ", expected type " +
                      std::to_string(static_cast<int>(type)) + " and something in it");
  }
  std::vector<Item> found(static_cast<size_t>(field.length));
  std::memcpy(found.data(), field.data, found.size() * sizeof(Item));
  return found;
}

std::string text_of(const OpEntry& entry, const PluginField& field) {
  std::vector<char> bytes = items<char>(entry, field, PluginFieldType::kChar);
  return {bytes.data(), ::strnlen(bytes.data(), bytes.size())};
}

template <typename Item>
std::vector<Item> list_of(const OpEntry& entry, const PluginField& field, PluginFieldType type) {
  std::vector<Item> found = items<Item>(entry, field, type);
  if (found.front() != static_cast<Item>(found.size() - 1)) {
    refuse(entry, std::string("field '") + field.name + "' does not hold its own length");
  }
  found.erase(found.begin());
  return found;
}

AttributeValue attribute_of(const OpEntry& entry, const ZlAttribute& row,
                            const PluginField& field) {
  switch (row.type) {
    case kZlInt:
      return items<int64_t>(entry, field, PluginFieldType::kInt64).front();
    case kZlFloat:
      return items<double>(entry, field, PluginFieldType::kFloat64).front();
    case kZlString:
      return text_of(entry, field);
    case kZlInts:
      return list_of<int64_t>(entry, field, PluginFieldType::kInt64);
    default:
      return list_of<double>(entry, field, PluginFieldType::kFloat64);
  }
}

// Takes numbers one after another.
class Numbers {
 public:
  Numbers(const OpEntry& entry, std::vector<int64_t> list)
      : entry_(entry), list_(std::move(list)) {}
  size_t next(size_t most) {
    if (at_ == list_.size()) refuse(entry_, "its description of the call ends early");
    const int64_t found = list_[at_++];
    if (found < 0 || static_cast<uint64_t>(found) > most) {
      refuse(entry_, "its description of the call holds " + std::to_string(found) +
                         ", expected 0 to " + std::to_string(most));
    }
    return static_cast<size_t>(found);
  }

 private:
  const OpEntry& entry_;
  std::vector<int64_t> list_;
  size_t at_ = 0;
};

// Every bit, as equal texts stand for equal work.
struct ValueText {
  std::string operator()(int64_t number) const { return std::to_string(number); }
  std::string operator()(double number) const {
    char text[40];
    std::snprintf(text, sizeof text, "%a", number);
    return text;
  }
  std::string operator()(const std::string& text) const {
    return std::to_string(text.size()) + ":" + text;
  }
  template <typename Item>
  std::string operator()(const std::vector<Item>& list) const {
    std::string out = "[";
    for (Item item : list) out += (*this)(item) + ",";
    return out + "]";
  }
};

}  // namespace

void PluginFacts::complete() {
  inputs.clear();
  for (size_t i = 0; i < present.size(); ++i) {
    if (present[i]) inputs.push_back(i);
  }
  const OpEntry& entry = state->entry();
  version = std::to_string(entry.version);
  timing_id = entry.name + " " + version + " of " + entry.library->name + " " +
              entry.library->version + ";";
  for (const AttributeValue& value : state->values())
    timing_id += std::visit(ValueText{}, value) + ";";
  for (bool given : present) timing_id += given ? '1' : '0';
  for (size_t output : outputs) timing_id += "," + std::to_string(output);
}

void PluginFields::add(const char* name, std::vector<int64_t> numbers) {
  const auto& kept = integers_.emplace_back(std::move(numbers));
  fields_.push_back(
      {name, kept.data(), PluginFieldType::kInt64, static_cast<int32_t>(kept.size())});
}

void PluginFields::add(const char* name, std::vector<double> numbers) {
  const auto& kept = reals_.emplace_back(std::move(numbers));
  fields_.push_back(
      {name, kept.data(), PluginFieldType::kFloat64, static_cast<int32_t>(kept.size())});
}

void PluginFields::add(const char* name, std::string text) {
  const auto& kept = texts_.emplace_back(std::move(text));
  fields_.push_back(
      {name, kept.c_str(), PluginFieldType::kChar, static_cast<int32_t>(kept.size() + 1)});
}

PluginFields::PluginFields(const PluginFacts& facts, size_t scratch) {
  std::vector<int64_t> call{kFormat, static_cast<int64_t>(scratch),
                            static_cast<int64_t>(facts.counted)};
  call.push_back(static_cast<int64_t>(facts.present.size()));
  size_t input = 0;
  for (bool given : facts.present) call.push_back(!given ? 0 : facts.uint8_inputs[input++] ? 2 : 1);
  call.push_back(static_cast<int64_t>(facts.outputs.size()));
  for (size_t i = 0; i < facts.outputs.size(); ++i) {
    call.push_back(static_cast<int64_t>(facts.outputs[i]));
    call.push_back(facts.uint8_outputs[i] ? 1 : 0);
  }
  add(kCallField, std::move(call));
  add(kWhereField, facts.state->where());
  const ZlOp& table = *facts.state->entry().table;
  for (uint64_t i = 0; i < table.attribute_count; ++i) {
    const char* name = table.attributes[i].name;
    const AttributeValue& value = facts.state->values()[i];
    if (const auto* one = std::get_if<int64_t>(&value)) add(name, std::vector<int64_t>{*one});
    if (const auto* one = std::get_if<double>(&value)) add(name, std::vector<double>{*one});
    if (const auto* text = std::get_if<std::string>(&value)) add(name, *text);
    if (const auto* list = std::get_if<std::vector<int64_t>>(&value)) {
      std::vector<int64_t> numbers{static_cast<int64_t>(list->size())};
      numbers.insert(numbers.end(), list->begin(), list->end());
      add(name, std::move(numbers));
    }
    if (const auto* list = std::get_if<std::vector<double>>(&value)) {
      std::vector<double> numbers{static_cast<double>(list->size())};
      numbers.insert(numbers.end(), list->begin(), list->end());
      add(name, std::move(numbers));
    }
  }
  all_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
}

std::shared_ptr<const PluginFacts> read_fields(const OpEntry& entry,
                                               const PluginFieldCollection& fields,
                                               size_t* scratch) {
  const PluginField* call = find(fields, kCallField);
  const PluginField* where = find(fields, kWhereField);
  if (call == nullptr || where == nullptr) refuse(entry, "it does not say how it is called");
  Numbers numbers(entry, items<int64_t>(entry, *call, PluginFieldType::kInt64));
  if (numbers.next(kFormat) != kFormat) refuse(entry, "it is of an older form");
  *scratch = numbers.next(INT64_MAX);
  auto facts = std::make_shared<PluginFacts>();
  facts->counted = numbers.next(kMostCounted);
  const size_t inputs = numbers.next(kMostInputs);
  for (size_t i = 0; i < inputs; ++i) {
    const size_t how = numbers.next(2);
    facts->present.push_back(how > 0);
    if (how > 0) facts->uint8_inputs.push_back(how == 2);
  }
  const size_t outputs = numbers.next(entry.outputs.size());
  for (size_t i = 0; i < outputs; ++i) {
    facts->outputs.push_back(numbers.next(entry.outputs.size() - 1));
    if (i > 0 && facts->outputs[i] <= facts->outputs[i - 1]) {
      refuse(entry, "its description of the call has outputs out of order");
    }
    facts->uint8_outputs.push_back(numbers.next(1) == 1);
  }
  for (size_t i = 0; i < entry.outputs.size(); ++i) {
    if (entry.outputs[i].kind == kZlRequired && !std::ranges::count(facts->outputs, i)) {
      refuse(entry, "output '" + entry.outputs[i].name + "' has no place in it");
    }
  }
  Attributes given;
  for (uint64_t i = 0; i < entry.table->attribute_count; ++i) {
    const ZlAttribute& row = entry.table->attributes[i];
    const PluginField* field = find(fields, row.name);
    if (field == nullptr) refuse(entry, std::string("attribute '") + row.name + "' is not in it");
    given.emplace_back(row.name, attribute_of(entry, row, *field));
  }
  facts->state = std::make_shared<const OpState>(entry, given, text_of(entry, *where));
  facts->complete();
  return facts;
}

int64_t node_of(const PluginFieldCollection& fields) {
  const PluginField* field = find(fields, kNodeField);
  if (field == nullptr || field->length != 1 || field->data == nullptr) return -1;
  // Parsers hand integers on in 32 bits or in 64.
  if (field->type == PluginFieldType::kInt32) {
    int32_t number = 0;
    std::memcpy(&number, field->data, sizeof number);
    return number;
  }
  int64_t number = -1;
  if (field->type == PluginFieldType::kInt64) std::memcpy(&number, field->data, sizeof number);
  return number;
}

}  // namespace zerolane::trt
