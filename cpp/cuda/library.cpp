// SPDX-License-Identifier: Apache-2.0
#include "cuda/library.h"

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <mutex>

#include "core/device.h"
#include "core/dynlib.h"
#include "core/error.h"
#include "core/fork.h"

namespace zerolane::cuda {
namespace {

constexpr const char* kFile = "libzerolane_cuda.so";

std::atomic<const Table*> opened{nullptr};
std::atomic<unsigned> opened_generation{0};

std::string version_text(int32_t version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

const Table& load() {
  std::string path = library_path();
  const char* chosen = std::getenv(kLibraryVariable);
  bool is_chosen = chosen != nullptr && *chosen != '\0';
  if (!is_chosen && ::access(path.c_str(), F_OK) != 0) {
    throw make_error(Code::kUnavailable, "opening zerolane's CUDA module",
                     "this build of zerolane has none ('" + path + "' does not exist)",
                     "install zerolane with ZEROLANE_CUDA=ON in the environment (it fetches nvcc "
                     "from PyPI), or use device='cpu'",
                     "cuda");
  }
  DynLib library = DynLib::open(path);
  auto table_of = reinterpret_cast<TableFunction>(library.find(kTableSymbol));
  const Table* table = table_of != nullptr ? table_of() : nullptr;
  if (table == nullptr || table->version != kTableVersion || table->bytes != sizeof(Table)) {
    throw make_error(Code::kUnavailable, "opening zerolane's CUDA module '" + path + "'",
                     table == nullptr
                         ? std::string("it exports no ") + kTableSymbol
                         : "its table has version " + std::to_string(table->version) + " and " +
                               std::to_string(table->bytes) + " bytes, expected version " +
                               std::to_string(kTableVersion) + " and " +
                               std::to_string(sizeof(Table)),
                     is_chosen ? std::string("point ") + kLibraryVariable +
                                     " to a module of this zerolane, or unset it"
                               : "install zerolane again, from one build",
                     path);
  }
  return *table;
}

std::string no_driver(const Table& table) {
  int32_t driver = 0;
  int32_t runtime = 0;
  if (table.driver_version(&driver) != 0) driver = 0;
  if (table.runtime_version(&runtime) != 0) runtime = 0;
  if (driver == 0) return "there is no NVIDIA driver on this machine (libcuda.so.1 does not open)";
  return "the NVIDIA driver is made for CUDA " + version_text(driver) + ", expected CUDA " +
         version_text(runtime) + " or later";
}

}  // namespace

std::string library_path() {
  const char* chosen = std::getenv(kLibraryVariable);
  if (chosen != nullptr && *chosen != '\0') return chosen;
  Dl_info info{};
  if (::dladdr(reinterpret_cast<void*>(&library_path), &info) == 0 || info.dli_fname == nullptr) {
    return kFile;
  }
  std::string self = info.dli_fname;
  size_t slash = self.rfind('/');
  return slash == std::string::npos ? kFile : self.substr(0, slash + 1) + kFile;
}

const Table& open_library() {
  const Table* table = opened.load(std::memory_order_acquire);
  if (table != nullptr) return *table;
  static std::mutex mutex;  // guards opening
  std::lock_guard lock(mutex);
  table = opened.load(std::memory_order_acquire);
  if (table == nullptr) {
    watch_forks();
    table = &load();
    opened_generation = fork_generation.load();
    opened.store(table, std::memory_order_release);
  }
  return *table;
}

const Table* opened_library() noexcept { return opened.load(std::memory_order_acquire); }

bool forked() noexcept {
  return opened_library() != nullptr &&
         forked_since(opened_generation.load(std::memory_order_relaxed));
}

void refuse_after_fork() {
  if (forked()) [[unlikely]] {
    throw make_error(Code::kUnavailable, "using CUDA",
                     "this process was forked after CUDA was opened, and CUDA does not survive it",
                     "start workers with the 'spawn' method, or open CUDA in the child only",
                     "cuda");
  }
}

void fail(int32_t status, const Call& call) {
  const Table& table = *opened_library();
  std::string subject = call.device < 0 ? "cuda" : DeviceId{DeviceKind::kCuda, call.device}.text();
  std::string doing = std::string("calling ") + call.name + " on " + subject;
  std::string found = std::string(table.error_name(status)) + " (" + std::to_string(status) +
                      "): " + table.error_text(status);
  switch (table.status_kind(status)) {
    case StatusKind::kOutOfMemory: {
      uint64_t free_bytes = 0;
      uint64_t total_bytes = 0;
      found += ", asked for " + std::to_string(call.bytes) + " bytes";
      if (call.device >= 0 && table.memory_info(call.device, &free_bytes, &total_bytes) == 0) {
        found += ", free on the device " + std::to_string(free_bytes) + " of " +
                 std::to_string(total_bytes) + " bytes";
      }
      throw make_error(Code::kOutOfMemory, doing, found,
                       "use smaller shapes or fewer lanes, or free other memory of the device",
                       subject);
    }
    case StatusKind::kNoDriver:
      throw make_error(Code::kUnavailable, doing, no_driver(table) + "; " + found,
                       "install or update the NVIDIA driver, or use device='cpu'", subject);
    case StatusKind::kNoDevice:
      throw make_error(Code::kUnavailable, doing, found,
                       "check the device number, CUDA_VISIBLE_DEVICES and nvidia-smi, or use "
                       "device='cpu'",
                       subject);
    case StatusKind::kFatal:
      throw make_error(Code::kDevice, doing, found,
                       "start the process again: its CUDA context is lost, and every later call "
                       "fails too",
                       subject);
    case StatusKind::kCapture:
      throw make_error(Code::kDevice, doing, found,
                       "run this work without a CUDA graph, or once before it is captured",
                       subject);
    case StatusKind::kInvalid:
      throw make_error(Code::kInternal, doing, found,
                       "check that streams and memory belong to this device and are still alive",
                       subject);
    default:
      throw make_error(Code::kDevice, doing, found,
                       "look at the NVIDIA driver's log (dmesg, nvidia-smi)", subject);
  }
}

}  // namespace zerolane::cuda
