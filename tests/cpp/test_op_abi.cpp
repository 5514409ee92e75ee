// SPDX-License-Identifier: Apache-2.0
// The layout of the op contract. A number here never changes while ZL_OP_ABI is 1: add lines for
// new fields, at the end of their record.
#include <cstddef>

#include "zerolane/op_abi.h"

static_assert(ZL_OP_ABI == 1);

static_assert(sizeof(ZlValue) == 56);
static_assert(offsetof(ZlValue, type) == 0);
static_assert(offsetof(ZlValue, integer) == 8);
static_assert(offsetof(ZlValue, real) == 16);
static_assert(offsetof(ZlValue, text) == 24);
static_assert(offsetof(ZlValue, integers) == 32);
static_assert(offsetof(ZlValue, reals) == 40);
static_assert(offsetof(ZlValue, count) == 48);

static_assert(sizeof(ZlAttribute) == 128);
static_assert(offsetof(ZlAttribute, name) == 0);
static_assert(offsetof(ZlAttribute, doc) == 8);
static_assert(offsetof(ZlAttribute, type) == 16);
static_assert(offsetof(ZlAttribute, required) == 20);
static_assert(offsetof(ZlAttribute, fallback) == 24);
static_assert(offsetof(ZlAttribute, least) == 80);
static_assert(offsetof(ZlAttribute, greatest) == 88);
static_assert(offsetof(ZlAttribute, least_count) == 96);
static_assert(offsetof(ZlAttribute, greatest_count) == 104);
static_assert(offsetof(ZlAttribute, choices) == 112);
static_assert(offsetof(ZlAttribute, choice_count) == 120);

static_assert(sizeof(ZlType) == 24);
static_assert(offsetof(ZlType, dtypes) == 8);
static_assert(offsetof(ZlType, dtype_count) == 16);

static_assert(sizeof(ZlArgument) == 24);
static_assert(offsetof(ZlArgument, name) == 0);
static_assert(offsetof(ZlArgument, doc) == 8);
static_assert(offsetof(ZlArgument, kind) == 16);
static_assert(offsetof(ZlArgument, type) == 20);

static_assert(sizeof(ZlShapeCalls) == 80);
static_assert(offsetof(ZlShapeCalls, input_count) == 8);
static_assert(offsetof(ZlShapeCalls, rank) == 16);
static_assert(offsetof(ZlShapeCalls, dim) == 24);
static_assert(offsetof(ZlShapeCalls, number) == 32);
static_assert(offsetof(ZlShapeCalls, combine) == 40);
static_assert(offsetof(ZlShapeCalls, known) == 48);
static_assert(offsetof(ZlShapeCalls, counted) == 56);
static_assert(offsetof(ZlShapeCalls, output) == 64);
static_assert(offsetof(ZlShapeCalls, fail) == 72);

static_assert(sizeof(ZlCall) == 80);
static_assert(offsetof(ZlCall, input_count) == 8);
static_assert(offsetof(ZlCall, output_count) == 12);
static_assert(offsetof(ZlCall, inputs) == 16);
static_assert(offsetof(ZlCall, outputs) == 24);
static_assert(offsetof(ZlCall, scratch) == 32);
static_assert(offsetof(ZlCall, stream) == 40);
static_assert(offsetof(ZlCall, constants) == 48);
static_assert(offsetof(ZlCall, allocate) == 56);
static_assert(offsetof(ZlCall, counts) == 64);
static_assert(offsetof(ZlCall, fail) == 72);

static_assert(sizeof(ZlConstant) == 16);

static_assert(sizeof(ZlOp) == 168);
static_assert(offsetof(ZlOp, size) == 0);
static_assert(offsetof(ZlOp, domain) == 8);
static_assert(offsetof(ZlOp, name) == 16);
static_assert(offsetof(ZlOp, doc) == 24);
static_assert(offsetof(ZlOp, version) == 32);
static_assert(offsetof(ZlOp, types) == 40);
static_assert(offsetof(ZlOp, type_count) == 48);
static_assert(offsetof(ZlOp, attributes) == 56);
static_assert(offsetof(ZlOp, attribute_count) == 64);
static_assert(offsetof(ZlOp, inputs) == 72);
static_assert(offsetof(ZlOp, input_count) == 80);
static_assert(offsetof(ZlOp, outputs) == 88);
static_assert(offsetof(ZlOp, output_count) == 96);
static_assert(offsetof(ZlOp, user) == 104);
static_assert(offsetof(ZlOp, create) == 112);
static_assert(offsetof(ZlOp, destroy) == 120);
static_assert(offsetof(ZlOp, shape) == 128);
static_assert(offsetof(ZlOp, scratch) == 136);
static_assert(offsetof(ZlOp, constants) == 144);
static_assert(offsetof(ZlOp, run_cpu) == 152);
static_assert(offsetof(ZlOp, run_cuda) == 160);

static_assert(sizeof(ZlOpLibrary) == 48);
static_assert(offsetof(ZlOpLibrary, abi) == 8);
static_assert(offsetof(ZlOpLibrary, name) == 16);
static_assert(offsetof(ZlOpLibrary, version) == 24);
static_assert(offsetof(ZlOpLibrary, ops) == 32);
static_assert(offsetof(ZlOpLibrary, op_count) == 40);
