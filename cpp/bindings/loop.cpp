// SPDX-License-Identifier: Apache-2.0
#include "bindings/loop.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <set>
#include <utility>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/errors.h"
#include "bindings/logging.h"
#include "bindings/mailbox.h"
#include "bindings/text.h"
#include "core/error.h"
#include "runtime/realtime.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

// Loops that still run, so that they end before the interpreter does. Needs the GIL.
std::set<PyLoop*>& started_loops() {
  static auto* loops = new std::set<PyLoop*>;
  return *loops;
}

[[noreturn]] void refuse(const std::string& found, const std::string& remedy,
                         const std::string& subject, Code code = Code::kInvalidArgument) {
  throw make_error(code, "making a loop", found, remedy, subject);
}

// A number above zero in the unit of the option, as nanoseconds; None is 0.
int64_t read_time(const py::dict& options, const char* name, double unit_ns) {
  const py::object given = options[name];
  if (given.is_none()) return 0;
  double value = PyFloat_AsDouble(given.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    value = 0;
  }
  if (!(value > 0)) {
    refuse(std::string(name) + " is " + utf8(py::repr(given)), "give a number above zero, or None",
           name);
  }
  return static_cast<int64_t>(std::ceil(std::min(value * unit_ns, 1e18)));
}

size_t index_of(const std::vector<TensorSpec>& specs, const std::string& name, const char* role) {
  std::string names;
  for (size_t i = 0; i < specs.size(); ++i) {
    if (specs[i].name == name) return i;
    names += (i == 0 ? "'" : ", '") + specs[i].name + "'";
  }
  refuse(std::string("there is no ") + role + " '" + name + "', they are " + names,
         "check the name", name);
}

const View& checked_view(const View& view, const std::string& what, const std::string& name) {
  if (view.data == nullptr) {
    refuse(what + " has no fixed memory, as its size depends on data",
           "use a model whose sizes the inputs' shapes tell", name, Code::kUnsupported);
  }
  if (view.device.kind != DeviceKind::kHost) {
    refuse(what + " lies in a device's memory, and mailboxes in the host's",
           "bind it by its shape: what goes to the device is copied then", name,
           Code::kUnsupported);
  }
  return view;
}

Overrun read_overrun(const std::string& name) {
  if (name == "skip") return Overrun::kSkip;
  if (name == "catch_up") return Overrun::kCatchUp;
  if (name == "stop") return Overrun::kStop;
  refuse("overrun is '" + name + "'", "use 'skip', 'catch_up' or 'stop'", "overrun");
}

RealtimeOptions read_realtime(const py::object& cpus, int priority, bool lock_memory) {
  RealtimeOptions options;
  if (!cpus.is_none()) options.cpus = cpus.cast<std::vector<int>>();
  options.priority = priority;
  options.lock_memory = lock_memory;
  return options;
}

using Refused = std::vector<std::pair<std::string, std::string>>;

Refused as_pairs(std::vector<Refusal> refused) {
  Refused pairs;
  for (Refusal& r : refused) pairs.emplace_back(std::move(r.option), std::move(r.reason));
  return pairs;
}

std::string mailbox_name(const py::dict& options, const std::string& tensor) {
  const py::object name = options["name"];
  return name.is_none() ? std::string() : utf8(name) + "/" + tensor;
}

}  // namespace

PyLoop::PyLoop(py::object binding, const py::dict& options) : binding_(std::move(binding)) {
  auto& bound = binding_.cast<PyBinding&>();
  const Session& session = *bound.session();
  if (session.calls_python()) {
    refuse(session.name() + " has ops written in Python, which need the interpreter's lock",
           "write them in C++ (zerolane op new)", session.name(), Code::kUnsupported);
  }
  LoopOptions loop;
  const py::object rate = options["rate_hz"];
  if (!rate.is_none()) loop.rate_hz = rate.cast<double>();
  loop.overrun = read_overrun(utf8(options["overrun"]));
  loop.deadline_ns = read_time(options, "deadline_ms", 1e6);
  if (loop.deadline_ns == 0 && loop.rate_hz > 0) {
    loop.deadline_ns = static_cast<int64_t>(std::min(1e9 / loop.rate_hz, 1e18));
  }
  loop.max_age_ns = read_time(options, "max_age_ms", 1e6);
  loop.spin_ns = read_time(options, "spin_us", 1e3);
  loop.realtime = read_realtime(options["cpus"], options["priority"].cast<int>(),
                                options["lock_memory"].cast<bool>());
  if (!options["name"].is_none()) loop.label = utf8(options["name"]);
  std::vector<LoopFeedback> feedback = read_feedback(options);
  std::vector<LoopInput> inputs = read_inputs(options, &loop);
  std::vector<LoopOutput> outputs = read_outputs(options);
  Context& context = bound.lend_context();
  try {
    loop_ = std::make_shared<Loop>(context, session.name(), std::move(inputs), std::move(outputs),
                                   std::move(feedback), std::move(loop));
  } catch (...) {
    bound.take_context_back();  // no destructor will run
    throw;
  }
}

PyLoop::~PyLoop() {
  if (forked_since(generation_)) {
    // Its threads are the parent's, and so is what they use.
    new (std::nothrow) std::shared_ptr<Loop>(std::move(loop_));
    binding_.release();
    return;
  }
  try {
    close(5);
  } catch (const std::exception&) {  // nobody is left to be told
  }
}

// Feedback inputs are read first, as they have no mailbox.
std::vector<LoopFeedback> PyLoop::read_feedback(const py::dict& options) {
  auto& bound = binding_.cast<PyBinding&>();
  std::vector<LoopFeedback> feedback;
  for (auto item : options["feedback"].cast<py::dict>()) {
    const std::string from = utf8(item.first);
    const std::string to = utf8(item.second);
    const size_t output = index_of(bound.session()->outputs(), from, "output");
    const size_t input = index_of(bound.session()->inputs(), to, "input");
    const View& a = checked_view(bound.output_view(output), "output '" + from + "'", from);
    const View& b = checked_view(bound.input_view(input), "input '" + to + "'", to);
    if (a.dtype != b.dtype || !(a.shape == b.shape)) {
      refuse("feedback output '" + from + "' is " + std::string(dtype_name(a.dtype)) +
                 a.shape.text() + ", input '" + to + "' is " + std::string(dtype_name(b.dtype)) +
                 b.shape.text(),
             "feed an output back into an input like it", to, Code::kShapeMismatch);
    }
    const bool taken = std::any_of(feedback.begin(), feedback.end(),
                                   [&](const LoopFeedback& f) { return f.to == b.data; });
    if (taken) refuse("feedback names input '" + to + "' twice", "name one output for it", to);
    feedback.push_back({a.data, b.data, b.bytes()});
  }
  return feedback;
}

std::vector<LoopInput> PyLoop::read_inputs(const py::dict& options, LoopOptions* loop) {
  auto& bound = binding_.cast<PyBinding&>();
  const std::vector<TensorSpec>& specs = bound.session()->inputs();
  const auto given = options["inputs"].cast<py::dict>();
  const auto feedback = options["feedback"].cast<py::dict>();
  for (auto item : given) index_of(specs, utf8(item.first), "input");
  const py::object trigger = options["trigger"];
  if (trigger.is_none() == options["rate_hz"].is_none()) {
    refuse(
        trigger.is_none() ? "neither rate_hz nor trigger is given" : "it has a rate and a trigger",
        "give rate_hz, or the input whose messages are the ticks as trigger", "trigger");
  }
  if (!trigger.is_none()) index_of(specs, utf8(trigger), "input");
  std::vector<LoopInput> inputs;
  for (size_t i = 0; i < specs.size(); ++i) {
    const py::str name = text(specs[i].name);
    if (bound.input_view(i).data == nullptr) continue;  // left out: it has its default
    bool fed_back = false;
    for (auto item : feedback) fed_back = fed_back || name.equal(item.second);
    if (fed_back) {
      if (given.contains(name) || name.equal(trigger)) {
        refuse("input '" + specs[i].name + "' is fed back and given a mailbox or made the trigger",
               "choose one", specs[i].name);
      }
      continue;
    }
    const View& view =
        checked_view(bound.input_view(i), "input '" + specs[i].name + "'", specs[i].name);
    if (given.contains(name)) {
      inputs_[name] = given[name];
      const Mailbox& box = *given[name].cast<PyMailbox&>().box();
      check_tensor(specs[i], box.dtype(), box.shape(), "input", "the mailbox given for it");
      if (!(box.shape() == view.shape)) {
        refuse("the mailbox for input '" + specs[i].name + "' has shape " + box.shape().text() +
                   ", the binding " + view.shape.text(),
               "bind the input with that shape", specs[i].name, Code::kShapeMismatch);
      }
    } else {
      inputs_[name] = py::cast(
          PyMailbox(Mailbox::make(mailbox_name(options, specs[i].name), view.dtype, view.shape)));
    }
    if (name.equal(trigger)) loop->trigger = inputs.size();
    inputs.push_back({view.data, inputs_[name].cast<PyMailbox&>().box()});
  }
  return inputs;
}

std::vector<LoopOutput> PyLoop::read_outputs(const py::dict& options) {
  auto& bound = binding_.cast<PyBinding&>();
  const std::vector<TensorSpec>& specs = bound.session()->outputs();
  const auto safe = options["safe"].cast<py::dict>();
  for (auto item : safe) index_of(specs, utf8(item.first), "output");
  std::vector<LoopOutput> outputs;
  for (size_t i = 0; i < specs.size(); ++i) {
    const py::str name = text(specs[i].name);
    const std::string what = "output '" + specs[i].name + "'";
    const View& view = checked_view(bound.output_view(i), what, specs[i].name);
    auto box = Mailbox::make(mailbox_name(options, specs[i].name), view.dtype, view.shape);
    box->claim();
    PyMailbox mailbox(box);
    std::vector<std::byte> bytes;
    if (safe.contains(name)) {
      const Lent lent = lend(safe[name], mailbox.spec(), /*copy=*/true, /*writable=*/false, nullptr,
                             {specs[i].name, "the safe value of " + what});
      check_tensor(mailbox.spec(), lent.view.dtype, lent.view.shape, "safe", what);
      bytes.resize(view.bytes());
      std::memcpy(bytes.data(), lent.view.data, bytes.size());
    }
    outputs_[name] = py::cast(std::move(mailbox));
    outputs.push_back({view.data, std::move(box), std::move(bytes)});
  }
  return outputs;
}

void PyLoop::check_fork() const {
  if (forked_since(generation_)) throw_forked("a loop");
}

Refused PyLoop::start() {
  check_fork();
  if (started_ || closed_) {
    throw make_error(Code::kInvalidArgument, "starting a loop", "it was started or closed before",
                     "make a new one", "loop");
  }
  std::vector<Refusal> refused;
  {
    ReleaseGil release;
    refused = loop_->start();
  }
  started_ = true;
  started_loops().insert(this);
  return as_pairs(refused);
}

bool PyLoop::close(double timeout_s) {
  if (forked_since(generation_)) return true;
  if (closed_) return true;
  closed_ = true;
  started_loops().erase(this);
  // At the interpreter's exit this object may go while others have the GIL.
  const std::shared_ptr<Loop> loop = loop_;
  py::object binding = binding_;
  bool ended = false;
  {
    ReleaseGil release;
    // Not a number is no time at all.
    ended = loop->close(timeout_s > 0 ? static_cast<int64_t>(std::min(timeout_s, 1e6) * 1e9) : 0);
  }
  drain_log();
  if (ended) {
    binding.cast<PyBinding&>().take_context_back();
  } else {
    binding.release();  // for ever: the thread that hangs still uses it
  }
  return ended;
}

void PyLoop::raise_error() const {
  if (std::exception_ptr error = loop_->error()) std::rethrow_exception(error);
}

py::dict PyLoop::counts() const {
  const LoopCounts c = loop_->counts();
  auto missed = [&](Miss miss) { return c.missed[static_cast<size_t>(miss)]; };
  py::dict dict;
  dict["ticks"] = c.ticks;
  dict["runs"] = c.runs;
  dict["waiting"] = c.waiting;
  dict["woke_late"] = missed(Miss::kWokeLate);
  dict["ran_long"] = missed(Miss::kRanLong);
  dict["run_failed"] = missed(Miss::kRunFailed);
  dict["input_stale"] = missed(Miss::kInputStale);
  dict["stale_reads"] = c.stale_reads;
  dict["safe_outputs"] = c.safe_outputs;
  dict["running_ms"] = static_cast<double>(c.running_ns) / 1e6;
  return dict;
}

const LatencyHistogram& PyLoop::histogram(const std::string& which) const {
  if (which == "call") return loop_->call;
  return which == "late" ? loop_->late : loop_->age;
}

void bind_loop(py::module_& module) {
  using namespace py::literals;
  py::class_<PyLoop>(module, "Loop", "The native side of zl.Loop.")
      .def(py::init([](py::object binding, const py::dict& options) {
             if (!py::isinstance<PyBinding>(binding)) {
               refuse("it is given a " + utf8(py::type::handle_of(binding).attr("__name__")),
                      "give what session.bind(...) returns", "binding");
             }
             return std::make_unique<PyLoop>(std::move(binding), options);
           }),
           "binding"_a, "options"_a)
      .def("start", &PyLoop::start)
      .def("close", &PyLoop::close, "timeout_s"_a)
      .def("raise_error", &PyLoop::raise_error)
      .def("running", &PyLoop::running)
      .def("counts", &PyLoop::counts)
      .def(
          "percentiles_us",
          [](const PyLoop& self, const std::string& which, const std::vector<double>& fractions) {
            std::vector<double> us;
            us.reserve(fractions.size());
            for (const double f : fractions) {
              us.push_back(static_cast<double>(self.histogram(which).percentile(f)) / 1e3);
            }
            return us;
          },
          "which"_a, "fractions"_a)
      .def(
          "recorded",
          [](const PyLoop& self, const std::string& which) {
            return self.histogram(which).count();
          },
          "which"_a)
      .def("mailboxes", [](const PyLoop& self) -> py::tuple {
        return py::make_tuple(self.inputs(), self.outputs());
      });
  module.def(
      "make_realtime",
      [](const py::object& cpus, int priority, bool lock_memory) {
        return as_pairs(make_realtime(read_realtime(cpus, priority, lock_memory)));
      },
      "cpus"_a, "priority"_a, "lock_memory"_a,
      "Applies to the calling thread; returns (option, reason) of what the system refused.");
  py::module_::import("atexit").attr("register")(py::cpp_function([] {
    for (PyLoop* loop : std::vector<PyLoop*>(started_loops().begin(), started_loops().end())) {
      loop->close(5);
    }
    Mailbox::unlink_all();
  }));
}

}  // namespace zerolane::bindings
