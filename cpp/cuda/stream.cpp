// SPDX-License-Identifier: Apache-2.0
#include "cuda/stream.h"

#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "cuda/strided.h"

namespace zerolane::cuda {

CudaEvent::CudaEvent(CudaDevice& device, Options options) : device_(device) {
  refuse_after_fork();
  NativeEvent* made = nullptr;
  check(device.table().event_create(device.index(), options.timing ? 1 : 0,
                                    options.blocking ? 1 : 0, &made),
        {"cudaEventCreateWithFlags", device.index()});
  event_ = EventHandle(device.index(), made);
}

bool CudaEvent::reached() const {
  refuse_after_fork();
  const Table& table = device_.table();
  int32_t status = table.event_query(device_.index(), event_.get());
  if (status == 0) return true;
  if (table.status_kind(status) == StatusKind::kNotReady) return false;
  fail(status, {"cudaEventQuery", device_.index()});
}

void CudaEvent::wait() const {
  refuse_after_fork();
  check(device_.table().event_synchronize(device_.index(), event_.get()),
        {"cudaEventSynchronize", device_.index()});
}

void CudaEvent::record(NativeStream* stream) {
  refuse_after_fork();
  check(device_.table().event_record(device_.index(), event_.get(), stream),
        {"cudaEventRecord", device_.index()});
}

float elapsed_ms(const CudaEvent& from, const CudaEvent& to) {
  refuse_after_fork();
  float ms = 0;
  int device = from.device().index();
  check(from.device().table().event_elapsed_ms(device, from.native(), to.native(), &ms),
        {"cudaEventElapsedTime", device});
  return ms;
}

void CudaStream::Work::run() noexcept {
  try {
    body();
  } catch (...) {
    std::lock_guard lock(errors->mutex);
    if (!errors->first) errors->first = std::current_exception();
  }
}

CudaStream::CudaStream(CudaDevice& device, StreamHandle stream)
    : device_(device),
      owned_(std::move(stream)),
      native_(owned_.get()),
      errors_(std::make_shared<Errors>()),
      order_(device) {}

CudaStream::CudaStream(CudaDevice& device, NativeStream* native)
    : device_(device), native_(native), errors_(std::make_shared<Errors>()), order_(device) {}

CudaStream::~CudaStream() {
  if (!owned_ || forked()) return;
  const Table& table = device_.table();
  int32_t status = table.stream_synchronize(device_.index(), native_);
  if (status != 0) {
    log(LogLevel::kWarning, "cuda", "cudaStreamSynchronize",
        std::string("closing a stream of ") + device_.id().text() + ": " +
            table.error_name(status) + ": " + table.error_text(status));
  }
}

void CudaStream::enqueue(std::function<void()> body) {
  refuse_after_fork();
  if (!capturing_) {
    CaptureState state{};
    check(device_.table().capture_state(device_.index(), native_, &state),
          {"cudaStreamIsCapturing", device_.index()});
    if (state !=
        CaptureState::kNone) {  // the graph is another stream's, and could not own the work
      throw make_error(Code::kUnsupported, "enqueueing host work in a CUDA graph",
                       "this stream joined the capture of another by an event",
                       "enqueue it on the stream where the capture began");
    }
  }
  auto work = std::make_unique<Work>(Work{std::move(body), errors_});
  HostFunction function = nullptr;
  if (capturing_) {  // runs many times; the graph will own it
    function = [](void* argument) { static_cast<Work*>(argument)->run(); };
  } else {
    function = [](void* argument) {
      std::unique_ptr<Work> once(static_cast<Work*>(argument));
      once->run();
    };
  }
  check(device_.table().launch_host(device_.index(), native_, function, work.get()),
        {"cudaLaunchHostFunc", device_.index()});
  if (capturing_) {
    captured_.push_back(std::move(work));
  } else {
    (void)work.release();
  }
}

std::shared_ptr<zerolane::Event> CudaStream::record() {
  auto event = std::make_shared<CudaEvent>(device_);
  event->record(native_);
  return event;
}

void CudaStream::wait_for(std::shared_ptr<zerolane::Event> event) {
  refuse_after_fork();
  if (const auto* other = dynamic_cast<const CudaEvent*>(event.get())) {
    check(device_.table().stream_wait_event(device_.index(), native_, other->native()),
          {"cudaStreamWaitEvent", device_.index()});
    return;
  }
  if (capturing_) {
    throw make_error(Code::kUnsupported, "waiting for a host event in a CUDA graph",
                     "the event happens once and the graph runs many times",
                     "wait before the capture");
  }
  enqueue([event = std::move(event)] { event->wait(); });
}

void CudaStream::wait_for_stream(zerolane::Stream& producer) {
  if (producer.device_id() == device_id()) {
    wait_for_native(static_cast<NativeStream*>(producer.native_handle()));
  } else {
    wait_for(producer.record());
  }
}

void CudaStream::synchronize() {
  refuse_after_fork();
  check(device_.table().stream_synchronize(device_.index(), native_),
        {"cudaStreamSynchronize", device_.index()});
  std::exception_ptr error;
  {
    std::lock_guard lock(errors_->mutex);
    std::swap(error, errors_->first);
  }
  if (error) std::rethrow_exception(error);
}

bool CudaStream::idle() const {
  refuse_after_fork();
  const Table& table = device_.table();
  int32_t status = table.stream_query(device_.index(), native_);
  if (status == 0) return true;
  if (table.status_kind(status) == StatusKind::kNotReady) return false;
  fail(status, {"cudaStreamQuery", device_.index()});
}

void CudaStream::copy_async(void* to, const void* from, size_t bytes) {
  copy_async(to, from, bytes, CopyKind::kInfer);
}

void CudaStream::copy_async(void* to, const void* from, size_t bytes, CopyKind kind) {
  refuse_after_fork();
  if (bytes == 0) return;
  check(device_.table().copy_async(device_.index(), to, from, bytes, kind, native_),
        {"cudaMemcpyAsync", device_.index()});
}

void CudaStream::copy_strided_async(const StridedCopy& given) {
  refuse_after_fork();
  StridedCopy copy = simplify(given);
  if (copied_bytes(copy) == 0) return;
  if (is_block(copy)) {
    copy_async(copy.to, copy.from, copied_bytes(copy), CopyKind::kDeviceToDevice);
    return;
  }
  check(device_.table().copy_strided_async(device_.index(), &copy, native_),
        {"cudaLaunchKernel", device_.index()});
}

void CudaStream::fill_async(void* data, uint8_t byte, size_t bytes) {
  refuse_after_fork();
  if (bytes == 0) return;
  check(device_.table().fill_async(device_.index(), data, byte, bytes, native_),
        {"cudaMemsetAsync", device_.index()});
}

void CudaStream::wait_for_native(NativeStream* producer) {
  if (producer == native_) return;
  order_.record(producer);
  check(device_.table().stream_wait_event(device_.index(), native_, order_.native()),
        {"cudaStreamWaitEvent", device_.index()});
}

void CudaStream::release_to_native(NativeStream* consumer) {
  if (consumer == native_) return;
  order_.record(native_);
  check(device_.table().stream_wait_event(device_.index(), consumer, order_.native()),
        {"cudaStreamWaitEvent", device_.index()});
}

}  // namespace zerolane::cuda
