// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"

namespace zerolane {

enum class WireType : std::uint8_t { kVarint, kFixed64, kBytes, kGroupBegin, kGroupEnd, kFixed32 };

// One field of a protobuf message. `payload` borrows from the bytes being read; offsets count
// from the first byte of the outermost message:
//   tag at `offset` | length at `length_offset` (kBytes only) | payload at `payload_offset`
struct WireField {
  std::uint32_t number = 0;
  WireType type = WireType::kVarint;
  std::uint64_t value = 0;  // kVarint only
  std::span<const std::byte> payload;
  std::size_t offset = 0;
  std::size_t length_offset = 0;
  std::size_t payload_offset = 0;

  bool is_bytes(std::uint32_t wanted) const noexcept {
    return number == wanted && type == WireType::kBytes;
  }
  bool is_varint(std::uint32_t wanted) const noexcept {
    return number == wanted && type == WireType::kVarint;
  }
  std::string_view text() const noexcept {
    return {reinterpret_cast<const char*>(payload.data()), payload.size()};
  }
  std::size_t end_offset() const noexcept { return payload_offset + payload.size(); }
};

// Reads the fields of one message in file order, copying nothing and allocating nothing. Takes
// what protobuf's own parser takes (long forms of numbers, groups, unknown fields), so that no
// file is readable to the vendor library and unreadable here. Throws kInvalidModel otherwise.
class WireReader {
 public:
  explicit WireReader(std::span<const std::byte> message) noexcept : bytes_(message) {}
  explicit WireReader(const WireField& field) noexcept
      : bytes_(field.payload), base_(field.payload_offset) {}

  // False at the end of the message.
  bool next(WireField& field) {
    if (position_ == bytes_.size()) return false;
    read_field(field);
    if (field.type == WireType::kGroupBegin) skip_group(field);
    if (field.type == WireType::kGroupEnd) fail("ends a group that was not begun");
    return true;
  }

  // Passes over whole numbers of the same field that follow one another directly: lists that were
  // written unpacked hold a field an element (decision trees: tens of thousands).
  void skip_repeats(const WireField& field) noexcept {
    const bool fixed = field.type == WireType::kFixed32;
    if ((!fixed && field.type != WireType::kVarint) || field.number > 15) return;
    const auto tag = static_cast<std::byte>(field.number << 3 | static_cast<unsigned>(field.type));
    const std::size_t size = bytes_.size();
    while (position_ < size && bytes_[position_] == tag) {
      std::size_t end = position_ + 5;
      if (!fixed) {
        end = position_ + 1;
        while (end < size && end < position_ + 10 && bytes_[end] >= std::byte{0x80}) ++end;
        if (end >= size || bytes_[end++] >= std::byte{0x80}) return;  // next() says what is wrong
      }
      if (end > size) return;
      position_ = end;
    }
  }

  // The next number of a packed payload; false at its end.
  bool next_packed(std::uint64_t& value) {
    if (position_ == bytes_.size()) return false;
    field_start_ = position_;
    value = read_varint();
    return true;
  }

 private:
  // As deep as protobuf's own parser goes.
  static constexpr std::size_t kMaxGroups = 100;

  void read_field(WireField& field) {
    field_start_ = position_;
    field.offset = base_ + position_;
    const std::uint64_t tag = read_varint();
    field.number = static_cast<std::uint32_t>(tag) >> 3;
    field.type = static_cast<WireType>(tag & 7);
    if (field.number == 0) fail("has the number 0, which no message uses");
    field.length_offset = field.payload_offset = base_ + position_;
    switch (field.type) {
      case WireType::kVarint:
        field.value = read_varint();
        field.payload =
            bytes_.subspan(field.payload_offset - base_, base_ + position_ - field.payload_offset);
        return;
      case WireType::kFixed64:
        return take(field, 8);
      case WireType::kFixed32:
        return take(field, 4);
      case WireType::kBytes: {
        const std::uint64_t length = read_varint();
        field.payload_offset = base_ + position_;
        return take(field, length);
      }
      case WireType::kGroupBegin:
      case WireType::kGroupEnd:
        field.payload = {};
        return;
    }
    fail("has a wire type that does not exist");
  }

  void take(WireField& field, std::uint64_t length) {
    const std::size_t left = bytes_.size() - position_;
    if (length > left) {
      fail("claims " + std::to_string(length) + " bytes where " + std::to_string(left) +
           " are left");
    }
    field.payload = bytes_.subspan(position_, static_cast<std::size_t>(length));
    position_ += static_cast<std::size_t>(length);
  }

  std::uint64_t read_varint() {
    if (position_ != bytes_.size() && std::to_integer<unsigned>(bytes_[position_]) < 0x80) {
      return std::to_integer<std::uint64_t>(bytes_[position_++]);  // nearly all are one byte long
    }
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      if (position_ == bytes_.size()) fail("ends in the middle of a number");
      const auto byte = std::to_integer<std::uint64_t>(bytes_[position_++]);
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    fail("holds a number longer than 10 bytes");
  }

  // Leaves `group` spanning everything between its two tags.
  void skip_group(WireField& group) {
    std::array<std::uint32_t, kMaxGroups> open;
    std::size_t depth = 0;
    open[depth++] = group.number;
    const std::size_t begin = position_;
    std::size_t end = begin;
    while (depth > 0) {
      if (position_ == bytes_.size()) fail("is a group without an end");
      end = position_;
      WireField inner;
      read_field(inner);
      if (inner.type == WireType::kGroupBegin) {
        if (depth == kMaxGroups) fail("nests more than 100 groups");
        open[depth++] = inner.number;
      } else if (inner.type == WireType::kGroupEnd && open[--depth] != inner.number) {
        fail("ends a group that was not begun");
      }
    }
    group.payload = bytes_.subspan(begin, end - begin);
  }

  [[noreturn, gnu::cold, gnu::noinline]] void fail(const std::string& found) const {
    throw make_error(
        Code::kInvalidModel, "reading an ONNX model",
        "the field at byte " + std::to_string(base_ + field_start_) + " " + found,
        "the file is truncated, damaged or not an ONNX model: export or copy it again");
  }

  std::span<const std::byte> bytes_;
  std::size_t base_ = 0;
  std::size_t position_ = 0;
  std::size_t field_start_ = 0;
};

}  // namespace zerolane
