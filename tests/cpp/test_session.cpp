// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>

#include "core/error.h"
#include "core/session.h"
#include "fake_session.h"

using namespace zerolane;

namespace {

TensorSpec spec(std::vector<Dim> dims) {
  TensorSpec spec;
  spec.name = "x";
  spec.dtype = DType::kFloat32;
  spec.has_shape = true;
  spec.shape = std::move(dims);
  return spec;
}

Code code_of(const TensorSpec& spec, DType dtype, const Shape& shape) {
  try {
    check_tensor(spec, dtype, shape, "input", "m.onnx");
  } catch (const Error& error) {
    CHECK(error.message().find("'x'") != std::string::npos);
    CHECK(error.subject() == "x");
    return error.code();
  }
  return Code::kInternal;
}

}  // namespace

TEST_CASE("tensors are checked against their declaration") {
  TensorSpec image = spec({{-1, "N"}, {3, ""}, {-1, ""}});
  CHECK(image.shape_text() == "[N, 3, ?]");
  CHECK_FALSE(image.is_static());
  CHECK_NOTHROW(check_tensor(image, DType::kFloat32, Shape{5, 3, 7}, "input", "m.onnx"));
  CHECK(code_of(image, DType::kFloat64, Shape{5, 3, 7}) == Code::kInvalidArgument);
  CHECK(code_of(image, DType::kFloat32, Shape{5, 4, 7}) == Code::kShapeMismatch);
  CHECK(code_of(image, DType::kFloat32, Shape{5, 3}) == Code::kShapeMismatch);
  image.has_shape = false;
  CHECK_NOTHROW(check_tensor(image, DType::kFloat32, Shape{5, 3}, "input", "m.onnx"));
}

TEST_CASE("output shapes follow the names of input dimensions") {
  FakeSession session;
  session.input_specs = {spec({{-1, "N"}, {-1, "T"}})};
  session.output_specs = {spec({{-1, "N"}, {8, ""}}), spec({{-1, "K"}}), spec({{2, ""}})};
  Shape given{4, 9};
  auto predicted = predict_outputs(session, {&given});
  REQUIRE(predicted.size() == 3);
  CHECK(predicted[0].known);
  CHECK(predicted[0].shape == Shape{4, 8});
  CHECK_FALSE(predicted[1].known);
  CHECK(predicted[2].shape == Shape{2});
  CHECK_FALSE(predict_outputs(session, {nullptr})[0].known);
}
