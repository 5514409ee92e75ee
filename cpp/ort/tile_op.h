// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ort/api.h"
#include "ort/tiles.h"

namespace zerolane::ort {

// The operator zerolane.tiles::TileConv of one session, and the weights of its nodes. Must outlive
// the session.
class TileOp {
 public:
  // `threads`: what the session's runs may use.
  TileOp(const Runtime& rt, TileModel model, int threads, std::string name);
  TileOp(const TileOp&) = delete;
  TileOp& operator=(const TileOp&) = delete;

  void add_to(OrtSessionOptions* options) const;
  size_t count() const { return nodes_.size(); }

 private:
  // What the library knows of it; it hands the record to some of the callbacks.
  struct Record : OrtCustomOp {
    const TileOp* op;
  };
  struct Kernel;

  void infer(OrtShapeInferContext* context) const;

  const Runtime& rt_;
  LargePages tables_;
  std::vector<TileNode> nodes_;
  int threads_;
  std::string name_;
  Record record_;
  Handle<OrtCustomOpDomain> domain_;
};

}  // namespace zerolane::ort
