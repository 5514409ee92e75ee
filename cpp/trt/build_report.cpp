// SPDX-License-Identifier: Apache-2.0
#include "trt/build_report.h"

#include <algorithm>

#include "core/error.h"
#include "trt/library.h"

namespace zerolane::trt {
namespace {

constexpr int64_t kMostNodes = int64_t{1} << 24;

std::string text(const char* given) { return given == nullptr ? "" : given; }

// Lines put after one another, echoes left out.
std::string one_line(const std::string& lines) {
  std::string out;
  for (size_t start = 0; start < lines.size();) {
    size_t end = std::min(lines.find('\n', start), lines.size());
    std::string line = lines.substr(start, end - start);
    if (!line.empty() && !is_echo(line)) out += (out.empty() ? "" : "; ") + line;
    start = end + 1;
  }
  return out;
}

// Messages of the parser begin with the text of the assertion that failed, which may be all.
std::string reason(const ParserError* error, const Calls& calls) {
  std::string said = one_line(text(calls.ParserError_desc(error)));
  constexpr std::string_view kAssertion = "Assertion failed: ";
  if (said.starts_with(kAssertion)) {
    size_t end = said.find(": ", kAssertion.size());
    if (end != std::string::npos && end + 2 < said.size()) said = said.substr(end + 2);
  }
  // An assertion with words for people is: condition && "words".
  constexpr std::string_view kWords = " && \"";
  if (size_t start = said.find(kWords); start != std::string::npos && said.back() == '"') {
    said = said.substr(start + kWords.size(), said.size() - start - kWords.size() - 1);
  }
  // Some checks give no words, only the place that refused.
  if (said.empty() || said == "false") {
    return "the parser has no support for it (" + text(calls.ParserError_func(error)) + ")";
  }
  return said;
}

template <typename Get>
std::vector<ParserComplaint> read_all(const Calls& calls, int32_t count, const Get& get) {
  std::vector<ParserComplaint> found;
  for (int32_t i = 0; i < count; ++i) {
    const ParserError* error = get(i);
    if (error == nullptr) continue;
    ParserComplaint complaint{calls.ParserError_code(error), reason(error, calls),
                              calls.ParserError_node(error), "", ""};
    if (calls.ParserError_nodeName) complaint.node_name = text(calls.ParserError_nodeName(error));
    if (calls.ParserError_nodeOperator) {
      complaint.node_type = text(calls.ParserError_nodeOperator(error));
    }
    found.push_back(std::move(complaint));
  }
  return found;
}

bool is_support(ParserErrorCode code) {
  return code >= ParserErrorCode::kUnsupportedGraph &&
         code <= ParserErrorCode::kUnsupportedNodeShape;
}

}  // namespace

bool is_echo(std::string_view message) {
  return message.find("catchCudaError") != std::string_view::npos;
}

std::vector<ParserComplaint> read_complaints(const Calls& calls, const Parser* parser) {
  return read_all(calls, calls.Parser_getNbErrors(parser),
                  [&](int32_t i) { return calls.Parser_getError(parser, i); });
}

std::vector<ParserComplaint> read_complaints(const Calls& calls, const ParserRefitter* refitter) {
  return read_all(calls, calls.ParserRefitter_getNbErrors(refitter),
                  [&](int32_t i) { return calls.ParserRefitter_getError(refitter, i); });
}

bool about_support(std::span<const ParserComplaint> complaints) {
  return !complaints.empty() &&
         std::all_of(complaints.begin(), complaints.end(), [](const ParserComplaint& c) {
           // An operator that the parser does not know is taken for a plugin.
           const bool unknown = c.text.find("Plugin not found") != std::string::npos;
           return (is_support(c.code) || unknown) && c.node >= 0;
         });
}

UnsupportedGraph ask_support(const Calls& calls, const Parser* parser,
                             std::span<const std::byte> model, const char* path) {
  UnsupportedGraph report;
  if (!calls.Parser_supportsModelV2) return report;
  calls.Parser_supportsModelV2(parser, model.data(), model.size(), path);
  report.nodes = read_complaints(calls, parser);
  int64_t count = calls.Parser_getNbSubgraphs(parser);
  for (int64_t i = 0; i < count; ++i) {
    int64_t length = 0;
    const int64_t* nodes = calls.Parser_getSubgraphNodes(parser, i, &length);
    if (nodes == nullptr || length <= 0 || length > kMostNodes) continue;
    report.parts.emplace_back(nodes, nodes + length);
  }
  return report;
}

void throw_complaints(const Library& library, const std::string& model,
                      std::span<const ParserComplaint> complaints, const std::string& doing) {
  std::string found = library.title() + " does not take it";
  Code code = Code::kInvalidModel;
  std::string subject = model;
  if (!complaints.empty()) {
    const ParserComplaint& first = complaints.front();
    if (first.code == ParserErrorCode::kMemAllocFailed) code = Code::kOutOfMemory;
    if (first.code == ParserErrorCode::kInternalError) code = Code::kBackend;
    if (is_support(first.code)) code = Code::kUnsupported;
    if (first.node >= 0) {
      found += ", at node " + std::to_string(first.node) + " '" + first.node_name + "' [" +
               first.node_type + "]";
      if (!first.node_name.empty()) subject = first.node_name;
    } else if (doing.find(" node ") != std::string::npos) {
      found += ", while " + doing;
    }
    found += ": " + first.text;
    if (complaints.size() > 1) {
      found += " (and " + std::to_string(complaints.size() - 1) + " more)";
    }
  }
  throw make_error(code, "reading model " + model, found,
                   "check it with onnx.checker and `zerolane inspect`", subject);
}

}  // namespace zerolane::trt
