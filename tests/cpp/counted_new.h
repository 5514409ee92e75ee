// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// How often this program has called operator new, on any thread.
uint64_t news();
