// SPDX-License-Identifier: Apache-2.0
#include "runtime/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "core/error.h"

namespace zerolane {
namespace {

static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(sizeof(std::atomic<uint64_t>) == 8 && sizeof(std::atomic<int64_t>) == 8);
static_assert(std::is_standard_layout_v<SegmentHeader> && std::is_standard_layout_v<SegmentSlot>);
static_assert(offsetof(SegmentHeader, latest) == 320 && sizeof(SegmentHeader) == 384);
static_assert(sizeof(SegmentSlot) == 64);

// Bytes of the file that are locked: no data, the system only compares the numbers.
constexpr off_t kMakerLock = 0;
constexpr off_t kWriterLock = 1;
constexpr size_t kMostBytes = size_t{1} << 40;
constexpr int kTries = 16;  // of making a name whose last owner is going

std::string subject_of(const std::string& name) { return "mailbox '" + name + "'"; }

[[noreturn]] void throw_system(const std::string& doing, const std::string& name, int error) {
  const bool memory = error == ENOSPC || error == ENOMEM;
  throw make_error(memory ? Code::kOutOfMemory : Code::kUnavailable, doing + subject_of(name),
                   std::string("the system refused it: ") + std::strerror(error),
                   memory ? "free memory in /dev/shm, or give it more (docker: --shm-size)"
                          : "see that /dev/shm is mounted and writable for this user",
                   name);
}

struct File {
  int number;
  explicit File(int open) : number(open) {}
  ~File() {
    if (number >= 0) ::close(number);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int release() { return std::exchange(number, -1); }
};

// Every user has names of his own; what is no plain letter is written as %XX.
std::string path_of(const std::string& name) {
  std::string path = "/dev/shm/zerolane-" + std::to_string(::geteuid()) + "-";
  const size_t prefix = path.size();
  for (const unsigned char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '.' || c == '_' || c == '-';
    if (plain) {
      path += static_cast<char>(c);
    } else {
      constexpr const char* kDigits = "0123456789ABCDEF";
      path += '%';
      path += kDigits[c >> 4];
      path += kDigits[c & 15];
    }
  }
  if (name.empty() || path.size() - prefix > 200) {
    throw make_error(Code::kInvalidArgument, "naming a mailbox",
                     "'" + name + "' has " + std::to_string(path.size() - prefix) +
                         " characters as a file name, expected 1 to 200",
                     "give a short name of letters, digits, '.', '_', '-' and '/'", name);
  }
  return path;
}

struct flock lock_on(off_t byte, short type) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

bool take_lock(int file, off_t byte) {
  struct flock lock = lock_on(byte, F_WRLCK);
  return ::fcntl(file, F_OFD_SETLK, &lock) == 0;
}

void* map(int file, size_t bytes, bool writable) {
  const int kind = file < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
  void* data = ::mmap(nullptr, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                      kind | MAP_POPULATE, file, 0);
  return data == MAP_FAILED ? nullptr : data;
}

void fill_header(void* data, const SegmentLayout& layout) {
  auto* header = new (data) SegmentHeader{};
  header->magic = SegmentHeader::kMagic;
  header->version = SegmentHeader::kVersion;
  header->slots = SegmentHeader::kSlots;
  header->total_bytes = layout.total_bytes;
  header->slot_bytes = layout.slot_bytes;
  header->payload_bytes = layout.payload_bytes;
  header->dtype = static_cast<uint32_t>(layout.dtype);
  header->rank = static_cast<uint32_t>(layout.shape.rank());
  header->maker = ::getpid();
  for (size_t i = 0; i < layout.shape.rank(); ++i) header->dims[i] = layout.shape[i];
}

// Removes a file that its maker left behind. False where the maker lives.
bool remove_dead(const std::string& path) {
  File old(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (old.number < 0) return errno == ENOENT;
  if (!take_lock(old.number, kMakerLock)) return false;
  // The lock says that the maker of this file is dead; the name may be another's by now.
  struct stat mine{};
  struct stat named{};
  if (::fstat(old.number, &mine) == 0 && ::stat(path.c_str(), &named) == 0 &&
      mine.st_ino == named.st_ino && mine.st_dev == named.st_dev) {
    ::unlink(path.c_str());
  }
  return true;
}

[[noreturn]] void refuse(const std::string& name, const std::string& found) {
  throw make_error(Code::kInvalidArgument, "opening " + subject_of(name), found,
                   "let this release of zerolane make it anew, and delete what a crash left in "
                   "/dev/shm",
                   name);
}

// `header` is a copy, so that nobody changes it after it was looked at.
SegmentLayout checked(const SegmentHeader& header, size_t file_bytes, const std::string& name) {
  auto differs = [&](const char* what, uint64_t found, uint64_t expected) {
    refuse(name, std::string("its ") + what + " is " + std::to_string(found) + ", expected " +
                     std::to_string(expected));
  };
  if (header.magic != SegmentHeader::kMagic) {
    refuse(name, "the memory under this name does not begin as a mailbox does");
  }
  if (header.version != SegmentHeader::kVersion) {
    differs("layout version", header.version, SegmentHeader::kVersion);
  }
  if (header.rank > kMaxRank) differs("number of dimensions", header.rank, kMaxRank);
  if (header.dtype >= kDTypeCount) differs("element type", header.dtype, kDTypeCount - 1);
  SegmentLayout layout;
  try {
    layout = SegmentLayout::of(static_cast<DType>(header.dtype),
                               Shape(std::span(header.dims, header.rank)));
  } catch (const Error& error) {
    refuse(name, "its header is damaged (" + error.message() + ")");
  }
  if (header.slots != SegmentHeader::kSlots) {
    differs("number of slots", header.slots, SegmentHeader::kSlots);
  }
  if (header.payload_bytes != layout.payload_bytes) {
    differs("size of a message", header.payload_bytes, layout.payload_bytes);
  }
  if (header.slot_bytes != layout.slot_bytes) {
    differs("size of a slot", header.slot_bytes, layout.slot_bytes);
  }
  if (header.total_bytes != layout.total_bytes) {
    differs("size", header.total_bytes, layout.total_bytes);
  }
  if (file_bytes < layout.total_bytes) differs("file's size", file_bytes, layout.total_bytes);
  return layout;
}

}  // namespace

SegmentLayout SegmentLayout::of(DType dtype, const Shape& shape) {
  if (!is_plain(dtype)) {
    throw make_error(Code::kUnsupported, "laying out a mailbox",
                     "its elements are " + std::string(dtype_name(dtype)) +
                         ", which have no fixed number of whole bytes",
                     "use elements of 8 bits or more");
  }
  SegmentLayout layout;
  layout.dtype = dtype;
  layout.shape = shape;
  const size_t count = shape.count();
  if (count > kMostBytes) {
    throw make_error(Code::kOutOfMemory, "laying out a mailbox",
                     "shape " + shape.text() + " is above 2^40 elements", "give a smaller shape");
  }
  layout.payload_bytes = dtype_bytes(dtype, count);
  layout.slot_bytes = sizeof(SegmentSlot) + ((layout.payload_bytes + 63) & ~size_t{63});
  layout.total_bytes = sizeof(SegmentHeader) + SegmentHeader::kSlots * layout.slot_bytes;
  return layout;
}

Segment Segment::make_unnamed(const SegmentLayout& layout) {
  void* data = map(-1, layout.total_bytes, true);
  if (data == nullptr) throw_system("making ", "", errno);
  fill_header(data, layout);
  return {-1, data, layout.total_bytes};
}

Segment Segment::make_named(const std::string& name, const SegmentLayout& layout) {
  const std::string path = path_of(name);
  // It gets its name when it is whole, so that nobody opens half a header.
  File file(::open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (file.number < 0) throw_system("making ", name, errno);
  // Memory is set aside now: a write into a full /dev/shm would end the process.
  const int failed = ::posix_fallocate(file.number, 0, static_cast<off_t>(layout.total_bytes));
  if (failed != 0) throw_system("making ", name, failed);
  if (!take_lock(file.number, kMakerLock)) throw_system("locking ", name, errno);
  void* data = map(file.number, layout.total_bytes, true);
  if (data == nullptr) throw_system("mapping ", name, errno);
  fill_header(data, layout);
  Segment segment(-1, data, layout.total_bytes);
  const std::string open_file = "/proc/self/fd/" + std::to_string(file.number);
  for (int i = 0; i < kTries; ++i) {
    if (::linkat(AT_FDCWD, open_file.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) {
      segment.file_ = file.release();
      return segment;
    }
    if (errno != EEXIST) throw_system("naming ", name, errno);
    if (!remove_dead(path)) break;
  }
  throw make_error(Code::kInvalidArgument, "making " + subject_of(name),
                   "a living process has one of this name",
                   "choose another name, or end that process", name);
}

Segment Segment::open(const std::string& name, SegmentLayout* layout) {
  const std::string path = path_of(name);
  File file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (file.number < 0 && errno == ENOENT) {
    throw make_error(Code::kNotFound, "opening " + subject_of(name), "there is none of this name",
                     "start the process that makes it first, and compare the names", name);
  }
  if (file.number < 0) throw_system("opening ", name, errno);
  struct stat state{};
  if (::fstat(file.number, &state) != 0) throw_system("opening ", name, errno);
  if (!S_ISREG(state.st_mode) || state.st_uid != ::geteuid()) {
    refuse(name, "what has its name is no file of this user");
  }
  const auto bytes = static_cast<size_t>(state.st_size);
  if (bytes < sizeof(SegmentHeader)) {
    refuse(name, "it has " + std::to_string(bytes) + " bytes, expected at least " +
                     std::to_string(sizeof(SegmentHeader)));
  }
  alignas(SegmentHeader) std::byte copy[sizeof(SegmentHeader)];
  if (::pread(file.number, copy, sizeof copy, 0) != static_cast<ssize_t>(sizeof copy)) {
    throw_system("reading ", name, errno);
  }
  *layout = checked(*std::launder(reinterpret_cast<SegmentHeader*>(copy)), bytes, name);
  void* data = map(file.number, layout->total_bytes, false);
  if (data == nullptr) throw_system("mapping ", name, errno);
  return {file.release(), data, layout->total_bytes};
}

Segment::Segment(Segment&& other) noexcept
    : file_(std::exchange(other.file_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(other.bytes_) {}

Segment::~Segment() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
  if (file_ >= 0) ::close(file_);
}

bool Segment::lock_writer(const std::string& name) {
  if (file_ < 0) return true;
  if (!take_lock(file_, kWriterLock)) return false;
  if (::mprotect(data_, bytes_, PROT_READ | PROT_WRITE) != 0) throw_system("opening ", name, errno);
  return true;
}

bool Segment::has_maker() const noexcept {
  if (file_ < 0) return true;
  struct flock lock = lock_on(kMakerLock, F_WRLCK);
  return ::fcntl(file_, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

void Segment::unlink(const std::string& name) const noexcept {
  try {
    ::unlink(path_of(name).c_str());
  } catch (...) {  // no memory for the path: the name stays until somebody makes it anew
  }
}

}  // namespace zerolane
