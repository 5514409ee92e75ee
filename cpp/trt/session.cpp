// SPDX-License-Identifier: Apache-2.0
#include "trt/session.h"

#include <cstdio>
#include <utility>

#include "core/error.h"
#include "trt/context.h"
#include "trt/session_impl.h"

namespace zerolane::trt {

SessionImpl::SessionImpl(std::shared_ptr<Engine> engine, SessionSettings settings)
    : engine_(std::move(engine)),
      settings_(std::move(settings)),
      verbosity_(engine_->library().logger, settings_.log_level) {
  for (const IoTensor& tensor : engine_->inputs()) inputs_.push_back(make_spec(tensor));
  for (const IoTensor& tensor : engine_->outputs()) outputs_.push_back(make_spec(tensor));
  if (!settings_.profile.empty()) profile_ = std::make_unique<LayerProfile>();
}

TensorSpec SessionImpl::make_spec(const IoTensor& tensor) const {
  TensorSpec spec;
  spec.name = tensor.name;
  spec.dtype = tensor.dtype;
  spec.has_shape = true;
  spec.type = "tensor(" + std::string(dtype_name(tensor.dtype)) + ")";
  auto named = settings_.symbols.find(tensor.name);
  for (size_t d = 0; d < tensor.shape.size(); ++d) {
    Dim dim;
    dim.value = tensor.shape[d];
    if (dim.value < 0 && named != settings_.symbols.end() && d < named->second.size()) {
      dim.symbol = named->second[d];
    }
    spec.shape.push_back(std::move(dim));
  }
  return spec;
}

std::unique_ptr<Context> SessionImpl::make_context() {
  return std::make_unique<ContextImpl>(std::static_pointer_cast<SessionImpl>(shared_from_this()));
}

std::string SessionImpl::end_profiling() {
  if (!profile_) return {};
  std::string path = settings_.profile + "_layers.json";
  std::string text = profile_->json();
  std::FILE* file = std::fopen(path.c_str(), "w");
  bool written = file != nullptr && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (file != nullptr) written &= std::fclose(file) == 0;
  if (!written) {
    throw make_error(Code::kNotFound, "writing the layers' times of " + name(),
                     "'" + path + "' cannot be written", "give a prefix in a folder that can be",
                     path);
  }
  return path;
}

std::shared_ptr<Session> make_session(std::shared_ptr<Engine> engine, SessionSettings settings) {
  return std::make_shared<SessionImpl>(std::move(engine), std::move(settings));
}

Engine* engine_of(Session& session) noexcept {
  auto* impl = dynamic_cast<SessionImpl*>(&session);
  return impl != nullptr ? &impl->engine() : nullptr;
}

}  // namespace zerolane::trt
