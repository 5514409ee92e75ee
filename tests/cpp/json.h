// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace zerolane::test {

// A value of JSON. Numbers keep their text, so that nothing is lost to a double.
struct Json {
  struct Number {
    std::string text;
  };
  using Object = std::map<std::string, Json>;
  using Array = std::vector<Json>;
  std::variant<std::monostate, Number, std::string, Object, Array> value;

  const Object& object() const { return std::get<Object>(value); }
  const Array& array() const { return std::get<Array>(value); }
  const std::string& text() const { return std::get<std::string>(value); }
  bool has(const std::string& key) const { return object().contains(key); }
  const Json& at(const std::string& key) const { return object().at(key); }
  int64_t integer() const {
    return std::strtoll(std::get<Number>(value).text.c_str(), nullptr, 10);
  }
  // "12.345" as 12345: microseconds with three decimals, as nanoseconds.
  int64_t thousandths() const {
    const std::string& text = std::get<Number>(value).text;
    size_t dot = text.find('.');
    if (dot == std::string::npos || text.size() != dot + 4) throw std::runtime_error(text);
    return std::strtoll((text.substr(0, dot) + text.substr(dot + 1)).c_str(), nullptr, 10);
  }
};

// A strict reader of what the core writes: objects with distinct keys, arrays, strings, numbers.
// Throws on anything else.
class JsonReader {
 public:
  static Json read(std::string_view text) {
    JsonReader reader{text};
    Json value = reader.value();
    reader.space();
    if (!reader.rest_.empty()) reader.fail("more behind the value");
    return value;
  }

 private:
  explicit JsonReader(std::string_view text) : rest_(text) {}

  [[noreturn]] void fail(const char* what) const {
    throw std::runtime_error(std::string(what) + " at: " + std::string(rest_.substr(0, 60)));
  }
  void space() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\n')) rest_.remove_prefix(1);
  }
  char peek() {
    space();
    if (rest_.empty()) fail("the end");
    return rest_[0];
  }
  void expect(char c) {
    if (peek() != c) fail("an unexpected character");
    rest_.remove_prefix(1);
  }
  char take() {
    if (rest_.empty()) fail("the end");
    char c = rest_[0];
    rest_.remove_prefix(1);
    return c;
  }

  Json value() {
    switch (peek()) {
      case '{':
        return {object()};
      case '[':
        return {array()};
      case '"':
        return {string()};
      default:
        return {number()};
    }
  }

  Json::Object object() {
    Json::Object out;
    expect('{');
    if (peek() == '}') return take(), out;
    for (;;) {
      if (peek() != '"') fail("no key");
      std::string key = string();
      expect(':');
      if (!out.emplace(std::move(key), value()).second) fail("a key twice");
      if (peek() == '}') return take(), out;
      expect(',');
    }
  }

  Json::Array array() {
    Json::Array out;
    expect('[');
    if (peek() == ']') return take(), out;
    for (;;) {
      out.push_back(value());
      if (peek() == ']') return take(), out;
      expect(',');
    }
  }

  std::string string() {
    std::string out;
    expect('"');
    for (;;) {
      char c = take();
      if (c == '"') return out;
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character");
      if (c != '\\') {
        out += c;
        continue;
      }
      c = take();
      if (c == '"' || c == '\\') {
        out += c;
      } else if (c == 'u') {
        std::string hex(rest_.substr(0, 4));
        if (hex.size() != 4) fail("a short escape");
        rest_.remove_prefix(4);
        long code = std::strtol(hex.c_str(), nullptr, 16);
        out += code < 0x80 ? std::string(1, static_cast<char>(code)) : "<" + hex + ">";
      } else {
        fail("an unknown escape");
      }
    }
  }

  Json::Number number() {
    std::string text;
    auto digits = [&] {
      size_t count = 0;
      while (!rest_.empty() && std::isdigit(static_cast<unsigned char>(rest_[0])) != 0) {
        text += take();
        ++count;
      }
      if (count == 0) fail("no number");
    };
    if (peek() == '-') text += take();
    digits();
    if (text.size() > 1 && text[0] == '0') fail("a leading zero");
    if (!rest_.empty() && rest_[0] == '.') {
      text += take();
      digits();
    }
    return {text};
  }

  std::string_view rest_;
};

}  // namespace zerolane::test
