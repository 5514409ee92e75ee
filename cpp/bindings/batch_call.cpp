// SPDX-License-Identifier: Apache-2.0
#include "bindings/batch_call.h"

#include <cstring>
#include <utility>

#include "bindings/arrays.h"
#include "bindings/batch_loop.h"
#include "bindings/text.h"
#include "core/error.h"
#include "runtime/batch_copy.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

int priority_from(py::handle given) {
  const long value = PyLong_Check(given.ptr()) != 0 ? PyLong_AsLong(given.ptr()) : 99;
  if (value >= BatchQueue::kLeast && value <= BatchQueue::kMost) return static_cast<int>(value);
  PyErr_Clear();
  throw make_error(Code::kInvalidArgument, "calling a batcher",
                   "priority is " + utf8(py::repr(given)),
                   "give a whole number from -8 to 7; higher ones run first", "priority");
}

// Takes `name` out of `kwargs`; null if it is not there.
py::object pop(PyObject* kwargs, const char* name) {
  PyObject* value = PyDict_GetItemString(kwargs, name);
  if (value == nullptr) return {};
  auto object = py::reinterpret_borrow<py::object>(value);
  if (PyDict_DelItemString(kwargs, name) != 0) throw py::error_already_set();
  return object;
}

}  // namespace

void BatchCall::complete() noexcept {
  if (loop == nullptr) {
    done.set();
  } else {
    loop->completed(*this);
  }
}

BatchCalls::BatchCalls(PySession& session, const Batcher& batcher, size_t copied)
    : session_(session), batcher_(batcher), copied_(copied) {
  const auto& inputs = session.session()->inputs();
  for (const TensorSpec& output : session.session()->outputs()) {
    auto& cuts = cuts_.emplace_back();
    for (size_t axis = 0; axis < output.shape.size(); ++axis) {
      for (const BatchBuckets& buckets : batcher.options().buckets) {
        if (output.shape[axis].value >= 0 || output.shape[axis].symbol != buckets.dim) continue;
        for (size_t i = 0; i < inputs.size(); ++i) {
          for (size_t d = 0; d < inputs[i].shape.size(); ++d) {
            if (inputs[i].shape[d].symbol == buckets.dim) cuts.push_back({axis, i, d});
          }
        }
      }
    }
  }
}

BatchCalls::~BatchCalls() {
  while (free_ != nullptr) delete std::exchange(free_, free_->next);
}

void BatchCalls::give_back(BatchCall* call) noexcept {
  call->owners.clear();
  call->like = py::object();
  call->drop_outputs();
  call->error = nullptr;
  call->future = py::object();
  call->loop.reset();
  const py::object batcher = std::move(call->batcher);  // may be the last one: goes at the end
  call->next = std::exchange(free_, call);
}

void BatchCalls::read_inputs(BatchCall& call) {
  const Session& session = *session_.session();
  const auto& specs = session.inputs();
  call.inputs.resize(specs.size());
  bool first = true;
  for (size_t i = 0; i < specs.size(); ++i) {
    PyObject* object = call.sorted[i];
    if (object == nullptr) {
      call.inputs[i] = View();
      continue;
    }
    Lent lent;
    if (!read_ndarray(object, false, &lent.view)) {
      lent = lend(object, specs[i], session_.copy(), false, nullptr,
                  {specs[i].name, "input '" + specs[i].name + "' of " + session.name()});
    } else {
      lent.owner = py::reinterpret_borrow<py::object>(object);
    }
    if (first) call.like = array_maker(object);
    first = false;
    call.inputs[i] = lent.view;
    call.owners.push_back(std::move(lent.owner));
  }
}

BatchCall* BatchCalls::take(PyObject* const* args, Py_ssize_t count, PyObject* kwargs) {
  BatchCall* call = free_;
  if (call == nullptr) {
    call = new BatchCall;
  } else {
    free_ = call->next;
  }
  try {
    call->priority = 0;
    call->deadline_ns = kForever;
    call->done.reset();
    py::dict named;
    if (kwargs != nullptr) {
      named = py::reinterpret_steal<py::dict>(PyDict_Copy(kwargs));
      if (const py::object given = pop(named.ptr(), "deadline_ms"); given) {
        call->deadline_ns = deadline_from(given);
      }
      if (const py::object given = pop(named.ptr(), "priority"); given) {
        call->priority = priority_from(given);
      }
      kwargs = named.empty() ? nullptr : named.ptr();
    }
    call->dict = count == 1 && kwargs == nullptr && PyDict_Check(args[0]);
    if (call->dict) {
      session_.sort_inputs(nullptr, 0, args[0], &call->sorted);
    } else {
      session_.sort_inputs(args, static_cast<size_t>(count), kwargs, &call->sorted);
    }
    read_inputs(*call);
  } catch (...) {
    give_back(call);
    throw;
  }
  return call;
}

py::object BatchCalls::output(const BatchCall& call, size_t index) const {
  const Tensor& all = call.outputs()[index];
  const auto axis = static_cast<size_t>(batcher_.model().axes.outputs[index]);
  Shape shape = with_extent(all.shape(), axis, call.rows());
  bool cut = false;
  for (const Cut& each : cuts_[index]) {
    const View& input = call.inputs[each.input];
    if (input.dtype == DType::kNone) continue;
    const int64_t extent = input.shape[each.input_axis];
    cut |= extent != shape[each.axis];
    shape = with_extent(shape, each.axis, extent);
  }
  const size_t bytes = dtype_bytes(all.dtype(), shape.count());
  const bool together = axis == 0 && !cut;  // in one piece
  if (together && bytes > copied_) {
    const size_t row = all.bytes() / static_cast<size_t>(std::max<int64_t>(all.shape()[0], 1));
    auto* data = static_cast<std::byte*>(all.data()) + row * static_cast<size_t>(call.first);
    return to_python(Tensor(std::make_shared<Storage>(data, all.storage()->device(), all.storage()),
                            all.dtype(), shape),
                     call.like);
  }
  View to;
  py::object array;
  Tensor own;
  if (call.like) {
    own = Tensor::make_host(all.dtype(), shape);
    to = own.view();
  } else {
    array = new_ndarray(all.dtype(), shape, &to);
  }
  if (together) {
    const auto* data = static_cast<const std::byte*>(all.data());
    const size_t row = call.rows() > 0 ? bytes / static_cast<size_t>(call.rows()) : 0;
    if (bytes > 0) std::memcpy(to.data, data + row * static_cast<size_t>(call.first), bytes);
  } else {
    copy_block(to, 0, all.view(), call.first, axis, shape);
  }
  return call.like ? to_python(std::move(own), call.like) : array;
}

py::object BatchCalls::result(BatchCall& call) {
  if (call.error) std::rethrow_exception(call.error);
  const size_t count = call.outputs().size();
  if (!call.dict && count == 1) return output(call, 0);
  std::vector<py::object> results;
  for (size_t i = 0; i < count; ++i) results.push_back(output(call, i));
  return call.dict ? session_.as_dict(results) : session_.as_arrays(results);
}

}  // namespace zerolane::bindings
