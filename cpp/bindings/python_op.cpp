// SPDX-License-Identifier: Apache-2.0
#include "bindings/python_op.h"

#include <pybind11/stl.h>

#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/gil.h"
#include "bindings/text.h"
#include "core/dtype.h"
#include "core/error.h"
#include "registry/library.h"
#include "zerolane/op.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

// One extent as annotations have it, in reverse Polish order: "N" pushes what N is bound to, a
// number itself, an operator combines two. "most K" turns the top into a counted extent named K.
struct Token {
  enum class Kind { kNumber, kName, kRest, kOperation, kMost } kind;
  int64_t number = 0;  // of kNumber; the operation of kOperation
  std::string name;
};
using Extent = std::vector<Token>;

// The extents of one argument. kRest, written "...", stands for any number of leading extents.
using Extents = std::vector<Extent>;

Extents read_extents(const py::handle& rows) {
  static const std::map<std::string, int64_t> kOperations = {
      {"+", kZlAdd},          {"-", kZlSubtract}, {"*", kZlMultiply},
      {"//", kZlFloorDivide}, {"max", kZlMax},    {"min", kZlMin}};
  Extents all;
  for (py::handle row : rows) {
    Extent extent;
    for (py::handle item : row) {
      if (py::isinstance<py::int_>(item)) {
        extent.push_back({Token::Kind::kNumber, item.cast<int64_t>(), {}});
        continue;
      }
      const std::string word = utf8(item);
      const auto operation = kOperations.find(word);
      if (word == "...") {
        extent.push_back({Token::Kind::kRest, 0, {}});
      } else if (word.starts_with("most ")) {
        extent.push_back({Token::Kind::kMost, 0, word.substr(5)});
      } else if (operation != kOperations.end()) {
        extent.push_back({Token::Kind::kOperation, operation->second, {}});
      } else {
        extent.push_back({Token::Kind::kName, 0, word});
      }
    }
    all.push_back(std::move(extent));
  }
  return all;
}

// A definition that Python made; kept for the process's life, as models and calls point into it.
class PythonOp {
 public:
  PythonOp(const py::dict& spec, py::object function);
  const ZlOpLibrary& library() const { return library_; }

 private:
  struct State {
    py::object attributes;  // a dict: what the function is given by name
  };
  // Names bound to extents of the inputs, for one run of the shape function.
  struct Bound {
    std::map<std::string, op::Dim> names;
    std::optional<op::Dims> rest;
  };

  const char* keep(const std::string& text) { return texts_.emplace_back(text).c_str(); }
  void read_arguments(const py::handle& rows, std::vector<ZlArgument>* out,
                      std::vector<Extents>* extents);
  void read_attributes(const py::handle& rows);

  void bind_input(const op::Shapes& shapes, size_t input, const Extents& wanted,
                  Bound* bound) const;
  op::Dim evaluate(const op::Shapes& shapes, const Extent& extent, const Bound& bound) const;
  void shape(const op::Shapes& shapes) const;
  void run(const State& state, const ZlCall* call) const;

  static const PythonOp& self(const ZlOp* op) { return *static_cast<const PythonOp*>(op->user); }

  py::object function_;
  std::deque<std::string> texts_;
  std::deque<std::vector<DLDataType>> dtypes_;
  std::deque<std::vector<int64_t>> integers_;
  std::deque<std::vector<double>> reals_;
  std::vector<ZlType> types_;
  std::vector<ZlAttribute> attributes_;
  std::vector<ZlArgument> inputs_;
  std::vector<ZlArgument> outputs_;
  std::vector<Extents> input_extents_;
  std::vector<Extents> output_extents_;
  ZlOp table_{};
  const ZlOp* tables_[1] = {&table_};
  ZlOpLibrary library_{};
};

void PythonOp::read_arguments(const py::handle& rows, std::vector<ZlArgument>* out,
                              std::vector<Extents>* extents) {
  for (py::handle row : rows) {
    out->push_back(
        {keep(utf8(row["name"])), "", row["kind"].cast<int32_t>(), row["type"].cast<int32_t>()});
    extents->push_back(read_extents(row["extents"]));
  }
}

void PythonOp::read_attributes(const py::handle& rows) {
  for (py::handle row : rows) {
    ZlAttribute attribute{};
    attribute.name = keep(utf8(row["name"]));
    attribute.doc = "";
    attribute.type = row["type"].cast<int32_t>();
    attribute.required = row["fallback"].is_none() ? 1 : 0;
    attribute.least = row["least"].cast<double>();
    attribute.greatest = row["greatest"].cast<double>();
    attribute.greatest_count = std::numeric_limits<uint64_t>::max();
    ZlValue& value = attribute.fallback;
    value.type = attribute.type;
    value.text = "";
    const py::object fallback = py::reinterpret_borrow<py::object>(row["fallback"]);
    if (attribute.required == 0) {
      switch (attribute.type) {
        case kZlInt:
          value.integer = fallback.cast<int64_t>();
          break;
        case kZlFloat:
          value.real = fallback.cast<double>();
          break;
        case kZlString:
          value.text = keep(utf8(fallback));
          break;
        case kZlInts:
          integers_.push_back(fallback.cast<std::vector<int64_t>>());
          value.integers = integers_.back().data();
          value.count = integers_.back().size();
          break;
        default:
          reals_.push_back(fallback.cast<std::vector<double>>());
          value.reals = reals_.back().data();
          value.count = reals_.back().size();
      }
    }
    attributes_.push_back(attribute);
  }
}

PythonOp::PythonOp(const py::dict& spec, py::object function) : function_(std::move(function)) {
  for (py::handle names : spec["types"]) {
    std::vector<DLDataType> dtypes;
    std::string text;
    for (py::handle name : names) {
      const std::string given = utf8(name);
      const auto dtype = dtype_from_name(given);
      const auto dlpack = dtype ? to_dlpack(*dtype) : std::nullopt;
      if (!dlpack) {
        throw make_error(Code::kInvalidArgument, "defining op " + utf8(spec["name"]),
                         "an element type is '" + given + "', expected one like 'float32'",
                         "use the names of NumPy and ml_dtypes", given);
      }
      dtypes.push_back(*dlpack);
      text += (text.empty() ? "" : "|") + given;
    }
    dtypes_.push_back(std::move(dtypes));
    types_.push_back({keep(text), dtypes_.back().data(), dtypes_.back().size()});
  }
  read_arguments(spec["inputs"], &inputs_, &input_extents_);
  read_arguments(spec["outputs"], &outputs_, &output_extents_);
  read_attributes(spec["attributes"]);
  table_.size = sizeof(ZlOp);
  table_.domain = keep(utf8(spec["domain"]));
  table_.name = keep(utf8(spec["name"]));
  table_.doc = keep(utf8(spec["doc"]));
  table_.version = spec["version"].cast<int32_t>();
  table_.types = types_.data();
  table_.type_count = types_.size();
  table_.attributes = attributes_.data();
  table_.attribute_count = attributes_.size();
  table_.inputs = inputs_.data();
  table_.input_count = inputs_.size();
  table_.outputs = outputs_.data();
  table_.output_count = outputs_.size();
  table_.user = this;
  table_.create = [](const ZlOp* op, const ZlValue* values, ZlFailure* failure) -> void* {
    State* made = nullptr;
    op::detail::guarded(
        [&](int32_t code, const char* text) { failure->fail(failure, code, text); },
        [&] {
          AcquireGil hold;
          py::dict attributes;
          for (uint64_t i = 0; i < op->attribute_count; ++i) {
            const ZlValue& value = values[i];
            py::object object;
            switch (value.type) {
              case kZlInt:
                object = py::int_(value.integer);
                break;
              case kZlFloat:
                object = py::float_(value.real);
                break;
              case kZlString:
                object = text(value.text);
                break;
              case kZlInts:
                object =
                    py::cast(std::vector<int64_t>(value.integers, value.integers + value.count));
                break;
              default:
                object = py::cast(std::vector<double>(value.reals, value.reals + value.count));
            }
            attributes[op->attributes[i].name] = object;
          }
          made = new State{attributes};
        });
    return made;
  };
  table_.destroy = [](const ZlOp*, void* state) {
    // What is left when the interpreter goes is not freed: there is no GIL to be had any more.
    if (Py_IsInitialized() == 0 || interpreter_exits.load()) return;
    AcquireGil hold;
    delete static_cast<State*>(state);
  };
  table_.shape = [](const ZlOp* op, const void*, ZlShapes* host) {
    return op::detail::guarded(
        [&](int32_t code, const char* text) { host->calls->fail(host, code, text); },
        [&] { self(op).shape(op::Shapes(host)); });
  };
  table_.run_cpu = [](const ZlOp* op, const void* state, const ZlCall* call) {
    return op::detail::guarded(
        [&](int32_t code, const char* text) { call->fail(call, code, text); },
        [&] { self(op).run(*static_cast<const State*>(state), call); });
  };
  library_.size = sizeof(ZlOpLibrary);
  library_.abi = ZL_OP_ABI;
  library_.name = "python";
  library_.version = "";
  library_.ops = tables_;
  library_.op_count = 1;
}

void PythonOp::bind_input(const op::Shapes& shapes, size_t input, const Extents& wanted,
                          Bound* bound) const {
  const bool open =
      !wanted.empty() && wanted[0].size() == 1 && wanted[0][0].kind == Token::Kind::kRest;
  const int fixed = static_cast<int>(wanted.size()) - (open ? 1 : 0);
  const int rank = shapes.rank(input);
  if (rank < fixed || (!open && rank != fixed)) {
    throw op::Error("input " + std::to_string(input) + " has rank " + std::to_string(rank) +
                        ", expected " + std::to_string(fixed) + (open ? " or more" : ""),
                    kZlShapeMismatch);
  }
  if (open) {
    op::Dims rest;
    for (int axis = 0; axis < rank - fixed; ++axis) rest.push_back(shapes.dim(input, axis));
    if (bound->rest && bound->rest->rank() != rest.rank()) {
      throw op::Error("the leading extents (...) are " + std::to_string(bound->rest->rank()) +
                          " and " + std::to_string(rest.rank()) + ", expected as many",
                      kZlShapeMismatch);
    }
    for (int axis = 0; bound->rest && axis < rest.rank(); ++axis) {
      rest[axis] =
          shapes.require_same((*bound->rest)[axis], rest[axis], "the leading extents (...)");
    }
    bound->rest = rest;
  }
  for (int i = 0; i < fixed; ++i) {
    const Token& token = wanted[static_cast<size_t>(i) + (open ? 1 : 0)][0];
    const op::Dim found = shapes.dim(input, rank - fixed + i);
    const std::string what = "the extents '" + token.name + "'";
    if (token.kind == Token::Kind::kNumber) {
      shapes.require_same(
          found, shapes.number(token.number),
          ("an extent of input " + std::to_string(input) + " and its annotation").c_str());
    } else if (auto known = bound->names.find(token.name); known != bound->names.end()) {
      known->second = shapes.require_same(known->second, found, what.c_str());
    } else {
      bound->names.emplace(token.name, found);
    }
  }
}

op::Dim PythonOp::evaluate(const op::Shapes& shapes, const Extent& extent,
                           const Bound& bound) const {
  std::vector<op::Dim> stack;
  for (const Token& token : extent) {
    if (token.kind == Token::Kind::kNumber) {
      stack.push_back(shapes.number(token.number));
    } else if (token.kind == Token::Kind::kName) {
      const auto known = bound.names.find(token.name);
      if (known == bound.names.end()) {
        throw op::Error("the extent '" + token.name + "' belongs to an input that was left out");
      }
      stack.push_back(known->second);
    } else if (token.kind == Token::Kind::kMost) {
      const op::Dim most = stack.back();
      stack.back() = shapes.counted(most, most);
    } else {
      const op::Dim right = stack.back();
      stack.pop_back();
      op::Dim& left = stack.back();
      left = token.number == kZlAdd           ? left + right
             : token.number == kZlSubtract    ? left - right
             : token.number == kZlMultiply    ? left * right
             : token.number == kZlFloorDivide ? left / right
             : token.number == kZlMax         ? max(left, right)
                                              : min(left, right);
    }
  }
  return stack.back();
}

void PythonOp::shape(const op::Shapes& shapes) const {
  Bound bound;
  for (size_t i = 0; i < shapes.input_count(); ++i) {
    const size_t argument = std::min(i, input_extents_.size() - 1);
    if (shapes.has(i)) bind_input(shapes, i, input_extents_[argument], &bound);
  }
  // One name is one extent, also where it is counted.
  std::map<std::string, op::Dim> counted;
  for (size_t i = 0; i < output_extents_.size(); ++i) {
    op::Dims dims;
    for (const Extent& extent : output_extents_[i]) {
      if (extent[0].kind == Token::Kind::kRest) {
        if (bound.rest) {
          for (const op::Dim& dim : *bound.rest) dims.push_back(dim);
        }
      } else if (extent.back().kind == Token::Kind::kMost) {
        const auto [known, added] = counted.try_emplace(extent.back().name);
        if (added) known->second = evaluate(shapes, extent, bound);
        dims.push_back(known->second);
      } else {
        dims.push_back(evaluate(shapes, extent, bound));
      }
    }
    shapes.output(i, dims);
  }
}

void PythonOp::run(const State& state, const ZlCall* call) const {
  CallbackGil hold;
  py::list inputs;
  for (uint32_t i = 0; i < call->input_count; ++i) {
    if (call->inputs[i] == nullptr) {
      inputs.append(py::none());
      continue;
    }
    // Copies: the function may keep what it is given.
    const DLTensor& tensor = *call->inputs[i];
    View view;
    py::object array = new_ndarray(
        *from_dlpack(tensor.dtype),
        Shape(std::span<const int64_t>(tensor.shape, static_cast<size_t>(tensor.ndim))), &view);
    if (view.bytes() > 0) std::memcpy(view.data, tensor.data, view.bytes());
    inputs.append(array);
  }
  py::tuple results;
  try {
    results = function_(inputs, state.attributes);
  } catch (py::error_already_set& error) {
    if (error.matches(PyExc_KeyboardInterrupt)) PyErr_SetInterrupt();
    throw op::Error(utf8(error.value()));
  }
  for (uint32_t i = 0; i < call->output_count; ++i) {
    if (call->outputs[i] == nullptr) continue;
    const DLTensor& tensor = *call->outputs[i];
    const py::object result = results[i];
    View view;
    if (!read_ndarray(result.ptr(), false, &view) ||
        !op::same_dtype(*to_dlpack(view.dtype), tensor.dtype)) {
      throw op::Error("output " + std::to_string(i) + " is " + utf8(result.attr("dtype")) +
                      ", expected " + std::string(dtype_name(*from_dlpack(tensor.dtype))));
    }
    const auto wanted = std::span<const int64_t>(tensor.shape, static_cast<size_t>(tensor.ndim));
    void* data = tensor.data;
    const bool counted = [&] {
      for (const Extent& extent : output_extents_[i]) {
        if (extent.back().kind == Token::Kind::kMost) return true;
      }
      return false;
    }();
    if (view.shape.rank() != wanted.size() || (!counted && !(view.shape == Shape(wanted)))) {
      throw op::Error("output " + std::to_string(i) + " has shape " + view.shape.text() +
                          ", expected " + Shape(wanted).text(),
                      kZlShapeMismatch);
    }
    if (counted) data = call->allocate(call, i, view.shape.data());
    if (data == nullptr) throw op::Error("memory for an output could not be had", kZlOutOfMemory);
    if (view.bytes() > 0) std::memcpy(data, view.data, view.bytes());
  }
}

}  // namespace

void bind_python_op(py::module_& module) {
  using namespace py::literals;
  module.def(
      "register_python_op",
      [](const py::dict& spec, py::object function) {
        auto made = std::make_unique<PythonOp>(spec, std::move(function));
        register_ops(made->library());
        (void)made.release();  // models and calls point into it
      },
      "spec"_a, "function"_a);
}

}  // namespace zerolane::bindings
