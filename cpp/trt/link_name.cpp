// SPDX-License-Identifier: Apache-2.0
#include "trt/link_name.h"

#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <set>

#include "core/dynlib.h"
#include "core/error.h"

namespace zerolane::trt {
namespace {

#if defined(__x86_64__)
constexpr Elf64_Half kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr Elf64_Half kMachine = EM_AARCH64;
#else
constexpr Elf64_Half kMachine = EM_NONE;
#endif

// An empty shared library that has a name and needs another one. The loader finds open libraries by
// name, and looks up symbols in what they need.
struct Image {
  Elf64_Ehdr header;
  Elf64_Phdr parts[3];
  Elf64_Dyn dynamic[8];
  Elf64_Sym symbols[1];  // the null symbol
  uint32_t hash[4];
  char strings[256];
};

Image make_image(const std::string& name, const std::string& needed) {
  Image image{};
  Elf64_Ehdr& header = image.header;
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_DYN;
  header.e_machine = kMachine;
  header.e_version = EV_CURRENT;
  header.e_phoff = offsetof(Image, parts);
  header.e_ehsize = sizeof(Elf64_Ehdr);
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 3;
  image.parts[0] = {PT_LOAD, PF_R | PF_W, 0, 0, 0, sizeof(Image), sizeof(Image), 0x10000};
  image.parts[1] = {PT_DYNAMIC,
                    PF_R | PF_W,
                    offsetof(Image, dynamic),
                    offsetof(Image, dynamic),
                    offsetof(Image, dynamic),
                    sizeof(image.dynamic),
                    sizeof(image.dynamic),
                    alignof(Elf64_Dyn)};
  // Without this part the loader would make stacks executable.
  image.parts[2] = {PT_GNU_STACK, PF_R | PF_W, 0, 0, 0, 0, 0, 16};
  size_t name_at = 1;
  size_t needed_at = name_at + name.size() + 1;
  std::memcpy(image.strings + name_at, name.c_str(), name.size());
  std::memcpy(image.strings + needed_at, needed.c_str(), needed.size());
  image.hash[0] = 1;  // buckets, chains: one of each, both empty
  image.hash[1] = 1;
  const Elf64_Dyn dynamic[] = {
      {DT_NEEDED, {needed_at}},
      {DT_SONAME, {name_at}},
      {DT_HASH, {offsetof(Image, hash)}},
      {DT_STRTAB, {offsetof(Image, strings)}},
      {DT_STRSZ, {sizeof(image.strings)}},
      {DT_SYMTAB, {offsetof(Image, symbols)}},
      {DT_SYMENT, {sizeof(Elf64_Sym)}},
      {DT_NULL, {0}},
  };
  static_assert(sizeof(dynamic) == sizeof(image.dynamic));
  std::memcpy(image.dynamic, dynamic, sizeof(dynamic));
  return image;
}

std::mutex g_mutex;  // guards g_provided
std::set<std::string> g_provided;

}  // namespace

void provide_link_name(const std::string& link_name, const std::string& soname) {
  const std::string doing = "giving '" + soname + "' the name '" + link_name + "'";
  const std::string remedy = "make a link of that name beside the library";
  std::lock_guard lock(g_mutex);
  if (g_provided.count(link_name) != 0) return;
  if (link_name.size() + soname.size() + 3 > sizeof(Image::strings)) {
    throw make_error(Code::kInternal, doing, "the names are too long", remedy, link_name);
  }
  Image image = make_image(link_name, soname);
  int file = ::memfd_create(link_name.c_str(), MFD_CLOEXEC);
  if (file < 0 || ::write(file, &image, sizeof(image)) != static_cast<ssize_t>(sizeof(image))) {
    const std::string reason = std::strerror(errno);
    if (file >= 0) ::close(file);
    throw make_error(Code::kUnavailable, doing, "no memory file: " + reason, remedy, link_name);
  }
  try {
    // The loader remembers the path; this spelling is nobody else's.
    DynLib::open("/proc/self/./fd/" + std::to_string(file));
  } catch (...) {
    ::close(file);
    throw;
  }
  ::close(file);
  g_provided.insert(link_name);
}

}  // namespace zerolane::trt
