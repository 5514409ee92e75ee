// SPDX-License-Identifier: Apache-2.0
#include "core/wire_edit.h"

namespace zerolane {

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7f) | 0x80);
  out += static_cast<char>(value);
}

void put_int(std::string& out, std::uint32_t field, std::uint64_t value) {
  put_varint(out, field << 3);
  put_varint(out, value);
}

void put_bytes(std::string& out, std::uint32_t field, std::string_view bytes) {
  put_varint(out, field << 3 | 2);
  put_varint(out, bytes.size());
  out += bytes;
}

std::vector<std::byte> WireEdits::apply(std::span<const std::byte> message) const {
  std::size_t size = message.size();
  for (const Edit& edit : edits_) size = size + edit.bytes.size() - (edit.end - edit.begin);
  std::vector<std::byte> out;
  out.reserve(size);
  const auto append = [&](std::span<const std::byte> bytes) {
    out.insert(out.end(), bytes.begin(), bytes.end());
  };
  std::size_t done = 0;
  for (const Edit& edit : edits_) {
    append(message.subspan(done, edit.begin - done));
    append(std::as_bytes(std::span(edit.bytes)));
    done = edit.end;
  }
  append(message.subspan(done));
  return out;
}

}  // namespace zerolane
