// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/session.h"
#include "ort/api.h"

namespace zerolane::ort {

using ValueHandle = Handle<OrtValue>;

// A value over borrowed memory.
ValueHandle wrap_view(const Runtime& rt, const View& view);

// A value that owns a copy of strings, or holds sequences and maps of such. Tensors inside are
// borrowed where the library allows it, so `value` must outlive the result.
ValueHandle to_ort(const Runtime& rt, const Value& value);

// Takes a result over. A tensor's memory stays the library's and is released with the Tensor.
Value from_ort(const Runtime& rt, ValueHandle value);

// Reads what a session declares.
TensorSpec read_spec(const Runtime& rt, std::string name, const OrtTypeInfo* info);

}  // namespace zerolane::ort
