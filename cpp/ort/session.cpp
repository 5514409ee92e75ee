// SPDX-License-Identifier: Apache-2.0
#include "ort/session.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/mapped_file.h"
#include "core/onnx_model.h"
#include "core/trace.h"
#include "ort/context.h"
#include "ort/guard.h"
#include "ort/guard_op.h"
#include "ort/session_impl.h"
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

// `path` is empty for a model in memory.
std::shared_ptr<Session> load(Runtime& rt, std::span<const std::byte> bytes,
                              const std::string& path, const std::string& name,
                              const std::string& folder, const Options& options) {
  const std::string doing = "loading model " + name;
  trace::Span span("load", name, static_cast<int64_t>(bytes.size()));
  if (bytes.empty()) {
    throw make_error(Code::kInvalidModel, doing, "the model is empty (0 bytes)",
                     "give a complete .onnx or .ort model", name);
  }
  bool ort_format = is_ort_format(bytes);
  Options adjusted = options;
  if (ort_format) adjusted.config.emplace_back("session.load_model_format", "ORT");
  if (!folder.empty()) {
    adjusted.config.emplace_back("session.model_external_initializers_file_folder_path", folder);
  }
  auto guarded = ort_format ? std::nullopt : guard_model(bytes);
  Handle<OrtSessionOptions> session_options = make_session_options(rt, adjusted, name);
  if (guarded) {
    bytes = *guarded;
    check(rt, rt.api.AddCustomOpDomain(session_options.get(), guard_domain(rt)), doing, name);
  }
  Handle<OrtSession> session(rt.api.ReleaseSession);
  OrtStatus* status =
      guarded || path.empty()
          ? rt.api.CreateSessionFromArray(rt.env, bytes.data(), bytes.size(), session_options.get(),
                                          session.out())
          : rt.api.CreateSession(rt.env, path.c_str(), session_options.get(), session.out());
  try {
    check(rt, status, doing, name);
  } catch (const Error& error) {
    // The options were accepted above, so what is invalid here is the model.
    if (error.code() != Code::kInvalidArgument) throw;
    throw Error(Code::kInvalidModel, error.message(), error.subject());
  }
  bool host_only =
      std::all_of(options.providers.begin(), options.providers.end(), is_host_provider);
  return std::make_shared<SessionImpl>(rt, std::move(session), name, host_only,
                                       ort_format && mentions_guarded_op(bytes));
}

}  // namespace

std::shared_ptr<Session> load_file(Runtime& rt, const std::string& path, const Options& options) {
  size_t slash = path.find_last_of('/');
  std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  std::string folder =
      slash == std::string::npos ? "." : path.substr(0, std::max(slash, size_t{1}));
  MappedFile file = MappedFile::open(path);
  return load(rt, file.bytes(), path, name, folder, options);
}

std::shared_ptr<Session> load_bytes(Runtime& rt, std::span<const std::byte> bytes,
                                    const std::string& name, const std::string& folder,
                                    const Options& options) {
  return load(rt, bytes, "", name, folder, options);
}

SessionImpl::SessionImpl(Runtime& rt, Handle<OrtSession> session, std::string name, bool host_only,
                         bool refuse_empty)
    : rt_(rt),
      session_(std::move(session)),
      name_(std::move(name)),
      host_only_(host_only),
      refuse_empty_(refuse_empty),
      generation_(fork_generation.load()) {
  read_specs();
  read_info();
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

std::string SessionImpl::end_profiling() {
  char* file = nullptr;
  check(rt_, rt_.api.SessionEndProfiling(handle(), rt_.allocator, &file), "ending profiling",
        name_);
  return take_text(file);
}

}  // namespace zerolane::ort
