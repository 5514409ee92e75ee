// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "registry/library.h"
#include "trt/plugin.h"

namespace zerolane::trt {

struct Library;

// Ops in a plugin registry of a library while this lives, each by its full name ("my::Scale"), its
// version and the namespace "". Registries of builders and runtimes are their own, and go with
// them: so must this.
class PluginCreators {
 public:
  // Makes the plugin for the fields that the library hands in. What it throws goes to the failures.
  using Make = std::function<std::unique_ptr<Plugin>(const OpEntry& entry,
                                                     const PluginFieldCollection& fields)>;

  // Throws kUnsupported where the library takes no plugins, kBackend where it refuses one.
  PluginCreators(const Library& library, PluginRegistry* registry,
                 std::span<const OpEntry* const> ops, std::shared_ptr<PluginFailures> failures,
                 Make make);
  ~PluginCreators();
  PluginCreators(const PluginCreators&) = delete;
  PluginCreators& operator=(const PluginCreators&) = delete;

 private:
  class Creator;
  void deregister() noexcept;

  const Library& library_;
  PluginRegistry* registry_;
  std::shared_ptr<PluginFailures> failures_;
  Make make_;
  std::vector<std::unique_ptr<Creator>> creators_;
};

// Throws kUnsupported for a release that takes no plugins of others: TensorRT-RTX before 1.7.
void check_takes_plugins(const Library& library, const std::string& doing);

// Makes plugins of what PluginFields wrote, for a GPU.
PluginCreators::Make make_from_engine(const Library& library,
                                      std::shared_ptr<PluginFailures> failures, int device);

}  // namespace zerolane::trt
