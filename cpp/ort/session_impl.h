// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/fork.h"
#include "core/session.h"
#include "ort/api.h"
#include "ort/gpu.h"
#include "ort/twin.h"

namespace zerolane::ort {

class SessionOps;
class TileOp;

class SessionImpl final : public Session {
 public:
  SessionImpl(Runtime& rt, Handle<OrtSession> session, std::string name, bool host_only,
              bool refuse_empty, std::unique_ptr<TwinKeeper> twins, std::shared_ptr<Gpu> gpu,
              bool graphs, std::shared_ptr<const SessionOps> ops,
              std::shared_ptr<const TileOp> tiles);
  ~SessionImpl() override;

  const std::string& name() const override { return name_; }
  const std::vector<TensorSpec>& inputs() const override { return inputs_; }
  size_t required_inputs() const override { return required_; }
  const std::vector<TensorSpec>& outputs() const override { return outputs_; }
  const ModelInfo& info() const override { return info_; }
  std::unique_ptr<Context> make_context() override;
  bool calls_python() const override;
  std::string end_profiling() override;

  Runtime& runtime() const { return rt_; }
  OrtSession* handle() const { return session_.get(); }
  // Every provider works on host memory in place, so bound inputs need not be handed over again for
  // each run.
  bool host_only() const { return host_only_; }
  // Empty inputs would end the process and could not be guarded inside the model (ORT-format
  // files).
  bool refuse_empty() const { return refuse_empty_; }
  // Null unless memory of a GPU is used in place.
  Gpu* gpu() const { return gpu_.get(); }
  const OrtMemoryInfo* gpu_memory() const { return gpu_memory_.get(); }
  // The CUDA provider captures the runs that are given a number.
  bool graphs() const { return graphs_; }
  // Where the model itself reads an input or leaves an output.
  enum class Place : uint8_t { kUnknown, kHost, kDevice };
  Place input_place(size_t index) const { return input_places_[index]; }
  Place output_place(size_t index) const { return output_places_[index]; }
  // The input that is this output as well, or kNotPassed: the library would leave the output's
  // memory as it was.
  static constexpr size_t kNotPassed = static_cast<size_t>(-1);
  size_t passed_input(size_t output) const { return passed_[output]; }
  // Where shapes go that this session must not run; null for a twin itself.
  TwinKeeper* twins() const { return twins_.get(); }

 private:
  void read_specs();
  void read_info();
  void read_places();
  std::string take_text(char* text) const;

  Runtime& rt_;
  std::shared_ptr<Gpu> gpu_;               // its stream outlives the library's session
  std::shared_ptr<const SessionOps> ops_;  // outlive the library's session; null: none are used
  std::shared_ptr<const TileOp> tiles_;    // the same
  Handle<OrtMemoryInfo> gpu_memory_;
  Handle<OrtSession> session_;
  std::string name_;
  bool host_only_;
  bool refuse_empty_;
  std::unique_ptr<TwinKeeper> twins_;
  bool graphs_;
  unsigned generation_;
  std::vector<TensorSpec> inputs_;
  size_t required_ = 0;
  std::vector<TensorSpec> outputs_;
  std::vector<size_t> passed_;  // an output: passed_input()
  ModelInfo info_;
  std::vector<Place> input_places_;
  std::vector<Place> output_places_;
  LiveCount live_{LiveKind::kSession};
};

// Loads a source with these options. A twin has no twins of its own.
std::shared_ptr<SessionImpl> load_model_source(Runtime& rt, const ModelSource& source,
                                               const Options& options, bool is_twin);

}  // namespace zerolane::ort
