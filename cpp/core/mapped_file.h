// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace zerolane {

// A whole file mapped read-only. The bytes live as long as this object; whoever shortens the file
// meanwhile makes a reader fault, as with any mapping, so readers look at it only while loading.
class MappedFile {
 public:
  // Throws kNotFound (no such file, a folder, no right to read).
  static MappedFile open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }

 private:
  MappedFile(const std::byte* data, size_t size) : data_(data), size_(size) {}
  const std::byte* data_;
  size_t size_;
};

}  // namespace zerolane
