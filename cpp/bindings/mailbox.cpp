// SPDX-License-Identifier: Apache-2.0
#include "bindings/mailbox.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/errors.h"
#include "bindings/gil.h"
#include "bindings/text.h"
#include "core/error.h"
#include "core/metrics.h"

namespace py = pybind11;

namespace zerolane::bindings {

PyMailbox::PyMailbox(std::shared_ptr<Mailbox> box) : box_(std::move(box)) {
  spec_.name = box_->name();
  spec_.dtype = box_->dtype();
  spec_.has_shape = true;
  for (const int64_t dim : box_->shape().dims()) spec_.shape.push_back({dim, ""});
  spec_.type = "tensor(" + std::string(dtype_name(box_->dtype())) + ")";
  subject_ = box_->name().empty() ? "a mailbox" : "mailbox '" + box_->name() + "'";
}

uint64_t PyMailbox::write(const py::object& array) {
  if (forked_since(generation_)) {
    throw make_error(Code::kUnavailable, "writing to " + subject_,
                     "this process was forked after the object was made, and the parent writes too",
                     "open the mailbox by name in the child, or let the parent write", spec_.name);
  }
  const Lent lent = lend(array, spec_, /*copy=*/true, /*writable=*/false, nullptr,
                         {spec_.name, "a message to " + subject_});
  check_tensor(spec_, lent.view.dtype, lent.view.shape, "message", subject_);
  if (!claimed_) {
    box_->claim();
    claimed_ = true;
  }
  return box_->write(lent.view.data);
}

py::object PyMailbox::read(const py::object& out) {
  if (box_->latest() == 0) return py::none();
  View view;
  py::object array = out;
  Lent lent;
  if (out.is_none()) {
    array = new_ndarray(box_->dtype(), box_->shape(), &view);
  } else {
    lent = lend(out, spec_, /*copy=*/false, /*writable=*/true, nullptr,
                {spec_.name, "the array for a message of " + subject_});
    check_tensor(spec_, lent.view.dtype, lent.view.shape, "array", subject_);
    view = lent.view;
  }
  Message message;
  if (!box_->read(view.data, &message)) return py::none();
  const bool is_new = message.sequence != seen_;
  seen_ = message.sequence;
  if (!is_new) ++stale_reads_;
  const double age_ms = static_cast<double>(now_ns() - message.origin_ns) / 1e6;
  return py::make_tuple(array, age_ms, message.sequence, is_new, message.safe);
}

bool PyMailbox::wait(uint64_t after, double timeout_s) const {
  constexpr int64_t kSlice = 50000000;
  int64_t end = INT64_MAX / 2;
  // Not a number is no time at all.
  if (!(timeout_s >= 1e9)) end = now_ns() + static_cast<int64_t>(std::max(0.0, timeout_s) * 1e9);
  for (;;) {
    bool there = false;
    {
      ReleaseGil release;
      there = box_->wait(after, std::min(end, now_ns() + kSlice));
    }
    if (there) return true;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (now_ns() >= end) return false;
  }
}

namespace {

DType read_dtype(const std::string& name) {
  auto dtype = dtype_from_name(name);
  if (!dtype) {
    throw make_error(Code::kInvalidArgument, "making a mailbox",
                     "there is no element type '" + name + "'",
                     "use NumPy's names, such as 'float32'", "dtype");
  }
  return *dtype;
}

}  // namespace

void bind_mailbox(py::module_& module) {
  using namespace py::literals;
  py::class_<PyMailbox>(module, "Mailbox", "One end of a mailbox, with its own place in it.")
      .def_static(
          "make",
          [](const py::str& name, const std::string& dtype, const std::vector<int64_t>& shape) {
            return PyMailbox(Mailbox::make(utf8(name), read_dtype(dtype), Shape(shape)));
          },
          "name"_a, "dtype"_a, "shape"_a)
      .def_static(
          "open", [](const py::str& name) { return PyMailbox(Mailbox::open(utf8(name))); },
          "name"_a)
      .def(
          "another", [](const PyMailbox& self) { return PyMailbox(self.box()); },
          "The same mailbox, with a place of its own.")
      .def_property_readonly("name", [](const PyMailbox& self) { return text(self.box()->name()); })
      .def_property_readonly(
          "dtype",
          [](const PyMailbox& self) { return std::string(dtype_name(self.box()->dtype())); })
      .def_property_readonly("shape",
                             [](const PyMailbox& self) -> py::tuple {
                               py::list dims;
                               for (const int64_t d : self.box()->shape().dims()) dims.append(d);
                               return py::tuple(dims);
                             })
      .def_property_readonly("latest", [](const PyMailbox& self) { return self.box()->latest(); })
      .def_property_readonly("orphaned",
                             [](const PyMailbox& self) { return self.box()->orphaned(); })
      .def_property_readonly("stale_reads", &PyMailbox::stale_reads)
      .def("write", &PyMailbox::write, "array"_a)
      .def("read", &PyMailbox::read, "out"_a)
      .def("wait", &PyMailbox::wait, "after"_a, "timeout_s"_a);
}

}  // namespace zerolane::bindings
