// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace zerolane::trt {

// Makes dlopen("link_name") of any code in this process find the open library whose soname is
// `soname`, as a link of that name would, but without a file beside the library: pip wheels ship
// libtensorrt_rtx.so.1 alone, and the parser opens libtensorrt_rtx.so. Symbols stay local to who
// opens it. Once a name; any thread. Throws kUnavailable where the system forbids it.
void provide_link_name(const std::string& link_name, const std::string& soname);

}  // namespace zerolane::trt
