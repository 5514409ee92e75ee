// SPDX-License-Identifier: Apache-2.0
#include "trt/plugin_creators.h"

#include <utility>

#include "core/error.h"
#include "trt/library.h"

namespace zerolane::trt {

class PluginCreators::Creator final : public PluginCreatorV3One {
 public:
  Creator(PluginCreators& owner, const OpEntry& entry)
      : owner_(owner), entry_(entry), version_(std::to_string(entry.version)) {}

  PluginV3* createPlugin(const char*, const PluginFieldCollection* fields,
                         TensorRTPhase) noexcept override {
    try {
      constexpr PluginFieldCollection kNone{0, nullptr};
      return owner_.make_(entry_, fields != nullptr ? *fields : kNone).release();
    } catch (...) {
      owner_.failures_->keep();
      return nullptr;
    }
  }
  const PluginFieldCollection* getFieldNames() noexcept override {
    // What a parser shall read of a node; the rest is read from the model without it.
    static const PluginField kNode{kNodeField, nullptr, PluginFieldType::kInt32, 1};
    static const PluginFieldCollection kNames{1, &kNode};
    return &kNames;
  }
  const char* getPluginName() const noexcept override { return entry_.name.c_str(); }
  const char* getPluginVersion() const noexcept override { return version_.c_str(); }
  const char* getPluginNamespace() const noexcept override { return ""; }

 private:
  PluginCreators& owner_;
  const OpEntry& entry_;
  const std::string version_;
};

PluginCreators::PluginCreators(const Library& library, PluginRegistry* registry,
                               std::span<const OpEntry* const> ops,
                               std::shared_ptr<PluginFailures> failures, Make make)
    : library_(library),
      registry_(registry),
      failures_(std::move(failures)),
      make_(std::move(make)) {
  if (ops.empty()) return;
  const std::string doing = "registering plugins with " + library.title();
  check_takes_plugins(library, doing);
  if (registry == nullptr) {
    throw make_error(Code::kUnsupported, doing, "it has no registry for them",
                     "install the complete library", library.path);
  }
  for (const OpEntry* entry : ops) {
    auto creator = std::make_unique<Creator>(*this, *entry);
    LoggedErrors logged;
    if (!library.calls.PluginRegistry_registerCreator(registry_, creator.get(), "")) {
      deregister();
      throw failure(library, doing + ": " + entry->name, logged.errors(), entry->name);
    }
    creators_.push_back(std::move(creator));
  }
}

PluginCreators::~PluginCreators() { deregister(); }

void PluginCreators::deregister() noexcept {
  for (const auto& creator : creators_) {
    library_.calls.PluginRegistry_deregisterCreator(registry_, creator.get());
  }
}

void check_takes_plugins(const Library& library, const std::string& doing) {
  if (library.family != Family::kRtx1 || library.minor >= 7) return;
  throw make_error(Code::kUnsupported, doing,
                   library.title() + " takes no ops of others, expected TensorRT-RTX 1.7 or later",
                   "install it: pip install -U 'zerolane[tensorrt-rtx]'", library.path);
}

PluginCreators::Make make_from_engine(const Library& library,
                                      std::shared_ptr<PluginFailures> failures, int device) {
  return [&library, failures = std::move(failures), device](const OpEntry& entry,
                                                            const PluginFieldCollection& fields) {
    size_t scratch = 0;
    std::shared_ptr<const PluginFacts> facts = read_fields(entry, fields, &scratch);
    return std::make_unique<Plugin>(library.calls, std::move(facts), failures, scratch, device);
  };
}

}  // namespace zerolane::trt
