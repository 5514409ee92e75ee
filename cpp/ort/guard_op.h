// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ort/api.h"

namespace zerolane::ort {

// The operator domain of the guards that guard.h writes into models. Made once; lives as long as
// the process.
OrtCustomOpDomain* guard_domain(const Runtime& rt);

}  // namespace zerolane::ort
