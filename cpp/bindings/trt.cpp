// SPDX-License-Identifier: Apache-2.0
#include "bindings/trt.h"

#include <pybind11/stl.h>

#include <map>

#include "bindings/arrays.h"
#include "bindings/gil.h"
#include "bindings/logging.h"
#include "bindings/text.h"
#include "core/error.h"
#include "registry/library.h"
#include "trt/session.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

std::string path_of(const py::object& path) {
  auto encoded = py::reinterpret_steal<py::bytes>(PyUnicode_EncodeFSDefault(path.ptr()));
  if (!encoded) throw py::error_already_set();
  return encoded;
}

ModelInfo read_info(const py::dict& given) {
  ModelInfo info;
  info.producer = utf8(given["producer"]);
  info.graph_name = utf8(given["graph_name"]);
  info.domain = utf8(given["domain"]);
  info.description = utf8(given["description"]);
  info.version = given["version"].cast<int64_t>();
  for (auto entry : given["custom"].cast<py::dict>()) {
    info.metadata.emplace_back(utf8(entry.first), utf8(entry.second));
  }
  return info;
}

trt::Engine& engine_of(const PySession& session) {
  session.check_fork();
  trt::Engine* engine = trt::engine_of(*session.session());
  if (engine != nullptr) return *engine;
  throw make_error(Code::kUnsupported, "asking " + session.session()->name() + " for its engine",
                   "the session runs on another backend than TensorRT",
                   "load it with backend='tensorrt' or 'tensorrt-rtx'", session.session()->name());
}

py::dict facts_of(const PySession& session) {
  trt::Engine& engine = engine_of(session);
  trt::Engine::Facts facts = engine.facts();
  py::list profiles;
  for (size_t p = 0; p < engine.profiles().count(); ++p) {
    py::dict ranges;
    for (size_t i = 0; i < engine.inputs().size(); ++i) {
      const trt::InputRange& range = engine.profiles().range(p, i);
      ranges[text(engine.inputs()[i].name)] =
          py::make_tuple(py::tuple(py::cast(range.min)), py::tuple(py::cast(range.opt)),
                         py::tuple(py::cast(range.max)));
    }
    profiles.append(ranges);
  }
  auto known = [](int64_t value) -> py::object {
    return value < 0 ? py::object(py::none()) : py::object(py::int_(value));
  };
  py::dict out;
  out["library"] = facts.library;
  out["layers"] = facts.layer_count;
  out["aux_streams"] = facts.aux_streams;
  out["profiles"] = profiles;
  out["refittable"] = facts.refittable;
  out["weight_bytes"] = known(facts.weight_bytes);
  out["streamable_weight_bytes"] = known(facts.streamable_bytes);
  out["streaming_budget_bytes"] = known(facts.streaming_budget);
  out["activation_bytes"] = facts.activation_bytes;
  out["shared_activation_blocks"] = engine.activations().blocks();
  out["shared_activation_bytes"] = engine.activations().bytes();
  return out;
}

void refit(const PySession& session, const py::dict& weights) {
  trt::Engine& engine = engine_of(session);
  std::vector<trt::Engine::NamedWeights> native;
  for (auto entry : weights) {
    View view;
    std::string name = utf8(entry.first);
    if (!read_ndarray(entry.second.ptr(), false, &view)) {
      throw make_error(Code::kInvalidArgument, "refitting " + session.session()->name(),
                       "the weights '" + name + "' are no row-major NumPy array",
                       "give numpy.ascontiguousarray of them", name);
    }
    native.push_back({name, view.dtype, view.data, static_cast<int64_t>(view.shape.count())});
  }
  ReleaseGil release;
  engine.refit(native);
}

void refit_from(const PySession& session, const std::string& model, const py::object& path,
                const py::object& content) {
  trt::Engine& engine = engine_of(session);
  std::string file = path.is_none() ? "" : path_of(path);
  py::buffer_info bytes;
  std::span<const std::byte> span;
  if (!content.is_none()) {
    bytes = content.cast<py::buffer>().request();
    span = {static_cast<const std::byte*>(bytes.ptr),
            static_cast<size_t>(bytes.size * bytes.itemsize)};
  }
  try {
    ReleaseGil release;
    engine.refit_from(model, file, span);
  } catch (...) {
    drain_log();
    throw;
  }
  drain_log();
}

}  // namespace

std::unique_ptr<PySession> load_engine(const py::object& library, const py::buffer& plan,
                                       const py::dict& options, const py::object& result_type) {
  trt::EngineSettings engine_settings;
  engine_settings.device = options["device"].cast<int>();
  engine_settings.allow_host_code = options["host_code"].cast<bool>();
  engine_settings.memory_limit = options["memory_limit"].cast<uint64_t>();
  engine_settings.cache_file = path_of(options["kernel_cache"]);
  engine_settings.stripped = options["stripped"].cast<bool>();
  trt::SessionSettings settings;
  settings.name = utf8(options["name"]);
  settings.graphs = options["graphs"].cast<size_t>();
  settings.profile = path_of(options["profile"]);
  settings.log_level = static_cast<LogLevel>(options["log_level"].cast<int>());
  for (auto entry : options["symbols"].cast<py::dict>()) {
    std::vector<std::string>& names = settings.symbols[utf8(entry.first)];
    for (py::handle name : entry.second) names.push_back(utf8(name));
  }
  settings.info = read_info(options["info"]);
  trt::PlanFacts facts;
  for (py::handle name : options["uint8"]) facts.uint8.insert(utf8(name));
  const py::list op_libraries = options["op_libraries"];
  auto identity = options["identity"].cast<std::string>();
  GilPolicy::Mode gil = parse_gil_mode(options["gil"].cast<std::string>());
  bool copy = options["copy"].cast<bool>();
  std::string path = path_of(library);
  py::buffer_info info = plan.request();
  std::shared_ptr<Session> session;
  try {
    for (py::handle row : op_libraries) {
      auto pair = py::reinterpret_borrow<py::tuple>(row);
      const std::string file = path_of(pair[0]);
      const auto wanted = pair[1].cast<std::map<std::string, int>>();
      ReleaseGil release;
      for (const OpEntry* op : load_op_library(file).ops) {
        const auto found = wanted.find(op->name);
        if (found != wanted.end() && found->second == op->version) facts.ops.push_back(op);
      }
    }
    ReleaseGil release;
    trt::Library& opened = trt::open_library(path);
    std::span<const std::byte> bytes(static_cast<const std::byte*>(info.ptr),
                                     static_cast<size_t>(info.size * info.itemsize));
    std::shared_ptr<trt::Engine> engine;
    {
      trt::Verbosity verbosity(opened.logger, settings.log_level);
      engine = trt::Engine::load(opened, bytes, settings.name, identity, engine_settings, facts);
    }
    session = trt::make_session(std::move(engine), std::move(settings));
  } catch (...) {
    drain_log();
    throw;
  }
  drain_log();
  return std::make_unique<PySession>(std::move(session), gil, copy, result_type);
}

void bind_trt(py::module_& module) {
  using namespace py::literals;
  module.def("engine_facts", &facts_of, "session"_a);
  module.def(
      "engine_layers",
      [](const PySession& session, bool json) { return text(engine_of(session).layers(json)); },
      "session"_a, "json"_a);
  module.def(
      "engine_weights",
      [](const PySession& session) {
        py::list names;
        for (const std::string& name : engine_of(session).refittable_weights()) {
          names.append(text(name));
        }
        return names;
      },
      "session"_a);
  module.def("refit_engine", &refit, "session"_a, "weights"_a);
  module.def("refit_engine_from", &refit_from, "session"_a, "model"_a, "path"_a, "content"_a);
}

}  // namespace zerolane::bindings
