// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "cuda/device.h"
#include "fake_cuda.h"
#include "fake_model.h"
#include "registry/library.h"
#include "runtime/deadline.h"
#include "runtime/pipeline.h"
#include "zerolane/op.h"

namespace {

using namespace zerolane;
using Sources = std::vector<std::optional<TensorSource>>;

TensorSource input(size_t index) { return {TensorSource::kPipelineInput, index}; }
TensorSource of(int stage, size_t index = 0) { return {stage, index}; }

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

bool says(const Error& error, const std::string& part) {
  return error.message().find(part) != std::string::npos;
}

// y = x + add, in the shape of x.
FakeModel::Body adding(float add) {
  return [add](FakeRun& run) {
    const View& x = run.inputs[0];
    auto* y = static_cast<float*>(run.output(0, x.shape));
    if (y == nullptr) return;
    for (size_t i = 0; i < x.shape.count(); ++i) y[i] = static_cast<const float*>(x.data)[i] + add;
  };
}

// The numbers above zero: how many is decided by the data.
void keep_positive(FakeRun& run) {
  std::vector<float> kept;
  const View& x = run.inputs[0];
  for (size_t i = 0; i < x.shape.count(); ++i) {
    const float value = static_cast<const float*>(x.data)[i];
    if (value > 0) kept.push_back(value);
  }
  void* y = run.output(0, Shape{static_cast<int64_t>(kept.size())});
  if (!kept.empty()) std::memcpy(y, kept.data(), kept.size() * sizeof(float));
}

std::shared_ptr<FakeModel> model(const std::string& name, FakeModel::Body body,
                                 const std::vector<std::string>& in = {"N"},
                                 const std::vector<std::string>& out = {"N"},
                                 DType from = DType::kFloat32, DType to = DType::kFloat32) {
  return std::make_shared<FakeModel>(name, std::vector{fake_spec("x", from, in)},
                                     std::vector{fake_spec("y", to, out)}, std::move(body));
}

StagePlan stage(const std::shared_ptr<FakeModel>& session, Sources sources) {
  StagePlan plan;
  plan.name = session->name();
  plan.session = session;
  plan.inputs = std::move(sources);
  return plan;
}

// Stages one behind the other.
PipelinePlan chain(const std::vector<std::shared_ptr<FakeModel>>& models) {
  PipelinePlan plan;
  plan.name = "p";
  plan.inputs.push_back({"x", DType::kNone, false, {}});
  for (size_t i = 0; i < models.size(); ++i) {
    plan.stages.push_back(stage(models[i], {i == 0 ? input(0) : of(static_cast<int>(i) - 1)}));
  }
  plan.outputs.push_back({"y", of(static_cast<int>(models.size()) - 1)});
  return plan;
}

View view_of(std::vector<float>& values) {
  return {values.data(), DType::kFloat32, {}, Shape{static_cast<int64_t>(values.size())}};
}

std::vector<float> numbers(const Value& value) {
  const auto& tensor = std::get<Tensor>(value);
  const auto* data = static_cast<const float*>(tensor.data());
  return {data, data + tensor.shape().count()};
}

std::vector<float> run_on(Context& context, std::vector<float> x) {
  context.set_input(0, view_of(x));
  context.request_output(0);
  context.run();
  return numbers(context.take_output(0));
}

// A second GPU, of which nothing is asked but where it is.
class OtherGpu final : public Device {
 public:
  DeviceId id() const override { return {DeviceKind::kCuda, 7}; }
  void* allocate(size_t bytes) override { return host_device().allocate(bytes); }
  void release(void* data, size_t bytes) noexcept override { host_device().release(data, bytes); }
  void copy(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  std::unique_ptr<Stream> make_stream() override { return std::make_unique<Idle>(); }

 private:
  class Idle final : public Stream {
   public:
    void enqueue(std::function<void()>) override {}
    std::shared_ptr<Event> record() override { return nullptr; }
    void wait_for(std::shared_ptr<Event>) override {}
    void synchronize() override {}
    void copy_async(void*, const void*, size_t) override {}
    DeviceId device_id() const noexcept override { return {DeviceKind::kCuda, 7}; }
    void* native_handle() const noexcept override { return nullptr; }
  };
};

// y = 2 x; above: the numbers of x above 3.
struct Twice {
  static void define(op::Definition<Twice>& op) {
    op.name("pipe", "Twice").doc("");
    const auto T = op.type<float, double>("T");
    op.input("x", T);
    op.optional_input("unused", T);
    op.output("y", T);
    op.optional_output("above", T);
    op.cpu(T);
    op.cuda();
  }
  void shape(op::Shapes& s) const {
    s.require_rank(0, 1);
    s.output(0, s.dims(0));
    s.output(1, {s.counted(s.dim(0, 0), s.dim(0, 0))});
  }
  template <typename T>
  void cpu(const op::Call& call) const {
    const auto x = call.input<T>(0);
    const auto y = call.output<T>(0);
    std::vector<T> above;
    for (int64_t i = 0; i < x.size(); ++i) {
      y[i] = 2 * x[i];
      if (x[i] > 3) above.push_back(x[i]);
    }
    if (!call.wants_output(1)) return;
    const auto found = call.allocate<T>(1, {static_cast<int64_t>(above.size())});
    for (size_t i = 0; i < above.size(); ++i) found[static_cast<int64_t>(i)] = above[i];
  }
  // The stand-in's device memory is the host's, and it has nothing else on this stream.
  int cuda(const op::Call& call) const {
    const auto x = call.input<float>(0);
    const auto y = call.output<float>(0);
    for (int64_t i = 0; i < x.size(); ++i) y[i] = 2 * x[i];
    return 0;
  }
};

std::shared_ptr<const OpState> twice() {
  // op::library() makes one table of a size in a program, and the tests are one program.
  static const auto tables = op::tables_of<Twice>();
  static const ZlOpLibrary table{sizeof(ZlOpLibrary), ZL_OP_ABI,    0, "pipeline_test", "1",
                                 tables.data(),       tables.size()};
  static const OpLibrary& registered = register_ops(table);
  (void)registered;
  return std::make_shared<const OpState>(*find_op("pipe::Twice"), Attributes{}, "op pipe::Twice");
}

StagePlan op_stage(const std::string& name, Sources sources) {
  StagePlan plan;
  plan.name = name;
  plan.kind = StageKind::kOp;
  plan.op = twice();
  plan.inputs = std::move(sources);
  return plan;
}

}  // namespace

TEST_CASE("pipeline: the memory that one stage writes is what the next one reads") {
  auto first = model("first", adding(1)), second = model("second", adding(10));
  auto third = model("third", adding(100));
  auto pipeline = make_pipeline(chain({first, second, third}));
  auto context = pipeline->make_context();
  std::vector<float> x{1, 2, 3, 4, 5}, y(5);
  context->bind_input(0, view_of(x));
  context->bind_output(0, view_of(y));
  context->run();
  CHECK(y == std::vector<float>{112, 113, 114, 115, 116});
  CHECK(first->seen_inputs[0] == x.data());
  CHECK(second->seen_inputs[0] == first->seen_outputs[0]);
  CHECK(third->seen_inputs[0] == second->seen_outputs[0]);
  CHECK(third->seen_outputs[0] == y.data());
  // Nothing is bound again by the runs that follow.
  const void* between = first->seen_outputs[0];
  const int binds = first->binds + second->binds + third->binds;
  x[0] = -1;
  context->run();
  CHECK(y[0] == 110);
  CHECK(first->seen_outputs[0] == between);
  CHECK(first->binds + second->binds + third->binds == binds);
}

TEST_CASE("pipeline: results that are asked for are the caller's") {
  auto pipeline = make_pipeline(chain({model("a", adding(1)), model("b", adding(1))}));
  auto context = pipeline->make_context();
  std::vector<float> x{1, 2, 3};
  std::vector<Value> kept;
  for (float start : {0.0F, 10.0F, 20.0F}) {
    x[0] = start;
    context->set_input(0, view_of(x));
    context->request_output(0);
    context->run();
    kept.push_back(context->take_output(0));
  }
  CHECK(numbers(kept[0]) == std::vector<float>{2, 4, 5});
  CHECK(numbers(kept[1]) == std::vector<float>{12, 4, 5});
  CHECK(numbers(kept[2]) == std::vector<float>{22, 4, 5});
}

TEST_CASE("pipeline: sizes that the data decide, zero among them") {
  auto keep = model("keep", keep_positive, {"N"}, {"M"});
  auto after = model("after", adding(1));
  auto pipeline = make_pipeline(chain({keep, after}));
  auto context = pipeline->make_context();
  CHECK(run_on(*context, {1, -1, 2}) == std::vector<float>{2, 3});
  CHECK(run_on(*context, {-1, -1, -2}).empty());
  CHECK(run_on(*context, {5, 6, 7}) == std::vector<float>{6, 7, 8});
  CHECK(run_on(*context, {5, -6, 7}) == std::vector<float>{6, 8});
  CHECK_FALSE(keep->predictable(0));
  CHECK_FALSE(pipeline->predictable(0));
  const int runs = keep->runs;
  CHECK(run_on(*context, {-5, -6, 7}) == std::vector<float>{8});
  CHECK(keep->runs == runs + 1);
  CHECK(run_on(*context, {}).empty());
}

TEST_CASE("pipeline: memory of the wrong size for a result is refused, and the context usable") {
  auto pipeline = make_pipeline(chain({model("a", adding(1)), model("b", adding(1))}));
  auto context = pipeline->make_context();
  std::vector<float> x{1, 2, 3}, y(2);
  context->set_input(0, view_of(x));
  context->set_output(0, view_of(y));
  const Error error = error_of([&] { context->run(); });
  CHECK(error.code() == Code::kShapeMismatch);
  CHECK(says(error, "running stage 'b' of p"));
  CHECK(run_on(*context, {1, 2, 3}) == std::vector<float>{3, 4, 5});
}

TEST_CASE("pipeline: dimensions keep their own names between stages") {
  // "N" of the second is what the first makes of its "N"; its other input has an "N" of its own.
  auto a = model("a", adding(0), {"N", "3"}, {"N", "H"});
  auto b = std::make_shared<FakeModel>(
      "b",
      std::vector{fake_spec("x", DType::kFloat32, {"N", "K"}),
                  fake_spec("z", DType::kFloat32, {"H"})},
      std::vector{fake_spec("y", DType::kFloat32, {"N", "K", "H", "4", "?"})}, adding(0));
  PipelinePlan plan = chain({a});
  plan.inputs.push_back({"z", DType::kNone, false, {}});
  plan.stages.push_back(stage(b, {of(0), input(1)}));
  plan.outputs = {{"y", of(1)}};
  auto pipeline = make_pipeline(plan);
  CHECK(pipeline->inputs()[0].shape_text() == "[N, 3]");
  CHECK(pipeline->inputs()[1].shape_text() == "[H]");
  CHECK(pipeline->outputs()[0].shape_text() == "[N, a.H, H, 4, ?]");
  // What one reader fixes is fixed for all.
  auto fixed = model("fixed", adding(0), {"5", "?"}, {"5"});
  PipelinePlan both = chain({a});
  both.stages.push_back(stage(fixed, {input(0)}));
  both.outputs.push_back({"z", of(1)});
  auto ensemble = make_pipeline(both);
  CHECK(ensemble->inputs()[0].shape_text() == "[5, 3]");
  CHECK(ensemble->outputs()[0].shape_text() == "[5, H]");
}

TEST_CASE("pipeline: what does not fit is found when it is made, with both names") {
  auto a = model("a", adding(0), {"N", "3"}, {"N", "4"});
  struct Row {
    std::shared_ptr<FakeModel> second;
    Code code;
    std::string part;
  };
  const Row rows[] = {
      {model("b", adding(0), {"N", "4"}, {"N"}, DType::kInt64), Code::kInvalidArgument,
       "a tensor(float32), expected a tensor(int64)"},
      {model("b", adding(0), {"N", "5"}), Code::kShapeMismatch, "[N, 4], expected [N, 5]"},
      {model("b", adding(0), {"N"}), Code::kShapeMismatch, "[N, 4], expected [N]"},
  };
  for (const Row& row : rows) {
    const Error error = error_of([&] { make_pipeline(chain({a, row.second})); });
    CHECK(error.code() == row.code);
    CHECK(says(error, "input 'x' of stage 'b'"));
    CHECK(says(error, "output 'y' of stage 'a'"));
    CHECK_MESSAGE(says(error, row.part), error.message());
  }
  auto missing = chain({a});
  missing.stages[0].inputs[0].reset();
  CHECK(says(error_of([&] { make_pipeline(missing); }), "comes from nowhere"));
}

TEST_CASE("pipeline: ops take the types and shapes of what feeds them") {
  PipelinePlan plan = chain({model("a", adding(1), {"N"}, {"N"})});
  plan.stages.push_back(op_stage("twice", {of(0)}));
  plan.outputs = {{"y", of(1, 0)}, {"above", of(1, 1)}};
  auto pipeline = make_pipeline(plan);
  CHECK(pipeline->outputs()[0].shape_text() == "[N]");
  CHECK(pipeline->outputs()[1].shape_text() == "[?]");
  CHECK(pipeline->predictable(0));
  CHECK_FALSE(pipeline->predictable(1));
  auto context = pipeline->make_context();
  for (const std::vector<float>& x :
       {std::vector<float>{1, 2, 3}, std::vector<float>{0, 1, 0}, std::vector<float>{}}) {
    auto given = x;
    context->set_input(0, view_of(given));
    context->request_output(0);
    context->request_output(1);
    context->run();
    std::vector<float> doubled, above;
    for (float value : x) {
      doubled.push_back(2 * (value + 1));
      if (value + 1 > 3) above.push_back(value + 1);
    }
    CHECK(numbers(context->take_output(0)) == doubled);
    CHECK(numbers(context->take_output(1)) == above);
  }
  // An output that nobody wants is not made, and can be wanted later.
  std::vector<float> x{7, 1};
  context->set_input(0, view_of(x));
  context->drop_output(1);
  context->request_output(0);
  context->run();
  CHECK(numbers(context->take_output(0)) == std::vector<float>{16, 4});
  context->request_output(0);
  context->request_output(1);
  context->run();
  CHECK(numbers(context->take_output(1)) == std::vector<float>{8});
}

TEST_CASE("pipeline: an op's element type comes from the pipeline's input, or is its first") {
  PipelinePlan plan;
  plan.name = "p";
  plan.inputs.push_back({"x", DType::kNone, false, {}});
  plan.stages.push_back(op_stage("twice", {input(0)}));
  plan.outputs = {{"y", of(0)}};
  auto first = make_pipeline(plan);
  CHECK(first->inputs()[0].dtype == DType::kFloat32);
  // Of all ranks the op takes one alone.
  CHECK(first->outputs()[0].shape_text() == "[?]");
  plan.inputs[0].dtype = DType::kFloat64;
  CHECK(make_pipeline(plan)->outputs()[0].dtype == DType::kFloat64);
  plan.inputs[0].dtype = DType::kInt8;
  const Error error = error_of([&] { make_pipeline(plan); });
  CHECK(error.code() == Code::kInvalidArgument);
  CHECK(says(error, "stage 'twice'"));
}

TEST_CASE("pipeline: failures keep their code and name the stage; the next run is as if new") {
  bool fails = true;
  auto bad = model("bad", [&](FakeRun& run) {
    if (fails) throw Error(Code::kBackend, "no such kernel", "conv1");
    adding(1)(run);
  });
  auto last = model("last", adding(1));
  auto context = make_pipeline(chain({model("a", adding(1)), bad, last}))->make_context();
  const Error error = error_of([&] { run_on(*context, {1, 2}); });
  CHECK(error.code() == Code::kBackend);
  CHECK(error.message() == "running stage 'bad' of p: no such kernel");
  CHECK(error.subject() == "conv1");
  CHECK(last->runs == 0);
  fails = false;
  CHECK(run_on(*context, {1, 2}) == std::vector<float>{4, 5});
}

TEST_CASE("pipeline: only stages that something wanted comes of are run") {
  auto a = model("a", adding(1)), b = model("b", adding(10)), c = model("c", adding(100));
  PipelinePlan plan = chain({a});
  plan.stages.push_back(stage(b, {of(0)}));
  plan.stages.push_back(stage(c, {of(0)}));
  plan.outputs = {{"b", of(1)}, {"c", of(2)}};
  auto context = make_pipeline(plan)->make_context();
  std::vector<float> x{1};
  context->set_input(0, view_of(x));
  context->drop_output(0);
  context->request_output(1);
  context->run();
  CHECK(numbers(context->take_output(1)) == std::vector<float>{102});
  CHECK(b->runs == 0);
  context->request_output(0);
  context->drop_output(1);
  context->run();
  CHECK(numbers(context->take_output(0)) == std::vector<float>{12});
  CHECK(c->runs == 1);
  CHECK(a->runs == 2);
}

TEST_CASE("pipeline: values that are no arrays pass between stages") {
  TensorSpec words = fake_spec("words", DType::kString, {"N"});
  auto make =
      std::make_shared<FakeModel>("make", std::vector{fake_spec("x", DType::kFloat32, {"N"})},
                                  std::vector{words}, [](FakeRun& run) {
                                    Strings strings{run.inputs[0].shape, {}};
                                    for (size_t i = 0; i < strings.shape.count(); ++i) {
                                      strings.items.push_back(std::to_string(i));
                                    }
                                    run.give(0, strings);
                                  });
  auto join = std::make_shared<FakeModel>(
      "join", std::vector{words}, std::vector{fake_spec("y", DType::kFloat32, {"1"})},
      [](FakeRun& run) {
        float length = 0;
        for (const auto& item : std::get<Strings>(run.values[0]).items) {
          length += static_cast<float>(item.size());
        }
        *static_cast<float*>(run.output(0, Shape{1})) = length;
      });
  auto context = make_pipeline(chain({make, join}))->make_context();
  CHECK(run_on(*context, std::vector<float>(12)) == std::vector<float>{14});
  CHECK(run_on(*context, {}) == std::vector<float>{0});
}

TEST_CASE("pipeline: cancelled before, between and inside stages") {
  std::atomic<bool> inside{false};
  Context* running = nullptr;
  bool between = false;
  auto a = model("a", [&](FakeRun& run) {
    adding(1)(run);
    if (between) running->cancel();
  });
  auto slow = model("slow", [&](FakeRun& run) {
    while (inside.load() && !run.cancelled()) std::this_thread::yield();
    adding(1)(run);
  });
  auto context = make_pipeline(chain({a, slow}))->make_context();
  running = context.get();
  context->cancel();
  CHECK(error_of([&] { run_on(*context, {1}); }).code() == Code::kCancelled);
  CHECK(a->runs == 0);
  CHECK(run_on(*context, {1}) == std::vector<float>{3});
  between = true;
  CHECK(error_of([&] { run_on(*context, {1}); }).code() == Code::kCancelled);
  between = false;
  CHECK(run_on(*context, {1}) == std::vector<float>{3});
  inside = true;
  std::thread canceller([&] {
    while (slow->runs.load() < 3) std::this_thread::yield();
    context->cancel();
  });
  const Error error = error_of([&] { run_on(*context, {1}); });
  canceller.join();
  inside = false;
  CHECK(error.code() == Code::kCancelled);
  CHECK(says(error, "stage 'slow'"));
  context->cancel();
  context->rearm();
  CHECK(run_on(*context, {1}) == std::vector<float>{3});
}

TEST_CASE("pipeline: a deadline ends the stage that runs") {
  auto slow = model("slow", [](FakeRun& run) {
    while (!run.cancelled()) std::this_thread::yield();
  });
  auto context = make_pipeline(chain({model("a", adding(1)), slow}))->make_context();
  Watchdog::Guard guard(*context, now_ns() + 1000000, false);
  CHECK(error_of([&] { run_on(*context, {1}); }).code() == Code::kCancelled);
  CHECK(guard.fired() == Watchdog::Fired::kDeadline);
}

TEST_CASE("pipeline: many threads, cancelled at random, never get each other's results") {
  auto pipeline = make_pipeline(chain(
      {model("a", adding(1)), model("keep", keep_positive, {"N"}, {"M"}), model("b", adding(1))}));
  constexpr int kThreads = 4, kRuns = 200;
  std::atomic<int> done{0}, cancelled{0}, wrong{0};
  std::vector<std::unique_ptr<Context>> contexts;
  for (int t = 0; t < kThreads; ++t) contexts.push_back(pipeline->make_context());
  std::atomic<bool> stop{false};
  std::thread canceller([&] {
    for (size_t i = 0; !stop.load(); ++i) {
      contexts[i % kThreads]->cancel();
      std::this_thread::yield();
    }
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRuns; ++i) {
        const auto base = static_cast<float>(t * 1000 + i);
        try {
          const auto y = run_on(*contexts[static_cast<size_t>(t)], {base, -5, base + 1});
          wrong += y != std::vector<float>{base + 2, base + 3};
          ++done;
        } catch (const Error& error) {
          wrong += error.code() != Code::kCancelled;
          ++cancelled;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  stop = true;
  canceller.join();
  CHECK(wrong == 0);
  CHECK(done + cancelled == kThreads * kRuns);
  contexts[0]->rearm();
  CHECK(run_on(*contexts[0], {1}) == std::vector<float>{3});
}

TEST_CASE("pipeline: inside a pipeline; counts of each stage") {
  auto inner = make_pipeline(chain({model("a", adding(1)), model("b", adding(10))}));
  PipelinePlan plan = chain({model("first", adding(100))});
  StagePlan nested;
  nested.name = "inner";
  nested.kind = StageKind::kPipeline;
  nested.session = inner;
  nested.inputs = {of(0)};
  plan.stages.push_back(nested);
  plan.outputs = {{"y", of(1)}};
  auto pipeline = make_pipeline(plan);
  auto context = pipeline->make_context();
  for (int i = 0; i < 5; ++i) CHECK(run_on(*context, {1, 2}) == std::vector<float>{112, 113});
  const auto stats = pipeline->stats();
  REQUIRE(stats.size() == 2);
  CHECK(stats[1].name == "inner");
  CHECK(stage_kind_name(stats[1].kind) == std::string("pipeline"));
  CHECK(stats[0].count == 5);
  CHECK(inner->stats()[1].count == 5);
  CHECK(stats[1].total_ns >= inner->stats()[1].total_ns);
}

TEST_CASE("pipeline: on a device, what stages hand each other stays there") {
  cuda::CudaDevice& device = cuda::fake::fresh_device();
  const DeviceId gpu = device.id();
  auto a = model("a", adding(1)), b = model("b", adding(10));
  a->device = b->device = &device;
  PipelinePlan plan = chain({a});
  StagePlan op = op_stage("twice", {of(0)});
  op.place = {&device, device.tensor_pool()};
  plan.stages.push_back(op);
  plan.stages.push_back(stage(b, {of(1)}));
  plan.outputs = {{"y", of(2)}};
  plan.gpu = {&device, device.tensor_pool()};
  auto context = make_pipeline(plan)->make_context();
  REQUIRE(context->stream() != nullptr);
  CHECK(context->stream()->device_id() == gpu);
  Buffer memory = device.tensor_pool()->allocate(3 * sizeof(float));
  auto* x = static_cast<float*>(memory.data());
  for (int i = 0; i < 3; ++i) x[i] = static_cast<float>(i);
  context->set_input(0, {x, DType::kFloat32, gpu, Shape{3}});
  context->request_output_on(0, gpu);
  context->run();
  Value y = context->take_output(0);
  CHECK(std::get<Tensor>(y).storage()->device() == gpu);
  CHECK(numbers(y) == std::vector<float>{12, 14, 16});
  context->request_output_on(0, gpu);
  const auto before = cuda::fake::counts();
  context->run();
  const auto after = cuda::fake::counts();
  CHECK(after.copies_to_host == before.copies_to_host);
  CHECK(after.copies_to_device == before.copies_to_device);
  CHECK(a->seen_inputs[0] == x);
}

TEST_CASE("pipeline: stages of the host among stages of a device") {
  cuda::CudaDevice& device = cuda::fake::fresh_device();
  const DeviceId gpu = device.id();
  auto host = model("host", adding(1)), on_gpu = model("on_gpu", adding(10));
  auto last = model("last", adding(100));
  on_gpu->device = &device;
  PipelinePlan plan = chain({host, on_gpu, last});
  plan.gpu = {&device, device.tensor_pool()};
  auto context = make_pipeline(plan)->make_context();
  Buffer memory = device.tensor_pool()->allocate(2 * sizeof(float));
  auto* x = static_cast<float*>(memory.data());
  x[0] = 1;
  x[1] = 2;
  // Input and result lie on the device, and the stages that touch them work on the host.
  context->set_input(0, {x, DType::kFloat32, gpu, Shape{2}});
  context->request_output_on(0, gpu);
  context->run();
  Value y = context->take_output(0);
  CHECK(std::get<Tensor>(y).storage()->device() == gpu);
  CHECK(numbers(y) == std::vector<float>{112, 113});
  Buffer result = device.tensor_pool()->allocate(2 * sizeof(float));
  context->bind_output(0, {result.data(), DType::kFloat32, gpu, Shape{2}});
  context->run();
  CHECK(static_cast<float*>(result.data())[1] == 113);
  CHECK(run_on(*context, {5, 6}) == std::vector<float>{116, 117});
  auto elsewhere = model("elsewhere", adding(1));
  OtherGpu other;
  elsewhere->device = &other;
  PipelinePlan two = chain({on_gpu, elsewhere});
  CHECK(error_of([&] { make_pipeline(two)->make_context(); }).code() == Code::kDevice);
}
