// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "core/fork.h"
#include "core/session.h"
#include "ort/api.h"

namespace zerolane::ort {

class SessionImpl final : public Session {
 public:
  SessionImpl(Runtime& rt, Handle<OrtSession> session, std::string name, bool host_only,
              bool refuse_empty);
  ~SessionImpl() override;

  const std::string& name() const override { return name_; }
  const std::vector<TensorSpec>& inputs() const override { return inputs_; }
  size_t required_inputs() const override { return required_; }
  const std::vector<TensorSpec>& outputs() const override { return outputs_; }
  const ModelInfo& info() const override { return info_; }
  std::unique_ptr<Context> make_context() override;
  std::string end_profiling() override;

  Runtime& runtime() const { return rt_; }
  OrtSession* handle() const { return session_.get(); }
  // Every provider works on host memory in place, so bound inputs need not be handed over again for
  // each run.
  bool host_only() const { return host_only_; }
  // Empty inputs would end the process and could not be guarded inside the model (ORT-format
  // files).
  bool refuse_empty() const { return refuse_empty_; }

 private:
  void read_specs();
  void read_info();
  std::string take_text(char* text) const;

  Runtime& rt_;
  Handle<OrtSession> session_;
  std::string name_;
  bool host_only_;
  bool refuse_empty_;
  unsigned generation_;
  std::vector<TensorSpec> inputs_;
  size_t required_ = 0;
  std::vector<TensorSpec> outputs_;
  ModelInfo info_;
  LiveCount live_{LiveKind::kSession};
};

}  // namespace zerolane::ort
