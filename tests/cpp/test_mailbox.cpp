// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/metrics.h"
#include "runtime/mailbox.h"

using namespace zerolane;

namespace {

std::string own_name(const char* part) { return "test-" + std::to_string(::getpid()) + "/" + part; }

std::string path_of(const std::string& name) {
  std::string file = name;
  for (size_t at = 0; (at = file.find('/', at)) != std::string::npos;) file.replace(at, 1, "%2F");
  return "/dev/shm/zerolane-" + std::to_string(::geteuid()) + "-" + file;
}

Code open_error(const std::string& name) {
  try {
    Mailbox::open(name);
  } catch (const Error& error) {
    CHECK(error.message().find(": ") != std::string::npos);
    CHECK(error.message().find("; ") != std::string::npos);
    return error.code();
  }
  FAIL("opened");
  return Code::kInternal;
}

// Changes bytes of a mailbox's file as its maker never would.
void scribble(const std::string& name, size_t offset, uint64_t value, size_t bytes) {
  int file = ::open(path_of(name).c_str(), O_RDWR);
  REQUIRE(file >= 0);
  REQUIRE(::pwrite(file, &value, bytes, static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes));
  ::close(file);
}

}  // namespace

TEST_CASE("mailbox: the newest message wins, and tells its number and times") {
  auto box = Mailbox::make("", DType::kUInt8, Shape{3, 7});  // no multiple of a word
  box->claim();
  std::vector<uint8_t> data(21);
  std::vector<uint8_t> got(22, 77);
  Message message;
  CHECK(box->latest() == 0);
  CHECK_FALSE(box->read(got.data(), &message));
  CHECK(got[0] == 77);
  const int64_t before = now_ns();
  for (uint8_t round = 1; round <= 11; ++round) {
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<uint8_t>(round * 10 + i);
    CHECK(box->write(data.data()) == round);
  }
  CHECK(box->read(got.data(), &message));
  CHECK(std::memcmp(got.data(), data.data(), 21) == 0);
  CHECK(got[21] == 77);
  CHECK(message.sequence == 11);
  CHECK(message.written_ns >= before);
  CHECK(message.written_ns <= now_ns());
  CHECK(message.origin_ns == message.written_ns);
  CHECK_FALSE(message.safe);
  box->write(data.data(), 1234, true);
  CHECK(box->read(got.data(), &message));
  CHECK(message.origin_ns == 1234);
  CHECK(message.safe);
}

TEST_CASE("mailbox: one writer") {
  auto box = Mailbox::make("", DType::kFloat32, Shape{1});
  box->claim();
  CHECK_THROWS_AS(box->claim(), Error);
  const std::string name = own_name("one");
  auto maker = Mailbox::make(name, DType::kFloat32, Shape{1});
  auto other = Mailbox::open(name);
  maker->claim();
  CHECK_THROWS_AS(other->claim(), Error);
  CHECK_THROWS_AS(other->claim(), Error);  // a refusal claims nothing
}

TEST_CASE("mailbox: opened by name, and gone with its maker") {
  const std::string name = own_name("named");
  auto maker = Mailbox::make(name, DType::kInt64, Shape{2, 0});
  CHECK(maker->bytes() == 0);
  maker = nullptr;
  CHECK(open_error(name) == Code::kNotFound);
  maker = Mailbox::make(name, DType::kInt64, Shape{2, 3});
  auto reader = Mailbox::open(name);
  CHECK(reader->dtype() == DType::kInt64);
  CHECK(reader->shape() == Shape{2, 3});
  CHECK_FALSE(reader->orphaned());
  CHECK_THROWS_AS(Mailbox::make(name, DType::kInt64, Shape{2, 3}), Error);
  maker->claim();
  const int64_t data[6] = {1, 2, 3, 4, 5, 6};
  maker->write(data);
  maker = nullptr;
  CHECK(reader->orphaned());
  int64_t got[6] = {};
  Message message;
  CHECK(reader->read(got, &message));
  CHECK(std::memcmp(got, data, sizeof data) == 0);
  CHECK(open_error(name) == Code::kNotFound);
}

TEST_CASE("mailbox: at the end of a process its names go, and those of others stay") {
  const std::string name = own_name("exit");
  auto box = Mailbox::make(name, DType::kUInt8, Shape{5});
  Mailbox::unlink_all();
  CHECK(open_error(name) == Code::kNotFound);
  auto next = Mailbox::make(name, DType::kUInt8, Shape{6});
  box = nullptr;  // not the name of the next one
  CHECK(Mailbox::open(name)->shape() == Shape{6});
}

TEST_CASE("mailbox: names and elements that cannot be") {
  CHECK_THROWS_AS(Mailbox::open(""), Error);
  CHECK_THROWS_AS(Mailbox::make(std::string(201, 'x'), DType::kFloat32, Shape{1}), Error);
  CHECK_THROWS_AS(Mailbox::make("", DType::kString, Shape{1}), Error);
  CHECK_THROWS_AS(Mailbox::make("", DType::kInt4, Shape{2}), Error);
  CHECK_THROWS_AS(Mailbox::make("", DType::kUInt8, Shape{int64_t{1} << 40, 1 << 20}), Error);
  const std::string odd = own_name("../\x01 \xff%");
  auto box = Mailbox::make(odd, DType::kBool, Shape{});
  CHECK(Mailbox::open(odd)->bytes() == 1);
}

TEST_CASE("mailbox: a hostile segment is refused or read, never trusted") {
  const std::string name = own_name("hostile");
  struct Field {
    size_t offset;
    size_t bytes;
  };
  const Field fields[] = {
      {offsetof(SegmentHeader, magic), 8},      {offsetof(SegmentHeader, version), 4},
      {offsetof(SegmentHeader, slots), 4},      {offsetof(SegmentHeader, total_bytes), 8},
      {offsetof(SegmentHeader, slot_bytes), 8}, {offsetof(SegmentHeader, payload_bytes), 8},
      {offsetof(SegmentHeader, dtype), 4},      {offsetof(SegmentHeader, rank), 4},
      {offsetof(SegmentHeader, dims), 8},
  };
  const uint64_t values[] = {0, 5, uint64_t{1} << 31, uint64_t{1} << 63, ~uint64_t{0}};
  for (const Field& field : fields) {
    for (uint64_t value : values) {
      auto maker = Mailbox::make(name, DType::kFloat32, Shape{3});
      scribble(name, field.offset, value, field.bytes);
      CHECK(open_error(name) == Code::kInvalidArgument);
    }
  }
  auto maker = Mailbox::make(name, DType::kFloat32, Shape{3});
  maker->claim();
  float data[3] = {1, 2, 3};
  maker->write(data);
  for (uint64_t latest : {uint64_t{2}, uint64_t{1} << 63, ~uint64_t{0}}) {
    scribble(name, offsetof(SegmentHeader, latest), latest, 8);
    Message message;
    CHECK_THROWS_AS(Mailbox::open(name)->read(data, &message), Error);
    maker->write(data);  // comes back into order
    maker->write(data);
  }
  Message message;
  CHECK(maker->read(data, &message));
}

TEST_CASE("mailbox: files that are no mailboxes") {
  const std::string name = own_name("file");
  const std::string path = path_of(name);
  for (size_t bytes : {size_t{0}, size_t{1}, sizeof(SegmentHeader) - 1, size_t{5000}}) {
    int file = ::open(path.c_str(), O_CREAT | O_RDWR | O_TRUNC, 0600);
    REQUIRE(::ftruncate(file, static_cast<off_t>(bytes)) == 0);
    ::close(file);
    CHECK(open_error(name) == Code::kInvalidArgument);
  }
  auto whole = Mailbox::make(name, DType::kFloat32, Shape{1000});  // takes the dead file's place
  REQUIRE(::truncate(path.c_str(), sizeof(SegmentHeader) + 64) == 0);
  CHECK(open_error(name) == Code::kInvalidArgument);
  REQUIRE(::truncate(path.c_str(), 100000) == 0);  // ours again, or its maker would fault
  whole = nullptr;
  REQUIRE(::symlink("/dev/zero", path.c_str()) == 0);
  CHECK(open_error(name) == Code::kUnavailable);
  ::unlink(path.c_str());
}

TEST_CASE("mailbox: readers see whole messages only, whatever the writer does") {
  const std::string name = own_name("torn");
  auto writer = Mailbox::make(name, DType::kUInt32, Shape{257});
  writer->claim();
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> torn{0};
  std::atomic<uint64_t> backwards{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&, i] {
      auto box = i == 0 ? writer : Mailbox::open(name);
      std::vector<uint32_t> got(257);
      uint64_t last = 0;
      while (!stop) {
        Message message;
        if (!box->read(got.data(), &message)) continue;
        for (uint32_t value : got) torn += value != static_cast<uint32_t>(message.sequence);
        backwards += message.sequence < last;
        last = message.sequence;
      }
    });
  }
  std::vector<uint32_t> data(257);
  for (uint32_t n = 1; n <= 20000; ++n) {
    std::fill(data.begin(), data.end(), n);
    writer->write(data.data());
    if (n % 64 == 0) std::this_thread::yield();
  }
  stop = true;
  for (auto& reader : readers) reader.join();
  CHECK(torn == 0);
  CHECK(backwards == 0);
}

TEST_CASE("mailbox: a wait ends with a message, in time, and when woken") {
  auto box = Mailbox::make("", DType::kFloat64, Shape{1});
  box->claim();
  CHECK_FALSE(box->wait(0, now_ns() + 1000000));
  double value = 3;
  std::thread writer([&] { box->write(&value); });
  while (!box->wait(0, now_ns() + 1000000000)) {
  }
  writer.join();
  CHECK(box->wait(0, 0));
  CHECK_FALSE(box->wait(1, now_ns() - 1));
  std::atomic<bool> back{false};
  std::thread waiter([&] {
    box->wait(1, INT64_MAX / 2);
    back = true;
  });
  while (!back) {
    box->wake();
    std::this_thread::yield();
  }
  waiter.join();
}

// Not under the thread sanitizer, which follows no fork of a process with threads.
#if !defined(__SANITIZE_THREAD__)
TEST_CASE("mailbox: a writer that is killed leaves a whole message and a free place") {
  const std::string name = own_name("killed");
  for (int round = 0; round < 20; ++round) {
    auto reader = Mailbox::make(name, DType::kUInt64, Shape{511});
    pid_t child = ::fork();
    if (child == 0) {
      auto box = Mailbox::open(name);
      box->claim();
      std::vector<uint64_t> data(511);
      for (uint64_t n = 1;; ++n) {
        std::fill(data.begin(), data.end(), n);
        box->write(data.data());
      }
    }
    while (!reader->wait(50 + 37 * round, now_ns() + 1000000000)) {
    }
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    std::vector<uint64_t> got(511);
    Message message;
    REQUIRE(reader->read(got.data(), &message));
    CHECK(got == std::vector<uint64_t>(511, message.sequence));
    reader->claim();
    const uint64_t next = reader->write(got.data());
    CHECK(next == message.sequence + 1);
    CHECK(reader->read(got.data(), &message));
    CHECK(message.sequence == next);
  }
}

TEST_CASE("mailbox: a name left by a killed maker is taken over") {
  const std::string name = own_name("left");
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  pid_t child = ::fork();
  if (child == 0) {
    auto box = Mailbox::make(name, DType::kUInt8, Shape{5});
    if (::write(ready[1], "x", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  auto reader = Mailbox::open(name);
  CHECK_FALSE(reader->orphaned());
  CHECK_THROWS_AS(Mailbox::make(name, DType::kUInt8, Shape{6}), Error);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  CHECK(reader->orphaned());
  auto again = Mailbox::make(name, DType::kUInt8, Shape{6});
  CHECK(Mailbox::open(name)->shape() == Shape{6});
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_CASE("mailbox: a forked child reads, and its end takes nothing away") {
  const std::string name = own_name("forked");
  auto box = Mailbox::make(name, DType::kInt32, Shape{1});
  box->claim();
  int32_t value = 41;
  box->write(&value);
  pid_t child = ::fork();
  if (child == 0) {
    Message message;
    int32_t got = 0;
    const bool good = box->read(&got, &message) && got == 41;
    box = nullptr;
    ::_exit(good ? 0 : 1);
  }
  int status = 1;
  ::waitpid(child, &status, 0);
  CHECK(status == 0);
  CHECK(Mailbox::open(name)->latest() == 1);
}
#endif
