// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "trt/layer_profile.h"
#include "trt/session.h"

namespace zerolane::trt {

class SessionImpl final : public Session {
 public:
  SessionImpl(std::shared_ptr<Engine> engine, SessionSettings settings);

  const std::string& name() const override { return settings_.name; }
  const std::vector<TensorSpec>& inputs() const override { return inputs_; }
  size_t required_inputs() const override { return inputs_.size(); }
  const std::vector<TensorSpec>& outputs() const override { return outputs_; }
  const ModelInfo& info() const override { return settings_.info; }
  std::unique_ptr<Context> make_context() override;
  std::string end_profiling() override;

  Engine& engine() const noexcept { return *engine_; }
  const SessionSettings& settings() const noexcept { return settings_; }
  // Null when profiling is off.
  LayerProfile* profile() const noexcept { return profile_.get(); }

 private:
  TensorSpec make_spec(const IoTensor& tensor) const;

  std::shared_ptr<Engine> engine_;
  SessionSettings settings_;
  std::vector<TensorSpec> inputs_;
  std::vector<TensorSpec> outputs_;
  std::unique_ptr<LayerProfile> profile_;
  Verbosity verbosity_;
  LiveCount live_{LiveKind::kSession};
};

}  // namespace zerolane::trt
