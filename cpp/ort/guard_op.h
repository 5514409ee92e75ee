// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ort/api.h"

namespace zerolane::ort {

// The operator domain of the guards that guard.h writes into models; without RequireWith unless
// `compares`, as a session that knows fewer operators loads faster. Made once; lives as long as the
// process.
OrtCustomOpDomain* guard_domain(const Runtime& rt, bool compares);

}  // namespace zerolane::ort
