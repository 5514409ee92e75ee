// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/tensor.h"
#include "dlpack/dlpack.h"

namespace zerolane {

// Hands out a tensor: the record holds a reference to the storage until its deleter runs. The
// caller owns the record. The legacy form cannot say "read-only": for a read-only storage it throws
// kUnsupported.
DLManagedTensorVersioned* to_dlpack(const Tensor& tensor);
DLManagedTensor* to_dlpack_legacy(const Tensor& tensor);

// What a record describes, before anybody has taken it over.
struct DlpackInfo {
  View view;       // data already offset
  bool row_major;  // dense in row-major order; otherwise `view` must not be read as one
  bool read_only;
};
// Throws kUnsupported for element types, lanes, ranks or devices that zerolane does not know, and
// for a null record.
DlpackInfo inspect(const DLTensor& tensor, uint64_t flags);

}  // namespace zerolane
