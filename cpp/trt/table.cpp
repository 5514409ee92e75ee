// SPDX-License-Identifier: Apache-2.0
#include "trt/calls.h"

namespace zerolane::trt {
namespace {

void set_number(Calls* calls, BuilderFlag flag, int32_t n) { calls->builder_flags.set(flag, n); }
void set_number(Calls* calls, NetworkFlag flag, int32_t n) { calls->network_flags.set(flag, n); }
void set_number(Calls* calls, PreviewFeature feature, int32_t n) {
  calls->preview_features.set(feature, n);
}
void set_number(Calls* calls, TacticSource source, int32_t n) {
  calls->tactic_sources.set(source, n);
}
void set_number(Calls* calls, SerializationFlag flag, int32_t n) {
  calls->serialization_flags.set(flag, n);
}
void set_number(Calls* calls, ParserFlag flag, int32_t n) { calls->parser_flags.set(flag, n); }

#define ZL_TRT_SLOT(klass, method, slot, since) \
  if (minor >= (since)) calls.klass##_##method.set(slot);
#define ZL_TRT_SLOT_ONLY(klass, method, slot, only) \
  if (minor == (only)) calls.klass##_##method.set(slot);
#define ZL_TRT_NUMBER(enumeration, enumerator, number, since) \
  if (minor >= (since)) set_number(&calls, enumeration::enumerator, number);

Calls calls_10(int minor) {
  Calls calls;
#include "tensorrt/tensorrt_10.inc"
  return calls;
}

Calls calls_11(int minor) {
  Calls calls;
#include "tensorrt/tensorrt_11.inc"
  return calls;
}

Calls calls_rtx_1(int minor) {
  Calls calls;
#include "tensorrt/tensorrt_rtx_1.inc"
  return calls;
}

#undef ZL_TRT_SLOT
#undef ZL_TRT_SLOT_ONLY
#undef ZL_TRT_NUMBER

}  // namespace

Calls make_calls(Family family, int minor) {
  switch (family) {
    case Family::k10:
      return calls_10(minor);
    case Family::k11:
      return calls_11(minor);
    case Family::kRtx1:
      break;
  }
  return calls_rtx_1(minor);
}

Covered covered_minors(Family family) noexcept {
  switch (family) {
    case Family::k10:
      return {0, 16};
    case Family::k11:
      return {0, 4};
    case Family::kRtx1:
      break;
  }
  return {5, 7};
}

}  // namespace zerolane::trt
