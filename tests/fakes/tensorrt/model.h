// SPDX-License-Identifier: Apache-2.0
// The arithmetic of the stand-in: an ONNX model run by ONNX Runtime on plain memory.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace fake {

// Memory in, by name; types are TensorRT's numbers.
struct ModelInput {
  std::string name;
  int32_t type;
  std::vector<int64_t> dims;
  const void* data;
};

struct ModelOutput {
  std::vector<int64_t> dims;
  std::string bytes;
};

struct NewWeights {
  int32_t type;
  std::vector<int64_t> dims;
  std::string bytes;
};

int64_t volume(const std::vector<int64_t>& dims);
int64_t bytes_of(int32_t type, const std::vector<int64_t>& dims);

// Immutable. Any thread.
class Model {
 public:
  // Throws std::runtime_error. `weights` replace initializers of the model.
  Model(const std::string& onnx, const std::map<std::string, NewWeights>& weights);
  ~Model();
  // Outputs in the order of their names in `outputs`. Throws std::runtime_error.
  std::vector<ModelOutput> run(const std::vector<ModelInput>& inputs,
                               const std::vector<std::string>& outputs) const;

 private:
  struct Held;
  Held* held_;
};

}  // namespace fake
