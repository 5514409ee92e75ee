// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "registry/call.h"
#include "registry/library.h"
#include "zerolane/op.h"

namespace {

using namespace zerolane;

// y = x + sum of a table of its own; rows of x above a threshold are counted.
struct Sum {
  std::vector<double> table{1, 2};
  float total = 0;
  static void define(op::Definition<Sum>& op) {
    op.name("cpp", "Sum").doc("");
    const auto T = op.type<float, int32_t>("T");
    op.attribute("table", &Sum::table).counts(0, 4).bounds(-10, 10);
    op.input("x", T);
    op.optional_input("more", T);
    op.output("y", T);
    op.output("above", T);
    op.cpu(T);
  }
  void init() {
    for (double value : table) total += static_cast<float>(value);
  }
  size_t scratch(const op::Call& call) const { return call.input_count() * 64; }
  void shape(op::Shapes& s) const {
    s.require_rank(0, 1);
    if (s.has(1)) s.require_same(s.dim(0, 0), s.dim(1, 0), "the extents of x and more");
    s.output(0, s.dims(0));
    s.output(1, {s.counted(s.dim(0, 0), s.dim(0, 0))});
  }
  template <typename T>
  void cpu(const op::Call& call) const {
    const auto x = call.input<T>(0);
    const auto y = call.output<T>(0);
    auto* scratch = call.scratch<T>();
    scratch[0] = static_cast<T>(total);
    int64_t count = 0;
    for (int64_t i = 0; i < x.size(); ++i) {
      y[i] = static_cast<T>(x[i] + scratch[0] + (call.has_input(1) ? call.input<T>(1)[i] : T{0}));
      count += y[i] > 5;
    }
    const auto above = call.allocate<T>(1, {count});
    for (int64_t i = 0, at = 0; i < x.size(); ++i) {
      if (y[i] > 5) above[at++] = y[i];
    }
  }
};

const ZlOpLibrary& library() {
  static const ZlOpLibrary* const table =
      op::library("cpp_test", "1", ZL_OP_ABI, op::tables_of<Sum>());
  static const OpLibrary& registered = register_ops(*table);
  CHECK(registered.ops.size() == 1);
  return *table;
}

std::shared_ptr<const OpState> sum(const Attributes& attributes = {}) {
  (void)library();
  return std::make_shared<const OpState>(*find_op("cpp::Sum"), attributes, "op cpp::Sum");
}

template <typename Body>
Error error_of(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  FAIL("nothing was thrown");
  return Error(Code::kInternal, "");
}

struct Result {
  std::vector<float> y, above;
};

Result call_with(OpCall& call, const std::vector<float>& x) {
  auto& inputs = call.inputs(1);
  inputs[0].present = true;
  inputs[0].data = x.data();
  inputs[0].dtype = DType::kFloat32;
  inputs[0].shape = Shape({static_cast<int64_t>(x.size())});
  call.plan();
  Result result;
  result.y.resize(x.size());
  call.set_output(0, result.y.data());
  call.set_allocator(
      [](void* owner, size_t, const Shape& shape) -> void* {
        auto& above = *static_cast<std::vector<float>*>(owner);
        above.resize(shape.count() + 1);  // never null
        return above.data();
      },
      &result.above);
  call.run_host();
  result.above.resize(call.output_shape(1).count());
  return result;
}

}  // namespace

TEST_CASE("registry: a call is planned, run and used again") {
  OpCall call(sum());
  for (int i = 0; i < 3; ++i) {
    CHECK(call_with(call, {1, 2, 3}).y == std::vector<float>{4, 5, 6});
    CHECK(call_with(call, {1, 2, 3}).above == std::vector<float>{6});
    CHECK(call_with(call, {}).y.empty());
    CHECK(call_with(call, {9, 9}).above == std::vector<float>{12, 12});
  }
}

TEST_CASE("registry: attributes are checked and filled in") {
  CHECK(std::get<std::vector<double>>(sum()->values()[0]) == std::vector<double>{1, 2});
  CHECK(error_of([] { sum({{"table", std::vector<double>{11}}}); }).code() ==
        Code::kInvalidArgument);
  CHECK(error_of([] { sum({{"table", std::vector<double>(5)}}); }).subject() == "table");
  CHECK(error_of([] { sum({{"tabel", int64_t{1}}}); }).subject() == "tabel");
  CHECK(error_of([] { sum({{"table", std::string("x")}}); }).code() == Code::kInvalidArgument);
  OpCall call(sum({{"table", std::vector<int64_t>{3, 4}}}));  // integers serve as floats
  CHECK(call_with(call, {0}).y == std::vector<float>{7});
}

TEST_CASE("registry: many threads share a state") {
  const auto state = sum();
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      OpCall call(state);
      for (int i = 0; i < 200; ++i) {
        const auto x = static_cast<float>(t * 1000 + i);
        if (call_with(call, {x}).y[0] != x + 3) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("registry: unknown and named extents go through a shape function") {
  const auto state = sum();
  OpShapes shapes;
  OpShapes::Extents x;
  x.present = true;
  x.rank = 1;
  for (ZlDim dim : {OpShapes::kUnknown, OpShapes::named(3), ZlDim{7}}) {
    x.dims[0] = dim;
    const OpShapes::Extents inputs[] = {x};
    shapes.run(*state, inputs);
    CHECK(shapes.output(0).dims[0] == dim);
    CHECK(OpShapes::is_counted(shapes.output(1).dims[0]));
    CHECK(shapes.most(0) == dim);
  }
  OpShapes::Extents more = x;
  more.dims[0] = 8;
  const OpShapes::Extents inputs[] = {x, more};
  CHECK(error_of([&] { shapes.run(*state, inputs); }).code() == Code::kShapeMismatch);
}

TEST_CASE("registry: tables that break the contract are refused by what they break") {
  const ZlOp& good = *library().ops[0];
  const auto refused = [&](auto change) {
    ZlOp bad = good;
    change(bad);
    const ZlOp* ops[] = {&bad};
    const ZlOpLibrary table{sizeof(ZlOpLibrary), ZL_OP_ABI, 0, "bad", "1", ops, 1};
    const Error error = error_of([&] { register_ops(table); });
    CHECK(error.code() == Code::kInvalidArgument);
    return error.message();
  };
  const auto says = [](const std::string& message, const char* part) {
    return message.find(part) != std::string::npos;
  };
  CHECK(says(refused([](ZlOp& op) { op.size = 8; }), "8 bytes"));
  CHECK(says(refused([](ZlOp& op) { op.domain = ""; }), "domain"));
  CHECK(says(refused([](ZlOp& op) { op.name = "a b"; }), "'a b'"));
  CHECK(says(refused([](ZlOp& op) { op.version = 0; }), "version 0"));
  CHECK(says(refused([](ZlOp& op) { op.shape = nullptr; }), "lacks create"));
  CHECK(says(refused([](ZlOp& op) { op.run_cpu = nullptr; }), "no body"));
  CHECK(says(refused([](ZlOp& op) { op.output_count = 0; }), "no output"));
  CHECK(says(refused([](ZlOp& op) { op.input_count = 1 << 20; }), "1048576 inputs"));
  CHECK(says(refused([](ZlOp& op) { op.type_count = 0; }), "has type 0"));
  CHECK(says(refused([](ZlOp& op) { op.input_count = 0; }), "that no required input decides"));
  const ZlOp* ops[] = {nullptr};
  const ZlOpLibrary table{sizeof(ZlOpLibrary), ZL_OP_ABI, 0, "bad", "1", ops, 1};
  CHECK(says(error_of([&] { register_ops(table); }).message(), "null pointer"));
}

TEST_CASE("registry: a library that is none is refused") {
  CHECK(error_of([] { load_op_library("/nonexistent.so"); }).code() == Code::kUnavailable);
  CHECK(error_of([] { load_op_library("libc.so.6"); }).code() == Code::kUnavailable);
  CHECK(find_op("cpp::Absent") == nullptr);
  CHECK(find_op("cpp::Sum", 0) == nullptr);
}
