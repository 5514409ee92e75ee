// SPDX-License-Identifier: Apache-2.0
#include "core/dynlib.h"

#include <dlfcn.h>
#include <link.h>

#include <utility>

#include "core/error.h"

namespace zerolane {

DynLib::DynLib(void* handle, std::string path) : handle_(handle), path_(std::move(path)) {}

DynLib DynLib::open(const std::string& path) {
  void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* reason = ::dlerror();
    throw make_error(Code::kUnavailable, "opening library '" + path + "'",
                     reason != nullptr ? reason : "the loader gave no reason",
                     "check the path and that the file is a shared library for this machine", path);
  }
  link_map* map = nullptr;
  std::string real = path;
  if (::dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map != nullptr && map->l_name != nullptr &&
      map->l_name[0] != '\0') {
    real = map->l_name;
  }
  return DynLib(handle, std::move(real));
}

void* DynLib::find(const char* symbol) const noexcept { return ::dlsym(handle_, symbol); }

}  // namespace zerolane
