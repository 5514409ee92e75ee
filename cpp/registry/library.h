// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <climits>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "zerolane/op_abi.h"

namespace zerolane {

struct OpLibrary;

// One op as its library defines it, checked and read into our types. Lives as long as the process.
struct OpEntry {
  struct Argument {
    std::string name;
    int32_t kind = kZlRequired;
    size_t type = 0;
  };

  const ZlOp* table = nullptr;
  const OpLibrary* library = nullptr;
  std::string name;    // "my::Scale"
  int version = 1;     // of the definition
  std::string op;      // "Scale"
  std::string domain;  // "my"
  std::vector<std::vector<DType>> types;
  std::vector<Argument> inputs;
  std::vector<Argument> outputs;
  // For each type: the first required input that has it; inputs.size() for types of one element
  // type that no required input has.
  std::vector<size_t> decided_by;

  bool variadic() const { return !inputs.empty() && inputs.back().kind == kZlVariadic; }
  size_t least_inputs() const;  // up to the last one that is not optional
  bool on_cpu() const { return table->run_cpu != nullptr; }
  bool on_cuda() const { return table->run_cuda != nullptr; }
  // The argument that an input of a node is for: a variadic one stands for all from it on.
  const Argument& input(size_t index) const {
    return inputs[index < inputs.size() ? index : inputs.size() - 1];
  }
};

struct OpLibrary {
  std::string path;  // empty: registered by the process itself
  std::string name;
  std::string version;
  std::vector<const OpEntry*> ops;
};

// Opens a library of ops and registers what it defines. A file that is open already is returned as
// it is. Throws kUnavailable (no such file, not loadable, no library of ops, a newer contract),
// kInvalidArgument (a table that breaks the contract; an op that another library has defined).
const OpLibrary& load_op_library(const std::string& path);

// Registers a table that this process made and keeps. Ops of the same name and version that were
// registered this way before are replaced for calls and models to come.
const OpLibrary& register_ops(const ZlOpLibrary& table);

// The newest definition of "domain::Op", or the newest up to `version`; null if there is none.
const OpEntry* find_op(std::string_view name, int version = INT32_MAX);
// The same, after what may define it was loaded: `find` is called with the domain of an op that is
// not known yet, on the calling thread, and may throw. Set once, by those who know where libraries
// are.
const OpEntry* resolve_op(const std::string& name, int version = INT32_MAX);
void set_op_resolver(void (*find)(const std::string& domain)) noexcept;
// All definitions of a domain, or of all with "".
std::vector<const OpEntry*> ops_of(std::string_view domain);
std::vector<const OpLibrary*> op_libraries();

// Counts up when something is registered.
uint64_t op_generation() noexcept;

}  // namespace zerolane
