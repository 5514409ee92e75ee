// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ort/api.h"
#include "ort/gpu.h"
#include "ort/load_checks.h"
#include "registry/library.h"

namespace zerolane::ort {

// The ops of one session as ONNX Runtime's custom ops: for each op that the model uses and a
// library defines, a record for each combination of element types, on the CPU and, with the CUDA
// provider, on its GPU. Must outlive the session.
class SessionOps {
 public:
  // `gpu`: null without the CUDA provider. Ops that nobody has defined are left to the library.
  SessionOps(const Runtime& rt, const std::vector<OpUse>& uses, std::shared_ptr<Gpu> gpu,
             const std::string& model);
  ~SessionOps();
  SessionOps(const SessionOps&) = delete;
  SessionOps& operator=(const SessionOps&) = delete;

  void add_to(OrtSessionOptions* options) const;
  // Uses that no library has defined: "my::Scale, my::Other", or "".
  const std::string& missing() const { return missing_; }
  // Some op was defined by this process itself: in Python.
  bool in_process() const { return in_process_; }

 private:
  struct Record;
  struct Kernel;

  void add_records(OrtCustomOpDomain* domain, const OpEntry& entry);
  void add_record(OrtCustomOpDomain* domain, const OpEntry& entry, std::vector<DType> types,
                  bool cuda);

  const Runtime& rt_;
  std::shared_ptr<Gpu> gpu_;
  std::string model_;
  std::string missing_;
  bool in_process_ = false;
  std::vector<std::unique_ptr<Record>> records_;
  std::vector<Handle<OrtCustomOpDomain>> domains_;
};

}  // namespace zerolane::ort
