// SPDX-License-Identifier: Apache-2.0
#include "registry/attributes.h"

#include <cmath>

#include "core/error.h"

namespace zerolane {
namespace {

const char* const kTypeNames[] = {"an integer", "a float", "a string", "a list of integers",
                                  "a list of floats"};

std::string number_text(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) {
    return std::to_string(static_cast<int64_t>(value));
  }
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

class Checker {
 public:
  Checker(const ZlAttribute& row, const std::string& where) : row_(row), where_(where) {}

  AttributeValue read(AttributeValue value) const {
    const size_t wanted = static_cast<size_t>(row_.type - 1);
    if (row_.type == kZlFloat && std::holds_alternative<int64_t>(value)) {
      value = static_cast<double>(std::get<int64_t>(value));
    }
    if (row_.type == kZlFloats && std::holds_alternative<std::vector<int64_t>>(value)) {
      const auto& list = std::get<std::vector<int64_t>>(value);
      value = std::vector<double>(list.begin(), list.end());
    }
    // One number serves as a list of it.
    if (row_.type == kZlInts && std::holds_alternative<int64_t>(value)) {
      value = std::vector<int64_t>{std::get<int64_t>(value)};
    }
    if (row_.type == kZlFloats && value.index() < 2) {
      const auto* whole = std::get_if<int64_t>(&value);
      const double number =
          whole != nullptr ? static_cast<double>(*whole) : std::get<double>(value);
      value = std::vector<double>{number};
    }
    // An empty list has no type of its own.
    if (row_.type == kZlInts && std::holds_alternative<std::vector<double>>(value) &&
        std::get<std::vector<double>>(value).empty()) {
      value = std::vector<int64_t>();
    }
    if (value.index() != wanted) {
      refuse(std::string("is ") + kTypeNames[value.index()],
             std::string("expected ") + kTypeNames[wanted]);
    }
    if (const auto* one = std::get_if<int64_t>(&value)) check_number(static_cast<double>(*one));
    if (const auto* one = std::get_if<double>(&value)) check_number(*one);
    if (const auto* text = std::get_if<std::string>(&value)) check_choice(*text);
    if (const auto* list = std::get_if<std::vector<int64_t>>(&value)) check_list(*list);
    if (const auto* list = std::get_if<std::vector<double>>(&value)) check_list(*list);
    return value;
  }

 private:
  [[noreturn]] void refuse(const std::string& found, const std::string& expected) const {
    throw make_error(Code::kInvalidArgument,
                     "reading attribute '" + std::string(row_.name) + "' of " + where_,
                     "it " + found + ", " + expected, "give a value that fits", row_.name);
  }

  void check_number(double value) const {
    if (value >= row_.least && value <= row_.greatest) return;
    refuse("is " + number_text(value), "expected a number from " + number_text(row_.least) +
                                           " to " + number_text(row_.greatest));
  }

  template <typename List>
  void check_list(const List& list) const {
    if (list.size() < row_.least_count || list.size() > row_.greatest_count) {
      refuse("has " + std::to_string(list.size()) + " numbers",
             "expected " + std::to_string(row_.least_count) +
                 (row_.greatest_count == row_.least_count ? ""
                  : row_.greatest_count > 1u << 30 ? " or more"
                                                   : " to " + std::to_string(row_.greatest_count)));
    }
    for (auto item : list) check_number(static_cast<double>(item));
  }

  void check_choice(const std::string& text) const {
    if (text.find('\0') != std::string::npos) refuse("holds a zero byte", "expected plain text");
    if (row_.choice_count == 0) return;
    std::string all;
    for (uint64_t i = 0; i < row_.choice_count; ++i) {
      if (text == row_.choices[i]) return;
      all += (i > 0 ? ", '" : "'") + std::string(row_.choices[i]) + "'";
    }
    refuse("is '" + text + "'", "expected one of " + all);
  }

  const ZlAttribute& row_;
  const std::string& where_;
};

AttributeValue fallback_of(const ZlAttribute& row) {
  const ZlValue& value = row.fallback;
  switch (row.type) {
    case kZlInt:
      return value.integer;
    case kZlFloat:
      return value.real;
    case kZlString:
      return std::string(value.text);
    case kZlInts:
      return std::vector<int64_t>(value.integers, value.integers + value.count);
    default:
      return std::vector<double>(value.reals, value.reals + value.count);
  }
}

ZlValue lend(const AttributeValue& value) {
  ZlValue out{};
  out.type = static_cast<int32_t>(value.index()) + 1;
  if (const auto* one = std::get_if<int64_t>(&value)) out.integer = *one;
  if (const auto* one = std::get_if<double>(&value)) out.real = *one;
  if (const auto* text = std::get_if<std::string>(&value)) out.text = text->c_str();
  if (const auto* list = std::get_if<std::vector<int64_t>>(&value)) {
    out.integers = list->data();
    out.count = list->size();
  }
  if (const auto* list = std::get_if<std::vector<double>>(&value)) {
    out.reals = list->data();
    out.count = list->size();
  }
  return out;
}

struct Failure : ZlFailure {
  Code code = Code::kInternal;
  std::string text;
};

}  // namespace

Code op_failure_code(int32_t code) noexcept {
  return code < 0 || code > static_cast<int32_t>(Code::kInternal) ? Code::kInternal
                                                                  : static_cast<Code>(code);
}

OpState::OpState(const OpEntry& entry, const Attributes& given, const std::string& where)
    : entry_(entry), where_(where) {
  const ZlOp& table = *entry.table;
  values_.resize(table.attribute_count);
  std::vector<bool> set(table.attribute_count);
  std::string known;
  for (uint64_t i = 0; i < table.attribute_count; ++i) {
    known += (i > 0 ? ", '" : "'") + std::string(table.attributes[i].name) + "'";
  }
  for (const auto& [name, value] : given) {
    uint64_t i = 0;
    while (i < table.attribute_count && name != table.attributes[i].name) ++i;
    if (i == table.attribute_count) {
      throw make_error(Code::kInvalidArgument, "reading the attributes of " + where,
                       "there is no attribute '" + name + "', " +
                           (known.empty() ? "the op has none" : "the op has " + known),
                       "check the name", name);
    }
    values_[i] = Checker(table.attributes[i], where).read(value);
    set[i] = true;
  }
  for (uint64_t i = 0; i < table.attribute_count; ++i) {
    if (set[i]) continue;
    const ZlAttribute& row = table.attributes[i];
    if (row.required != 0) {
      throw make_error(Code::kInvalidArgument, "reading the attributes of " + where,
                       "attribute '" + std::string(row.name) + "' is missing, expected " +
                           kTypeNames[row.type - 1],
                       "give it: it has no fallback", row.name);
    }
    values_[i] = fallback_of(row);
  }
  std::vector<ZlValue> lent;
  for (const AttributeValue& value : values_) lent.push_back(lend(value));
  Failure failure;
  failure.fail = [](ZlFailure* self, int32_t code, const char* message) {
    auto& out = *static_cast<Failure*>(self);
    out.code = op_failure_code(code);
    out.text = message;
  };
  state_ = table.create(&table, lent.data(), &failure);
  if (state_ == nullptr) {
    throw make_error(failure.code, "making " + where,
                     failure.text.empty() ? "its library gave no reason" : failure.text,
                     "give attributes that fit", entry.name);
  }
  if (table.constants == nullptr) return;
  const ZlConstant* list = nullptr;
  const uint64_t count = table.constants(&table, state_, &list);
  for (uint64_t i = 0; i < count; ++i) {
    constants_.push_back(list[i].data);
    constant_bytes_.push_back(list[i].bytes);
  }
}

OpState::~OpState() {
  if (state_ != nullptr) entry_.table->destroy(entry_.table, state_);
}

DeviceConstants::DeviceConstants(std::shared_ptr<const OpState> state, Device& device)
    : state_(std::move(state)) {
  const std::shared_ptr<Pool> pool = Pool::make(device, 0);
  for (size_t i = 0; i < state_->constants().size(); ++i) {
    const uint64_t bytes = state_->constant_bytes()[i];
    memory_.push_back(pool->allocate(bytes));
    if (bytes > 0) device.copy(memory_.back().data(), state_->constants()[i], bytes);
    addresses_.push_back(memory_.back().data());
  }
}

}  // namespace zerolane
