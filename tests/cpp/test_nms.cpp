// SPDX-License-Identifier: Apache-2.0
#include "kernels/nms.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "kernel_isas.h"
#include "kernels/nms_lists.h"
#include "kernels/nms_sort.h"
#include "nms_scenes.h"

using namespace zerolane;
using namespace nms_scenes;

namespace zerolane::kernels {
ZL_DECLARE_ISA(size_t, nms_scan,
               (const float* scores, size_t n, float threshold, uint32_t first, uint64_t* keys))
ZL_DECLARE_ISA(size_t, nms_scan_half,
               (const Half* scores, size_t n, float threshold, uint32_t first, uint64_t* keys))
}  // namespace zerolane::kernels

namespace {

struct AlignedMemory {
  explicit AlignedMemory(size_t bytes) : bytes(bytes) {
    // Full of ones: nothing may depend on what scratch memory holds.
    storage.assign(bytes + 64, '\xff');
    void* start = storage.data();
    size_t space = storage.size();
    memory = std::align(64, bytes, start, space);
  }
  size_t bytes;
  std::vector<char> storage;
  void* memory;
};

template <class T>
std::vector<T> converted(const std::vector<float>& from) {
  std::vector<T> to;
  for (const float x : from) to.push_back(static_cast<T>(x));
  return to;
}

template <class T>
std::vector<Row> on_cpu(const Scene& scene, bool by_class, int64_t limit) {
  const std::vector<T> boxes = converted<T>(scene.numbers);
  const std::vector<T> scores = converted<T>(scene.scores);
  if (by_class) {
    limit = scene.classes * std::min<int64_t>(scene.settings.max_per_class, scene.boxes);
  }
  AlignedMemory scratch(nms_scratch_bytes(scene.settings, scene.boxes, scene.classes, limit));
  std::vector<Detection> found(static_cast<size_t>(std::min(limit, scene.boxes * scene.classes)) +
                               1);
  const int64_t count = by_class
                            ? nms_by_class(scene.settings, boxes.data(), scores.data(), scene.boxes,
                                           scene.classes, scratch.memory, found.data())
                            : nms_by_score(scene.settings, boxes.data(), scores.data(), scene.boxes,
                                           scene.classes, limit, scratch.memory, found.data());
  std::vector<Row> rows;
  for (int64_t i = 0; i < count; ++i) {
    rows.emplace_back(found[i].class_id, found[i].box, found[i].score);
  }
  return rows;
}

TEST_CASE("selection is what its definition says, by class and by score") {
  for_all_settings([](const NmsSettings& settings, unsigned seed) {
    for (const auto& [boxes, classes] : {std::pair{0, 3}, {1, 1}, {17, 3}, {131, 2}}) {
      const Scene scene = make_scene(seed, settings, boxes, classes);
      CAPTURE(seed);
      CAPTURE(boxes);
      for (const int64_t limit : {1, 7, 100000}) {
        CHECK(on_cpu<float>(scene, false, limit) == expected(scene, false, limit));
      }
      if (settings.class_agnostic) continue;
      CHECK(on_cpu<float>(scene, true, 0) == expected(scene, true, 0));
    }
  });
}

TEST_CASE("any scores are sorted: few values, one value, all different") {
  NmsSettings settings;
  settings.score_threshold = -1.0F;
  settings.max_per_class = 100000;
  settings.iou_threshold = 0.1F;
  for (const int kind : {0, 1, 2}) {
    Scene scene = make_scene(5, settings, 1501, 3);
    spread_scores(kind, &scene);
    CAPTURE(kind);
    CHECK(on_cpu<float>(scene, false, 100000) == expected(scene, false, 100000));
  }
}

TEST_CASE("16-bit boxes and scores are taken for the numbers they are") {
  for_all_settings([](const NmsSettings& settings, unsigned seed) {
    Scene scene = make_scene(seed, settings, 67, 3);
    for (float& x : scene.numbers) x = static_cast<Half>(x);
    for (float& x : scene.scores) x = static_cast<Half>(x);
    CAPTURE(seed);
    CHECK(on_cpu<Half>(scene, false, 20) == expected(scene, false, 20));
  });
}

TEST_CASE("the scan finds what is above the threshold, in every instruction set") {
  std::vector<float> scores;
  for (int i = 0; i < 333; ++i) scores.push_back(static_cast<float>(i * 37 % 101 - 50) / 64);
  for (const int at : {3, 64, 200, 332}) scores[at] = kNaN;
  for (const int at : {4, 65, 201}) scores[at] = kInfinity;
  scores[7] = -0.0F;
  const std::vector<Half> halves = converted<Half>(scores);
  for (const size_t n : {0, 1, 15, 16, 17, 63, 64, 127, 333}) {
    for (const float threshold : {-kInfinity, -0.25F, 0.0F, 0.5F, 2.0F}) {
      std::vector<uint64_t> wanted;
      for (size_t i = 0; i < n; ++i) {
        if (!(scores[i] > threshold) || !std::isfinite(scores[i])) continue;
        wanted.push_back(candidate_key(scores[i], static_cast<uint32_t>(i) + 9));
        CHECK(score_of(wanted.back()) == scores[i]);
      }
      const auto check = [&](const char* isa, auto* scan, const auto* from) {
        std::vector<uint64_t> keys(n + 16);
        keys.resize(scan(from, n, threshold, 9, keys.data()));
        CAPTURE(isa);
        CAPTURE(n);
        CHECK(keys == wanted);
      };
      ZL_FOR_EACH_ISA(nms_scan, [&](const char* isa, auto* f) { check(isa, f, scores.data()); });
      ZL_FOR_EACH_ISA(nms_scan_half,
                      [&](const char* isa, auto* f) { check(isa, f, halves.data()); });
    }
  }
}

TEST_CASE("keys order by falling score, then by index") {
  const float falling[] = {3e38F, 1.0F, 0.5F, 1e-40F, 0.0F, -1e-40F, -1.0F, -3e38F};
  for (size_t i = 0; i + 1 < std::size(falling); ++i) {
    CHECK(candidate_key(falling[i], 0xffffffffU) < candidate_key(falling[i + 1], 0));
    CHECK(candidate_key(falling[i], 1) < candidate_key(falling[i], 2));
  }
  CHECK(candidate_key(-0.0F, 5) == candidate_key(0.0F, 5));
}

TEST_CASE("sorted runs come in order and stop when told") {
  std::mt19937_64 random(1);
  for (const size_t n : {0, 1, 24, 25, 100, 5000}) {
    for (const uint64_t range : {uint64_t{0}, uint64_t{0xffff} << 32, ~uint64_t{0}}) {
      std::vector<uint64_t> keys(n);
      for (size_t i = 0; i < n; ++i) keys[i] = (random() & range & ~uint64_t{0xffff}) | i;
      std::vector<uint64_t> other(n);
      std::vector<uint64_t> wanted = keys;
      std::sort(wanted.begin(), wanted.end());
      for (const size_t stop : {n / 2, n + 1}) {
        std::vector<uint64_t> working = keys;
        std::vector<uint64_t> got;
        const bool stopped =
            sorted_runs(working.data(), other.data(), n, [&](const uint64_t* run, size_t size) {
              got.insert(got.end(), run, run + size);
              return got.size() >= stop;
            });
        CHECK(stopped == (n > 0 && stop <= n));
        REQUIRE(got.size() <= n);
        CHECK(std::equal(got.begin(), got.end(), wanted.begin()));
        if (!stopped) CHECK(got.size() == n);
      }
    }
  }
}

RotatedBox rotated(float x, float y, float w, float h, float angle) {
  const float numbers[] = {x, y, w, h, angle};
  RotatedBox box;
  CHECK(place_box(BoxForm::kRotated, numbers, &box));
  return box;
}

TEST_CASE("rotated boxes overlap as geometry says") {
  const float quarter = std::acos(-1.0F) / 4;
  const RotatedBox square = rotated(10, 20, 2, 2, 0);
  CHECK(rotated_intersection(square, square) == doctest::Approx(4));
  // A regular octagon: 8 (sqrt 2 - 1) times the half side squared.
  CHECK(rotated_intersection(square, rotated(10, 20, 2, 2, quarter)) ==
        doctest::Approx(8 * (std::sqrt(2.0) - 1)));
  CHECK(rotated_intersection(square, rotated(10, 20, 1, 1, 3 * quarter)) == doctest::Approx(1));
  CHECK(rotated_intersection(rotated(10, 20, 1, 1, quarter), square) == doctest::Approx(1));
  // A corner: the tip of a square on its corner, from half of its diagonal on.
  const float half_diagonal = std::sqrt(2.0F);
  CHECK(rotated_intersection(square, rotated(11 + half_diagonal - 0.5F, 20, 2, 2, quarter)) ==
        doctest::Approx(0.25));
  CHECK(rotated_intersection(square, rotated(13, 20, 2, 2, 0)) == 0.0F);
  CHECK(rotated_intersection(square, rotated(11, 20, 2, 4, 2 * quarter)) == doctest::Approx(4));
  CHECK(rotated_intersection(rotated(1e5F, 20, 10, 4, 1), rotated(1e5F, 20, 10, 4, 1)) ==
        doctest::Approx(40));
}

TEST_CASE("sizes of scratch memory saturate") {
  NmsSettings settings;
  settings.max_per_class = 1;
  const int64_t huge = int64_t{1} << 62;
  CHECK(nms_scratch_bytes(settings, huge, huge, huge) > SIZE_MAX / 2);
  CHECK(nms_scratch_bytes(settings, 0, 0, 0) < 4096);
}

}  // namespace
