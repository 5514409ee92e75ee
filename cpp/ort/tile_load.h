// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "ort/api.h"
#include "ort/options.h"
#include "ort/tile_op.h"

namespace zerolane::ort {

// A session whose INT8 convolutions work on tiles (tiles.h), and their operator, which must outlive
// it. Null where they cannot: without AMX, with other providers than the CPU's or less than all
// optimizations, above 1 GB, where the model has no such convolutions, or where any step fails, of
// which an ordinary load tells more. `complete` makes the library's options, with the operators
// that the model's bytes need. Blocks, for about two loads.
std::unique_ptr<const TileOp> load_with_tiles(
    const Runtime& rt, const Options& options, const std::string& name,
    std::span<const std::byte> model,
    const std::function<Handle<OrtSessionOptions>(const Options&)>& complete,
    Handle<OrtSession>* session);

}  // namespace zerolane::ort
