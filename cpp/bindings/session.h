// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "bindings/call.h"
#include "bindings/gil.h"
#include "core/fork.h"
#include "core/session.h"

namespace zerolane::bindings {

// A session as Python sees it. Calling it is a C slot: session(x, y) or session({"x": x}).
class PySession {
 public:
  PySession(std::shared_ptr<Session> session, GilPolicy::Mode gil, bool copy,
            pybind11::object make_result_type);

  const std::shared_ptr<Session>& session() const { return session_; }
  FramePool& frames() { return frames_; }
  GilPolicy::Mode gil_mode() const { return gil_mode_; }
  bool copy() const { return copy_; }
  const GilPolicy& gil() const { return gil_; }
  // Throws kUnavailable in a child forked after the session was made.
  void check_fork() const {
    if (forked_since(generation_)) throw_forked("model " + session_->name());
  }

  pybind11::object call(PyObject* args, PyObject* kwargs);
  // Whether these arguments are one dict of inputs, so that the results are a dict too. `kwargs`
  // may be null.
  bool is_dict_form(PyObject* args, PyObject* kwargs) const;
  pybind11::object run(const pybind11::dict& inputs, const CallOptions& options);

  // Puts the inputs (borrowed) into the session's order, null for those left out. Unknown names,
  // too many or doubled ones throw kInvalidArgument.
  void sort_inputs(PyObject* const* positional, size_t count, PyObject* named,
                   std::vector<PyObject*>* sorted) const;
  pybind11::object as_dict(std::vector<pybind11::object>& results) const;
  pybind11::object as_arrays(std::vector<pybind11::object>& results);

 private:
  std::shared_ptr<Session> session_;
  GilPolicy::Mode gil_mode_;
  GilPolicy gil_;
  bool copy_;
  pybind11::object make_result_type_;  // names of the outputs -> named tuple type
  pybind11::object result_type_;       // null until an answer of several outputs needs it
  unsigned generation_ = fork_generation.load();
  std::vector<pybind11::object> input_names_;  // interned
  std::vector<pybind11::object> output_names_;
  FramePool frames_;
};

void bind_session(pybind11::module_& module);

}  // namespace zerolane::bindings
