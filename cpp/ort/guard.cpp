// SPDX-License-Identifier: Apache-2.0
#include "ort/guard.h"

#include <algorithm>
#include <map>
#include <new>
#include <set>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/onnx_model.h"
#include "core/wire.h"
#include "core/wire_edit.h"
#include "ort/model_view.h"

namespace zerolane::ort {
namespace {

constexpr std::string_view kNamePrefix = "zerolane.guard/";

// Ordered, as no choice of names makes it slow.
using NameSet = std::set<std::string_view>;

// One walk through the model that lists edits in the order of the bytes; its functions return by
// how many bytes their part of the file grows.
class Rewriter {
 public:
  // `plans` are in the order of the nodes, which is that of this walk as well.
  Rewriter(std::span<const std::byte> model, const ModelView& view,
           std::span<const PlannedGuard> plans)
      : model_(model), view_(view), plans_(plans) {}

  // Names in `taken` are not given to guards.
  WireEdits run(NameSet taken) {
    taken_ = std::move(taken);
    edits_ = {};
    given_.clear();
    next_name_ = next_node_ = next_plan_ = 0;
    bool has_opset = false;
    WireReader reader(model_);
    for (WireField field; reader.next(field);) {
      if (field.is_bytes(7)) edit_graph(field, 0);
      if (field.is_bytes(25)) edit_function(field);
      if (field.is_bytes(8)) has_opset = has_opset || imports_guard(field);
    }
    if (!edits_.empty() && !has_opset) edits_.insert(model_.size(), guard_opset(8));
    return std::move(edits_);
  }

  // Names found in the model that look like ours.
  const NameSet& found() const { return found_; }

  bool has_clash() const {
    return std::ranges::any_of(given_,
                               [&](const std::string& name) { return found_.contains(name); });
  }

 private:
  using Growth = WireEdits::Growth;

  Growth edit_graph(const WireField& graph, int depth) {
    if (depth > kMaxGraphDepth) {
      throw make_error(Code::kInvalidModel, "guarding a model", "its graphs nest too deep",
                       "check where it comes from");
    }
    return edits_.edit_message(graph, [&] {
      Growth growth = 0;
      WireReader reader(graph);
      for (WireField field; reader.next(field);) {
        if (field.is_bytes(1)) growth += edit_node(field, depth);
        if (field.is_bytes(5)) note_name(last_text(field, 8));  // initializer
        if (field.is_bytes(11) || field.is_bytes(12))
          note_name(last_text(field, 1));  // input, output
      }
      return growth;
    });
  }

  Growth edit_function(const WireField& function) {
    return edits_.edit_message(function, [&] {
      Growth growth = 0;
      const std::size_t edits_before = edits_.size();
      bool has_opset = false;
      WireReader reader(function);
      for (WireField field; reader.next(field);) {
        if (field.is_bytes(7)) growth += edit_node(field, 0);
        if (field.is_bytes(11)) growth += edit_attribute(field, 0);  // a default that is a graph
        if (field.is_bytes(4) || field.is_bytes(5)) note_name(field.text());  // input, output
        if (field.is_bytes(9)) has_opset = has_opset || imports_guard(field);
      }
      if (edits_.size() != edits_before && !has_opset)
        growth += edits_.insert(function.end_offset(), guard_opset(9));
      return growth;
    });
  }

  Growth edit_node(const WireField& node, int depth) {
    const std::size_t index = next_node_++;
    const bool has_attributes = note_names(node);
    Growth growth = 0;
    std::map<std::size_t, std::string> renamed;  // input: what it reads now
    for (; next_plan_ < plans_.size() && plans_[next_plan_].node == index; ++next_plan_) {
      const PlannedGuard& plan = plans_[next_plan_];
      std::string name = fresh_name();
      std::string& reads = renamed[plan.input];  // of several guards, one reads the other
      if (reads.empty()) reads = view_.inputs(view_.nodes()[index])[plan.input];
      std::string guard;
      put_bytes(guard, node.number, guard_node(plan, reads, name));
      growth += edits_.insert(node.offset, std::move(guard));
      reads = std::move(name);
    }
    if (renamed.empty() && !has_attributes) return 0;
    growth += edits_.edit_message(node, [&] {
      Growth inside = 0;
      std::size_t input = 0;
      WireReader reader(node);
      for (WireField field; reader.next(field);) {
        if (field.is_bytes(5)) inside += edit_attribute(field, depth);
        if (!field.is_bytes(1)) continue;
        const auto found = renamed.find(input++);
        if (found != renamed.end()) inside += edits_.replace(field, found->second);
      }
      return inside;
    });
    return growth;
  }

  Growth edit_attribute(const WireField& attribute, int depth) {
    return edits_.edit_message(attribute, [&] {
      Growth growth = 0;
      WireReader reader(attribute);
      for (WireField field; reader.next(field);) {
        if (field.is_bytes(6) || field.is_bytes(11)) growth += edit_graph(field, depth + 1);
      }
      return growth;
    });
  }

  // Whether the node has attributes.
  bool note_names(const WireField& node) {
    bool has_attributes = false;
    WireReader reader(node);
    for (WireField field; reader.next(field);) {
      if (field.is_bytes(1) || field.is_bytes(2)) note_name(field.text());
      has_attributes = has_attributes || field.is_bytes(5);
    }
    return has_attributes;
  }

  std::string guard_node(const PlannedGuard& plan, std::string_view input,
                         std::string_view output) const {
    const NodeView& guarded = view_.nodes()[plan.node];
    std::string node;
    put_bytes(node, 1, input);
    if (plan.other != kNone) put_bytes(node, 1, view_.inputs(guarded)[plan.other]);
    put_bytes(node, 2, output);
    put_bytes(node, 3, output);
    put_bytes(node, 4, plan.other == kNone ? kGuardOp : kGuardWithOp);
    std::string attribute;
    put_bytes(attribute, 1, "what");
    put_bytes(attribute, 4, describe_input(view_, guarded, plan.input));
    put_int(attribute, 20, 3);  // AttributeProto.STRING
    put_bytes(node, 5, attribute);
    put_bytes(node, 5, int_attribute("rule", static_cast<std::int64_t>(plan.check.rule)));
    put_bytes(node, 5, int_attribute("argument", plan.check.argument));
    put_bytes(node, 5, int_attribute("detail", plan.check.detail));
    put_bytes(node, 5, int_attribute("rank", plan.check.rank));
    put_bytes(node, 7, kGuardDomain);
    return node;
  }

  static std::string int_attribute(std::string_view name, std::int64_t value) {
    std::string attribute;
    put_bytes(attribute, 1, name);
    put_int(attribute, 3, static_cast<std::uint64_t>(value));
    put_int(attribute, 20, 2);  // AttributeProto.INT
    return attribute;
  }

  static std::string guard_opset(std::uint32_t field) {
    std::string opset, out;
    put_bytes(opset, 1, kGuardDomain);
    put_int(opset, 2, static_cast<std::uint64_t>(kGuardVersion));
    put_bytes(out, field, opset);
    return out;
  }

  static bool imports_guard(const WireField& opset) { return last_text(opset, 1) == kGuardDomain; }

  std::string fresh_name() {
    std::string name;
    do {
      name = std::string(kNamePrefix) + std::to_string(next_name_++);
    } while (taken_.contains(name));
    given_.push_back(name);
    return name;
  }

  void note_name(std::string_view name) {
    if (name.starts_with(kNamePrefix)) found_.insert(name);
  }

  std::span<const std::byte> model_;
  const ModelView& view_;
  std::span<const PlannedGuard> plans_;
  WireEdits edits_;
  NameSet taken_;
  NameSet found_;
  std::vector<std::string> given_;
  std::uint64_t next_name_ = 0;
  std::size_t next_node_ = 0;
  std::size_t next_plan_ = 0;
};

[[noreturn]] void fail_without_memory(std::span<const std::byte> model) {
  throw make_error(
      Code::kOutOfMemory, "guarding a model against inputs that end the process",
      "no memory is left for a second copy of its " + std::to_string(model.size()) + " bytes",
      "free memory, or keep the weights in external data");
}

}  // namespace

std::optional<std::vector<std::byte>> guard_model(std::span<const std::byte> model,
                                                  const ModelView& view,
                                                  std::vector<PlannedGuard> plans) {
  std::erase_if(plans, [](const PlannedGuard& plan) { return plan.at_load; });
  if (plans.empty()) return std::nullopt;
  try {
    Rewriter rewriter(model, view, plans);
    WireEdits edits = rewriter.run({});
    if (rewriter.has_clash()) edits = rewriter.run(rewriter.found());
    return edits.apply(model);
  } catch (const std::bad_alloc&) {
    fail_without_memory(model);
  }
}

std::optional<std::vector<std::byte>> guard_model(std::span<const std::byte> model) {
  if (is_ort_format(model)) return std::nullopt;
  try {
    const ModelView view(model);
    return guard_model(model, view, plan_guards(view));
  } catch (const std::bad_alloc&) {
    fail_without_memory(model);
  } catch (const Error& error) {
    if (error.code() == Code::kOutOfMemory) throw;
    return std::nullopt;
  }
}

}  // namespace zerolane::ort
