// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/session.h"
#include "ort/api.h"

namespace zerolane::ort {

using ValueHandle = Handle<OrtValue>;

// A value over borrowed memory, which `place` names; null: it is the host's.
ValueHandle wrap_view(const Runtime& rt, const View& view, const OrtMemoryInfo* place = nullptr);

// A value that owns a copy of strings, or holds sequences and maps of such. Tensors inside are
// borrowed where the library allows it, so `value` must outlive the result.
ValueHandle to_ort(const Runtime& rt, const Value& value);

// Takes a result over. A tensor's memory stays the library's and is released with the Tensor; it is
// on `device`, where strings, sequences and maps never are.
Value from_ort(const Runtime& rt, ValueHandle value, DeviceId device = {});

// Reads what a session declares.
TensorSpec read_spec(const Runtime& rt, std::string name, const OrtTypeInfo* info);

}  // namespace zerolane::ort
