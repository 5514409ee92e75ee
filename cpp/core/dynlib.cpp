// SPDX-License-Identifier: Apache-2.0
#include "core/dynlib.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <cstring>
#include <fstream>
#include <utility>

#include "core/error.h"

namespace zerolane {

namespace {

// Whether a 64-bit ELF file lacks parts that its program headers name. The loader would map it all
// the same, and the process would end with a bus error. Files that are no such ELF are left to the
// loader to refuse.
bool cut_off(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (path.find('/') == std::string::npos || !file) return false;
  auto size = static_cast<uint64_t>(file.tellg());
  Elf64_Ehdr header{};
  file.seekg(0);
  if (!file.read(reinterpret_cast<char*>(&header), sizeof(header))) return false;
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return false;
  if (header.e_ident[EI_CLASS] != ELFCLASS64) return false;
  file.seekg(static_cast<std::streamoff>(header.e_phoff));
  for (int i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr part{};
    if (!file.read(reinterpret_cast<char*>(&part), sizeof(part))) return true;
    uint64_t end = 0;
    bool overflow = __builtin_add_overflow(part.p_offset, part.p_filesz, &end);
    if (part.p_type == PT_LOAD && (overflow || end > size)) return true;
  }
  return false;
}

}  // namespace

DynLib::DynLib(void* handle, std::string path) : handle_(handle), path_(std::move(path)) {}

DynLib DynLib::open(const std::string& path) {
  if (cut_off(path)) {
    throw make_error(Code::kUnavailable, "opening library '" + path + "'",
                     "the file is shorter than its own table of contents says", "install it again",
                     path);
  }
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
