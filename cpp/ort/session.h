// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "core/session.h"
#include "ort/options.h"

namespace zerolane::ort {

// Loads an ONNX or ORT-format model. Blocks. Throws kNotFound, kInvalidModel, and what
// make_session_options throws.
std::shared_ptr<Session> load_file(Runtime& rt, const std::string& path, const Options& options);

// The same from memory, which `owner` keeps alive as long as the session; `name` is for messages,
// `folder` is where external data lies ("" for none).
std::shared_ptr<Session> load_bytes(Runtime& rt, std::span<const std::byte> bytes,
                                    std::shared_ptr<const void> owner, const std::string& name,
                                    const std::string& folder, const Options& options);

}  // namespace zerolane::ort
