// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "trt/build_options.h"
#include "trt/objects.h"

namespace zerolane::trt {

struct Library;

// Puts the options into `config`, profiles included, which belong to `builder`. Throws kUnsupported
// with the option's name where this release lacks it, kInvalidArgument where the library refuses
// a value.
void configure(const Library& library, Builder* builder, BuilderConfig* config,
               const BuildOptions& options);

}  // namespace zerolane::trt
