// SPDX-License-Identifier: Apache-2.0
// The parser library's refitter: weights out of an ONNX model. Where each of the engine's weights
// is named in the model, that takes the place of the engine's own.
#include <fstream>
#include <iterator>

#include "objects.h"

namespace fake {
namespace {

struct ParserRefitterFake : Base {
  explicit ParserRefitterFake(RefitterFake& of) : Base("ParserRefitter"), refitter(of) {}
  void* direct() { return &callee; }

  RefitterFake& refitter;
  std::vector<std::unique_ptr<ErrorFake>> errors;

  bool refuse(const std::string& text) {
    errors.push_back(std::make_unique<ErrorFake>(ParserErrorCode::kRefitFailed, text, -1));
    return false;
  }

  bool refit(const std::string& model) {
    for (const Plan::Weight& weight : refitter.engine.plan.weights) {
      if (model.find(weight.name) == std::string::npos) {
        return refuse("Assertion failed: weights: no initializer named " + weight.name);
      }
    }
    try {
      Model{model, {}};
    } catch (const std::exception& error) {
      return refuse(error.what());
    }
    refitter.replacement = model;
    return true;
  }
};

ParserRefitterFake& refitter_of(void* self) { return self_of<ParserRefitterFake>(self); }

FAKE(ParserRefitter, refitFromBytes, [](void* self, const void* data, size_t size, const char*) {
  return refitter_of(self).refit({static_cast<const char*>(data), size});
});
FAKE(ParserRefitter, refitFromFile, [](void* self, const char* path) {
  std::ifstream file(path, std::ios::binary);
  return refitter_of(self).refit({std::istreambuf_iterator<char>(file), {}});
});
FAKE(ParserRefitter, getNbErrors,
     [](void* self) { return static_cast<int32_t>(refitter_of(self).errors.size()); });
FAKE(ParserRefitter, getError, [](void* self, int32_t index) {
  return refitter_of(self).errors.at(static_cast<size_t>(index))->direct();
});
FAKE(ParserRefitter, destroy, [](void* self) { delete &refitter_of(self); });

}  // namespace
}  // namespace fake

extern "C" __attribute__((visibility("default"))) void* createNvOnnxParserRefitter_INTERNAL(
    void* refitter, void*, int32_t) {
  return (new fake::ParserRefitterFake(fake::behind<fake::RefitterFake>(refitter)))->direct();
}
