// SPDX-License-Identifier: Apache-2.0
// zerolane._native: the table of contents. One file a subject.
#include <pybind11/pybind11.h>

#include "bindings/batcher.h"
#include "bindings/binding.h"
#include "bindings/build.h"
#include "bindings/contract.h"
#include "bindings/cuda.h"
#include "bindings/errors.h"
#include "bindings/future.h"
#include "bindings/lanes.h"
#include "bindings/load.h"
#include "bindings/logging.h"
#include "bindings/loop.h"
#include "bindings/mailbox.h"
#include "bindings/measure.h"
#include "bindings/op.h"
#include "bindings/pipeline.h"
#include "bindings/python_op.h"
#include "bindings/session.h"
#include "bindings/tensor.h"
#include "bindings/trt.h"
#include "core/fork.h"

// Free-threaded interpreters are not declared safe: nothing here has been run on one yet
// (docs/decisions.md).
PYBIND11_MODULE(_native, module) {
  using namespace zerolane;
  watch_forks();
  bindings::bind_errors();
  bindings::bind_logging();
  bindings::bind_tensor(module);
  bindings::bind_binding(module);
  bindings::bind_contract(module);
  bindings::bind_cuda(module);
  bindings::bind_future(module);
  bindings::bind_session(module);
  bindings::bind_lanes(module);
  bindings::bind_batcher(module);
  bindings::bind_load(module);
  bindings::bind_op(module);
  bindings::bind_python_op(module);
  bindings::bind_pipeline(module);
  bindings::bind_trt(module);
  bindings::bind_build(module);
  bindings::bind_mailbox(module);
  bindings::bind_loop(module);
  bindings::bind_measure(module);
}
