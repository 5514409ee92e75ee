// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trt/objects.h"

namespace zerolane::trt {

struct Library;

// A complaint of the parser. `node` is the place in the graph, -1 for none.
struct ParserComplaint {
  ParserErrorCode code;
  std::string text;
  int32_t node;
  std::string node_name;
  std::string node_type;
};

// What the parser refuses of a graph. `parts`: the places of nodes that it would take together.
struct UnsupportedGraph {
  std::vector<ParserComplaint> nodes;
  std::vector<std::vector<int64_t>> parts;
};

// Without a driver, each error of TensorRT-RTX is followed by one that says just that; it is not
// the cause of anything.
bool is_echo(std::string_view message);

// What a failed parse or refit left behind.
std::vector<ParserComplaint> read_complaints(const Calls& calls, const Parser* parser);
std::vector<ParserComplaint> read_complaints(const Calls& calls, const ParserRefitter* refitter);

// Whether complaints are about nodes that the library cannot do, rather than about a broken model.
bool about_support(std::span<const ParserComplaint> complaints);

// Asks a fresh parser about every node of the model. `path` is where external data lies, or null.
UnsupportedGraph ask_support(const Calls& calls, const Parser* parser,
                             std::span<const std::byte> model, const char* path);

// The error for complaints that are not about support. `model` names it for users; `doing` is what
// the parser was at last.
[[noreturn]] void throw_complaints(const Library& library, const std::string& model,
                                   std::span<const ParserComplaint> complaints,
                                   const std::string& doing);

}  // namespace zerolane::trt
