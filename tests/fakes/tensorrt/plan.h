// SPDX-License-Identifier: Apache-2.0
// What the text before the model says: see plan.py, which writes it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fake {

struct IoFact {
  bool input = false;
  std::string name;
  int32_t type = 0;
  bool on_host = false;
  bool data_decides = false;
  std::vector<int64_t> dims;
};

struct Range {
  std::string name;
  std::vector<int64_t> min, opt, max;
};

// A plugin, or an operator on floats that keeps the shape: plans that the stand-in's own builder
// made are lists of these.
struct NodeFact {
  struct Field {
    std::string name;
    int32_t type = 0;
    int32_t length = 0;
    std::string bytes;
  };
  std::string name;
  std::string op_type;
  bool plugin = false;
  std::string version;
  std::vector<Field> fields;
  int64_t workspace = 0;
  std::vector<std::string> inputs;
  struct Output {
    std::string name;
    int32_t type = 0;
    std::string dims;  // expressions of the inputs' extents
  };
  std::vector<Output> outputs;
};

struct Plan {
  std::string version;
  bool host_code = false;
  bool refit = false;
  bool stripped = false;  // nothing may run before a refit
  int64_t activation_bytes = 0;
  int64_t weight_bytes = 0;
  int64_t streamable_bytes = 0;
  std::vector<IoFact> tensors;
  struct Profile {
    std::vector<Range> shapes, values;
  };
  std::vector<Profile> profiles;
  struct Weight {
    std::string name;
    int32_t type = 0;
    int64_t count = 0;
    std::vector<int64_t> dims;
  };
  std::vector<Weight> weights;
  std::vector<std::string> layers;
  std::vector<NodeFact> nodes;
  std::string model;

  const IoFact* find(const std::string& name) const;
};

// False, with a reason, for bytes that plan.py did not write.
bool read_plan(const void* data, size_t size, Plan* plan, std::string* reason);

}  // namespace fake
