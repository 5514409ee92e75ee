// SPDX-License-Identifier: Apache-2.0
#include "cuda/graph.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace zerolane::cuda {

GraphHandle Graph::record(CudaStream& stream, const std::function<void()>& enqueue, size_t& nodes) {
  refuse_after_fork();
  const Table& table = stream.device().table();
  int device = stream.device().index();
  if (stream.capturing_) {
    throw make_error(Code::kInvalidArgument, "capturing a CUDA graph",
                     "the stream is being captured already", "capture one graph after the other");
  }
  check(table.capture_begin(device, stream.native()), {"cudaStreamBeginCapture", device});
  stream.capturing_ = true;
  // Ends the capture, whatever happened in it.
  auto end = [&](NativeGraph** graph) {
    stream.capturing_ = false;
    return table.capture_end(device, stream.native(), graph);
  };
  NativeGraph* made = nullptr;
  try {
    enqueue();
  } catch (...) {
    if (end(&made) == 0) GraphHandle(device, made).reset();
    stream.captured_.clear();
    throw;
  }
  auto works = std::move(stream.captured_);
  stream.captured_.clear();
  int32_t status = end(&made);
  GraphHandle graph(device, status == 0 ? made : nullptr);
  check(status, {"cudaStreamEndCapture", device});
  for (auto& work : works) {
    auto destroy = [](void* object) { delete static_cast<CudaStream::Work*>(object); };
    check(table.graph_retain(device, graph.get(), work.release(), destroy),
          {"cudaGraphRetainUserObject", device});
  }
  uint64_t count = 0;
  check(table.graph_nodes(device, graph.get(), &count), {"cudaGraphGetNodes", device});
  if (count == 0) {
    throw make_error(Code::kInternal, "capturing a CUDA graph",
                     "no work was enqueued on the stream, expected at least one node",
                     "check that the work uses the stream that is captured");
  }
  nodes = count;
  return graph;
}

Graph Graph::capture(CudaStream& stream, const std::function<void()>& enqueue) {
  Graph made;
  made.device_ = &stream.device();
  GraphHandle graph = record(stream, enqueue, made.nodes_);
  NativeGraphExec* exec = nullptr;
  int device = stream.device().index();
  check(stream.device().table().graph_instantiate(device, graph.get(), &exec),
        {"cudaGraphInstantiate", device});
  made.exec_ = GraphExecHandle(device, exec);
  return made;
}

bool Graph::update(CudaStream& stream, const std::function<void()>& enqueue) {
  if (!exec_) {
    *this = capture(stream, enqueue);
    return false;
  }
  const Table& table = stream.device().table();
  int device = stream.device().index();
  size_t nodes = 0;
  GraphHandle graph = record(stream, enqueue, nodes);
  int32_t updated = 0;
  check(table.graph_update(device, exec_.get(), graph.get(), &updated),
        {"cudaGraphExecUpdate", device});
  if (updated == 0) {
    NativeGraphExec* exec = nullptr;
    check(table.graph_instantiate(device, graph.get(), &exec), {"cudaGraphInstantiate", device});
    exec_ = GraphExecHandle(device, exec);
  }
  nodes_ = nodes;
  return updated != 0;
}

void Graph::launch(CudaStream& stream) const {
  refuse_after_fork();
  if (!exec_) [[unlikely]] {
    throw make_error(Code::kInternal, "launching a CUDA graph", "nothing was captured into it",
                     "capture it first");
  }
  check(device_->table().graph_launch(device_->index(), exec_.get(), stream.native()),
        {"cudaGraphLaunch", device_->index()});
}

GraphCache::GraphCache(size_t cap) : cap_(std::max<size_t>(cap, 1)) {}

Graph* GraphCache::find(const GraphKey& key) {
  auto found = std::find_if(entries_.begin(), entries_.end(),
                            [&](const Entry& entry) { return entry.key == key; });
  if (found == entries_.end()) {
    ++stats_.misses;
    return nullptr;
  }
  ++stats_.hits;
  entries_.splice(entries_.begin(), entries_, found);
  return &entries_.front().graph;
}

Graph& GraphCache::insert(GraphKey key, Graph graph) {
  entries_.remove_if([&](const Entry& entry) { return entry.key == key; });
  entries_.push_front({std::move(key), std::move(graph)});
  while (entries_.size() > cap_) {
    entries_.pop_back();
    ++stats_.evictions;
  }
  return entries_.front().graph;
}

GraphCacheStats GraphCache::stats() const {
  GraphCacheStats stats = stats_;
  stats.graphs = entries_.size();
  return stats;
}

}  // namespace zerolane::cuda
