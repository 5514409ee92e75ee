// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace zerolane {

// A shared library opened at run time with local symbol scope. It is never closed: vendor libraries
// keep threads and thread-local destructors that do not survive it.
class DynLib {
 public:
  // Throws kUnavailable with the loader's own words.
  static DynLib open(const std::string& path);

  // The address of a symbol, or null.
  void* find(const char* symbol) const noexcept;
  // The file the library was really loaded from.
  const std::string& path() const noexcept { return path_; }

 private:
  DynLib(void* handle, std::string path);
  void* handle_;
  std::string path_;
};

}  // namespace zerolane
