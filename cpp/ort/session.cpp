// SPDX-License-Identifier: Apache-2.0
#include "ort/session.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "core/mapped_file.h"
#include "core/onnx_model.h"
#include "core/trace.h"
#include "ort/context.h"
#include "ort/guard.h"
#include "ort/guard_op.h"
#include "ort/load_checks.h"
#include "ort/op_adapter.h"
#include "ort/session_impl.h"
#include "ort/tile_load.h"
#include "ort/values.h"

namespace zerolane::ort {
namespace {

// ORT-format files cannot be rewritten; the names of their operators stand in them as plain text.
bool mentions_guarded_op(std::span<const std::byte> bytes) {
  for (const GuardedInput& guarded : guarded_inputs()) {
    if (::memmem(bytes.data(), bytes.size(), guarded.op_type.data(), guarded.op_type.size())) {
      return true;
    }
  }
  return false;
}

bool is_host_provider(const Provider& provider) {
  static const char* const kHost[] = {"CPU", "XNNPACK", "Dnnl", "Azure"};
  return std::any_of(std::begin(kHost), std::end(kHost),
                     [&](const char* name) { return provider.name == name; });
}

// Whether an input can hold images of different sizes. A leading dimension alone is a batch.
bool has_dynamic_image(const std::vector<TensorSpec>& inputs) {
  for (const TensorSpec& spec : inputs) {
    size_t first = spec.shape.size() == 4 ? 1 : 0;
    for (size_t d = first; d < spec.shape.size(); ++d) {
      if (spec.shape[d].value < 0) return true;
    }
    if (spec.kind == ValueKind::kTensor && !spec.has_shape) return true;
  }
  return false;
}

}  // namespace

std::shared_ptr<SessionImpl> load_model_source(Runtime& rt, const ModelSource& source,
                                               const Options& options, bool is_twin) {
  const std::string& name = source.name;
  const std::string doing = "loading " + name;
  std::optional<MappedFile> file;
  if (!source.path.empty()) file.emplace(MappedFile::open(source.path));
  std::span<const std::byte> bytes = file ? file->bytes() : source.bytes;
  trace::Span span("load", name, static_cast<int64_t>(bytes.size()));
  if (bytes.empty()) {
    throw make_error(Code::kInvalidModel, doing, "the model is empty (0 bytes)",
                     "give a complete .onnx or .ort model", name);
  }
  bool ort_format = is_ort_format(bytes);
  Options adjusted = options;
  if (ort_format) adjusted.config.emplace_back("session.load_model_format", "ORT");
  const bool rewritten = !ort_format && options.graph_level > 0;  // so that there may be a twin
  Examined model = examine(bytes, name,
                           is_twin     ? GuardFor::kTwin
                           : rewritten ? GuardFor::kFed
                                       : GuardFor::kAll);
  if (model.transposes_empties) {
    adjusted.config.emplace_back("optimization.disable_specified_optimizers",
                                 "MatmulTransposeFusion");
  }
  // The bytes are here already; reading the file again costs the library up to a tenth of a load.
  // But with a path it finds other files itself: weights, or what providers keep beside a model.
  // The folder is only named where it is needed: that makes loading slower, too.
  const bool host_only =
      std::all_of(options.providers.begin(), options.providers.end(), is_host_provider);
  const bool by_path =
      !source.path.empty() && !model.guarded && (model.external_data || !host_only);
  if (!by_path && model.external_data && !source.folder.empty()) {
    adjusted.config.emplace_back("session.model_external_initializers_file_folder_path",
                                 source.folder);
  }
  if (model.guarded) bytes = *model.guarded;
  std::shared_ptr<const SessionOps> ops;
  if (!model.ops.empty()) {
    ops = std::make_shared<const SessionOps>(rt, model.ops, options.gpu, name);
  }
  // The library's options, with the operators of the model.
  const auto complete = [&](const Options& given) {
    Handle<OrtSessionOptions> made = make_session_options(rt, given, name);
    if (model.guarded) {
      check(rt, rt.api.AddCustomOpDomain(made.get(), guard_domain(rt, model.compares)), doing,
            name);
    }
    if (ops) ops->add_to(made.get());
    return made;
  };
  Handle<OrtSession> session(rt.api.ReleaseSession);
  std::shared_ptr<const TileOp> tiles;
  if (!is_twin && model.quantized_convolutions && !model.external_data) {
    tiles = load_with_tiles(rt, adjusted, name, bytes, complete, &session);
  }
  if (!tiles) {
    Handle<OrtSessionOptions> session_options = complete(adjusted);
    OrtStatus* status = by_path
                            ? rt.api.CreateSession(rt.env, source.path.c_str(),
                                                   session_options.get(), session.out())
                            : rt.api.CreateSessionFromArray(rt.env, bytes.data(), bytes.size(),
                                                            session_options.get(), session.out());
    try {
      check_load(rt, status, host_only && options.config.empty(), doing, name);
    } catch (const Error& error) {
      if (!ops || ops->missing().empty()) throw;
      throw make_error(Code::kNotFound, doing,
                       "no library has defined the ops " + ops->missing() + " that it uses",
                       "load their library with zl.ops.load(path), or install its package "
                       "(ONNX Runtime said: " +
                           error.message() + ")",
                       ops->missing());
    }
  }
  std::unique_ptr<TwinKeeper> twins;
  if (!is_twin) {
    twins = std::make_unique<TwinKeeper>(rt, source, options, rewritten, model.pools);
  }
  return std::make_shared<SessionImpl>(
      rt, std::move(session), name, host_only, ort_format && mentions_guarded_op(bytes),
      std::move(twins), options.gpu, options.cuda_graphs(), std::move(ops), std::move(tiles));
}

std::shared_ptr<Session> load_file(Runtime& rt, const std::string& path, const Options& options) {
  ModelSource source;
  source.path = path;
  size_t slash = path.find_last_of('/');
  source.name = slash == std::string::npos ? path : path.substr(slash + 1);
  source.folder = slash == std::string::npos ? "." : path.substr(0, std::max(slash, size_t{1}));
  stamp(&source);
  return load_model_source(rt, source, options, false);
}

std::shared_ptr<Session> load_bytes(Runtime& rt, std::span<const std::byte> bytes,
                                    std::shared_ptr<const void> owner, const std::string& name,
                                    const std::string& folder, const Options& options) {
  ModelSource source;
  source.bytes = bytes;
  source.owner = std::move(owner);
  source.name = name;
  source.folder = folder;
  return load_model_source(rt, source, options, false);
}

SessionImpl::SessionImpl(Runtime& rt, Handle<OrtSession> session, std::string name, bool host_only,
                         bool refuse_empty, std::unique_ptr<TwinKeeper> twins,
                         std::shared_ptr<Gpu> gpu, bool graphs,
                         std::shared_ptr<const SessionOps> ops, std::shared_ptr<const TileOp> tiles)
    : rt_(rt),
      gpu_(std::move(gpu)),
      ops_(std::move(ops)),
      tiles_(std::move(tiles)),
      gpu_memory_(rt.api.ReleaseMemoryInfo),
      session_(std::move(session)),
      name_(std::move(name)),
      host_only_(host_only),
      refuse_empty_(refuse_empty),
      twins_(std::move(twins)),
      graphs_(graphs),
      generation_(fork_generation.load()) {
  read_specs();
  read_info();
  if (gpu_) read_places();
  if (twins_ && !has_dynamic_image(inputs_)) twins_->ignore_small_images();
}

SessionImpl::~SessionImpl() {
  // After a fork the library would wait for worker threads that exist only in the parent.
  if (forked_since(generation_)) session_.take();
}

std::string SessionImpl::take_text(char* text) const {
  if (text == nullptr) return {};
  std::string copy = text;
  check(rt_, rt_.api.AllocatorFree(rt_.allocator, text), "reading " + name_, name_);
  return copy;
}

void SessionImpl::read_specs() {
  const Api& api = rt_.api;
  const std::string doing = "reading the inputs and outputs of " + name_;
  auto read = [&](auto get_count, auto get_name, auto get_type, std::vector<TensorSpec>* specs) {
    size_t count = 0;
    check(rt_, get_count(handle(), &count), doing, name_);
    for (size_t i = 0; i < count; ++i) {
      char* text = nullptr;
      check(rt_, get_name(handle(), i, rt_.allocator, &text), doing, name_);
      Handle<OrtTypeInfo> type(api.ReleaseTypeInfo);
      std::string spec_name = take_text(text);
      check(rt_, get_type(handle(), i, type.out()), doing, name_);
      specs->push_back(read_spec(rt_, std::move(spec_name), type.get()));
    }
  };
  read(api.SessionGetInputCount, api.SessionGetInputName, api.SessionGetInputTypeInfo, &inputs_);
  required_ = inputs_.size();
  read(api.SessionGetOverridableInitializerCount, api.SessionGetOverridableInitializerName,
       api.SessionGetOverridableInitializerTypeInfo, &inputs_);
  read(api.SessionGetOutputCount, api.SessionGetOutputName, api.SessionGetOutputTypeInfo,
       &outputs_);
  for (const TensorSpec& output : outputs_) {
    auto input = std::ranges::find(inputs_, output.name, &TensorSpec::name);
    passed_.push_back(input == inputs_.end() ? kNotPassed
                                             : static_cast<size_t>(input - inputs_.begin()));
  }
}

void SessionImpl::read_places() {
  const std::string doing = "asking where " + name_ + " has its inputs and outputs";
  check(rt_,
        rt_.api.CreateMemoryInfo("Cuda", kOrtDeviceAllocator, gpu_->device.id().index,
                                 kOrtMemTypeDefault, gpu_memory_.out()),
        doing, name_);
  input_places_.assign(inputs_.size(), Place::kUnknown);
  output_places_.assign(outputs_.size(), Place::kUnknown);
  auto read = [&](auto get, size_t count, std::vector<Place>* places) {
    if (get == nullptr || count == 0) return;  // before 1.23
    std::vector<const OrtMemoryInfo*> infos(count);
    check(rt_, get(handle(), infos.data(), count), doing, name_);
    for (size_t i = 0; i < count; ++i) {
      const char* name = nullptr;
      if (infos[i] == nullptr) continue;
      check(rt_, rt_.api.MemoryInfoGetName(infos[i], &name), doing, name_);
      (*places)[i] = std::strcmp(name, "Cuda") == 0 ? Place::kDevice : Place::kHost;
    }
  };
  // Values with a default in the model come behind the others and are not asked about.
  read(rt_.api.SessionGetMemoryInfoForInputs, required_, &input_places_);
  read(rt_.api.SessionGetMemoryInfoForOutputs, outputs_.size(), &output_places_);
}

void SessionImpl::read_info() {
  const Api& api = rt_.api;
  const std::string doing = "reading the metadata of " + name_;
  Handle<OrtModelMetadata> metadata(api.ReleaseModelMetadata);
  check(rt_, api.SessionGetModelMetadata(handle(), metadata.out()), doing, name_);
  auto read = [&](auto get) {
    char* text = nullptr;
    check(rt_, get(metadata.get(), rt_.allocator, &text), doing, name_);
    return take_text(text);
  };
  info_.producer = read(api.ModelMetadataGetProducerName);
  info_.graph_name = read(api.ModelMetadataGetGraphName);
  info_.domain = read(api.ModelMetadataGetDomain);
  info_.description = read(api.ModelMetadataGetDescription);
  check(rt_, api.ModelMetadataGetVersion(metadata.get(), &info_.version), doing, name_);
  char** keys = nullptr;
  int64_t count = 0;
  check(rt_,
        api.ModelMetadataGetCustomMetadataMapKeys(metadata.get(), rt_.allocator, &keys, &count),
        doing, name_);
  for (int64_t i = 0; i < count; ++i) {
    std::string key = take_text(keys[i]);
    char* text = nullptr;
    check(
        rt_,
        api.ModelMetadataLookupCustomMetadataMap(metadata.get(), rt_.allocator, key.c_str(), &text),
        doing, name_);
    info_.metadata.emplace_back(key, take_text(text));
  }
  if (keys != nullptr) check(rt_, api.AllocatorFree(rt_.allocator, keys), doing, name_);
}

std::unique_ptr<Context> SessionImpl::make_context() {
  return std::make_unique<ContextImpl>(std::static_pointer_cast<SessionImpl>(shared_from_this()));
}

bool SessionImpl::calls_python() const { return ops_ != nullptr && ops_->in_process(); }

std::string SessionImpl::end_profiling() {
  char* file = nullptr;
  check(rt_, rt_.api.SessionEndProfiling(handle(), rt_.allocator, &file), "ending profiling",
        name_);
  return take_text(file);
}

}  // namespace zerolane::ort
