// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/wire.h"

namespace zerolane {

// Fields of a protobuf message, put behind what `out` holds.
void put_varint(std::string& out, std::uint64_t value);
void put_int(std::string& out, std::uint32_t field, std::uint64_t value);
void put_bytes(std::string& out, std::uint32_t field, std::string_view bytes);

// Changes to a message, listed in the order of its bytes. The length of every message around an
// edit changes too, so each function returns by how many bytes its part of the file grows, and
// whoever walks through a message inside of edit_message() sums that up.
class WireEdits {
 public:
  using Growth = std::int64_t;

  bool empty() const noexcept { return edits_.empty(); }
  std::size_t size() const noexcept { return edits_.size(); }

  // Puts `bytes` in place of those from `begin` to `end`.
  Growth overwrite(std::size_t begin, std::size_t end, std::string bytes) {
    const Growth growth = static_cast<Growth>(bytes.size()) - static_cast<Growth>(end - begin);
    edits_.push_back({begin, end, std::move(bytes)});
    return growth;
  }
  Growth insert(std::size_t offset, std::string bytes) {
    return overwrite(offset, offset, std::move(bytes));
  }
  // The payload of a field of bytes.
  Growth replace(const WireField& field, std::string_view payload) {
    std::string bytes;
    put_varint(bytes, payload.size());
    bytes += payload;
    return overwrite(field.length_offset, field.end_offset(), std::move(bytes));
  }

  // Runs `edit_inside`, which returns the growth inside of the message, then corrects the length
  // written before it.
  template <class EditInside>
  Growth edit_message(const WireField& field, EditInside edit_inside) {
    const std::size_t slot = edits_.size();
    edits_.push_back({field.length_offset, field.payload_offset, {}});
    Growth growth = edit_inside();
    if (edits_.size() == slot + 1) {
      edits_.pop_back();
      return 0;
    }
    std::string& length = edits_[slot].bytes;
    put_varint(length, field.payload.size() + static_cast<std::uint64_t>(growth));
    growth += static_cast<Growth>(length.size()) -
              static_cast<Growth>(field.payload_offset - field.length_offset);
    return growth;
  }

  // The message with all edits made.
  std::vector<std::byte> apply(std::span<const std::byte> message) const;

 private:
  struct Edit {  // replaces the message's bytes [begin, end)
    std::size_t begin;
    std::size_t end;
    std::string bytes;
  };
  std::vector<Edit> edits_;
};

}  // namespace zerolane
