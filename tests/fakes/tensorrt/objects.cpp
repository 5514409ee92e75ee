// SPDX-License-Identifier: Apache-2.0
#include "objects.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fake {
namespace {

constexpr size_t kSlots = 128;

std::map<std::string, void*>& methods() {
  static auto* map = new std::map<std::string, void*>;
  return *map;
}

[[noreturn]] void unexpected() {
  std::fputs("the stand-in of TensorRT: a slot was called that it does not play\n", stderr);
  std::abort();
}

using Table = std::vector<const void*>;

void place(std::map<std::string, Table>* tables, const char* klass, const char* method,
           size_t slot) {
  Table& table = (*tables)[klass];
  table.resize(kSlots, reinterpret_cast<const void*>(&unexpected));
  auto found = methods().find(std::string(klass) + "." + method);
  if (found != methods().end()) table[slot] = found->second;
}

std::map<std::string, Table>* make_tables() {
  auto* tables = new std::map<std::string, Table>;
  constexpr int minor = FAKE_MINOR;
#define ZL_TRT_SLOT(klass, method, slot, since) \
  if (minor >= (since)) place(tables, #klass, #method, slot);
#define ZL_TRT_SLOT_ONLY(klass, method, slot, only) \
  if (minor == (only)) place(tables, #klass, #method, slot);
#define ZL_TRT_NUMBER(enumeration, enumerator, number, since)
#if FAKE_FAMILY == 10
#include "tensorrt/tensorrt_10.inc"
#elif FAKE_FAMILY == 11
#include "tensorrt/tensorrt_11.inc"
#else
#include "tensorrt/tensorrt_rtx_1.inc"
#endif
#undef ZL_TRT_SLOT
#undef ZL_TRT_SLOT_ONLY
#undef ZL_TRT_NUMBER
  return tables;
}

void destroy(Public* object) { delete object->implementation->self; }

const void* const kOwnTable[2] = {reinterpret_cast<const void*>(&unexpected),
                                  reinterpret_cast<const void*>(&destroy)};

}  // namespace

Method::Method(const char* name, void* function) { methods()[name] = function; }

const void* const* table_of(const char* klass) {
  static std::map<std::string, Table>* tables = make_tables();
  Table& table = (*tables)[klass];
  table.resize(kSlots, reinterpret_cast<const void*>(&unexpected));
  return table.data();
}

Base::Base(const char* name) : klass(name) {
  callee = {table_of(name), this};
  handle = {kOwnTable, &callee};
  ++number(std::string("live.") + klass);
  ++number(std::string("made.") + klass);
}

Base::~Base() { --number(std::string("live.") + klass); }

std::atomic<int64_t>& number(const std::string& name) {
  static std::mutex mutex;
  static auto* numbers = new std::map<std::string, std::atomic<int64_t>>;
  std::lock_guard lock(mutex);
  return (*numbers)[name];
}

bool planned(const char* name) {
  std::atomic<int64_t>& left = number(name);
  int64_t value = left.load();
  while (value > 0) {
    if (left.compare_exchange_weak(value, value - 1)) return true;
  }
  return false;
}

const cuda::Table& cuda_table() {
  static const cuda::Table* table = [] {
    const char* path = std::getenv("ZEROLANE_CUDA_LIBRARY");
    void* library = path != nullptr ? ::dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
    void* get = library != nullptr ? ::dlsym(library, cuda::kTableSymbol) : nullptr;
    if (get == nullptr) {
      std::fputs("the stand-in of TensorRT: ZEROLANE_CUDA_LIBRARY names no CUDA module\n", stderr);
      std::abort();
    }
    return reinterpret_cast<cuda::TableFunction>(get)();
  }();
  return *table;
}

void Reporter::error(ErrorCode code, const std::string& text) const {
  if (recorder != nullptr) recorder->reportError(code, text.c_str());
  if (logger == nullptr) return;
#if FAKE_FAMILY == 10
  static_cast<Logger10*>(logger)->log(Severity::kError, text.c_str());
#else
  static_cast<Logger*>(logger)->log(Severity::kError, text.c_str());
#endif
}

void Reporter::set(ErrorRecorder* to) {
  if (to != nullptr) to->incRefCount();
  if (recorder != nullptr) recorder->decRefCount();
  recorder = to;
}

Dims to_dims(const std::vector<int64_t>& dims) {
  Dims out;
  out.nbDims = static_cast<int32_t>(dims.size());
  for (size_t i = 0; i < dims.size(); ++i) out.d[i] = dims[i];
  return out;
}

std::vector<int64_t> from_dims(const Dims& dims) { return {dims.d, dims.d + dims.nbDims}; }

}  // namespace fake

extern "C" {
__attribute__((visibility("default"))) int64_t zerolane_fake_trt_get(const char* name) {
  return fake::number(name).load();
}
__attribute__((visibility("default"))) void zerolane_fake_trt_set(const char* name, int64_t value) {
  fake::number(name).store(value);
}
}
