// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <vector>

#include "cuda/handles.h"
#include "cuda/stream.h"

namespace zerolane::cuda {

// Captured work, ready to run again with one call. Move-only. One thread at a time. Memory that the
// work uses must stay where it is; host work is kept by the graph.
class Graph {
 public:
  Graph() = default;

  // Runs `enqueue`, which puts work on `stream`, and records it instead of running it. Throws what
  // `enqueue` throws, kDevice where the capture broke, and kInternal where nothing was enqueued: an
  // empty graph cannot be made. The stream is usable again in every case.
  static Graph capture(CudaStream& stream, const std::function<void()>& enqueue);

  // Records anew into this graph. True: changed in place; false: the work has another structure
  // and was instantiated from nothing. Throws as capture() does, and is then as it was.
  bool update(CudaStream& stream, const std::function<void()>& enqueue);

  // Runs the work once more, in stream order; does not wait.
  void launch(CudaStream& stream) const;

  size_t nodes() const noexcept { return nodes_; }
  explicit operator bool() const noexcept { return static_cast<bool>(exec_); }

 private:
  static GraphHandle record(CudaStream& stream, const std::function<void()>& enqueue,
                            size_t& nodes);

  CudaDevice* device_ = nullptr;
  GraphExecHandle exec_;
  size_t nodes_ = 0;
};

// What a graph is valid for: all extents of all inputs one after the other, and whatever else
// (addresses) the owner wants told apart.
using GraphKey = std::vector<int64_t>;

struct GraphCacheStats {
  size_t graphs = 0;
  uint64_t hits = 0;
  uint64_t misses = 0;
  uint64_t evictions = 0;
};

// Graphs by key, at most `cap` of them: the one not used for longest goes first. One thread at a
// time; no allocation on a hit.
class GraphCache {
 public:
  explicit GraphCache(size_t cap = 16);

  // The graph, now the most recently used; null if there is none. Valid until the next insert() or
  // clear().
  Graph* find(const GraphKey& key);
  Graph& insert(GraphKey key, Graph graph);
  void clear() noexcept { entries_.clear(); }
  GraphCacheStats stats() const;
  size_t cap() const noexcept { return cap_; }

 private:
  struct Entry {
    GraphKey key;
    Graph graph;
  };
  size_t cap_;
  std::list<Entry> entries_;  // most recently used first; caps are small, so searched in order
  GraphCacheStats stats_;
};

}  // namespace zerolane::cuda
