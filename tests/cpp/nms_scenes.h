// SPDX-License-Identifier: Apache-2.0
// Made-up images for NMS, and what is to be selected in them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <tuple>
#include <vector>

#include "kernels/nms_rotated.h"

namespace nms_scenes {

using namespace zerolane::kernels;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Scene {
  NmsSettings settings;
  int64_t boxes;
  int64_t classes;
  std::vector<float> numbers;
  std::vector<float> scores;

  size_t score_at(int64_t class_id, int64_t box) const {
    return static_cast<size_t>(settings.layout == ScoreLayout::kClassesFirst
                                   ? class_id * boxes + box
                                   : box * classes + class_id);
  }
};

inline Scene make_scene(unsigned seed, const NmsSettings& settings, int64_t boxes,
                        int64_t classes) {
  Scene scene{settings, boxes, classes, {}, {}};
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> place(0, 100);
  std::uniform_real_distribution<float> size(-2, 40);
  std::uniform_int_distribution<int> eighth(-1, 8);
  std::uniform_int_distribution<int> odd(0, 30);
  const float strange[] = {kNaN, kInfinity, -kInfinity, 3e38F};
  for (int64_t i = 0; i < boxes; ++i) {
    const float x = place(random);
    const float y = place(random);
    const float w = size(random);
    const float h = size(random);
    const bool corners = settings.form == BoxForm::kCorners;
    scene.numbers.insert(scene.numbers.end(), {x, y, corners ? x + w : w, corners ? y + h : h});
    if (settings.form == BoxForm::kRotated) scene.numbers.push_back(place(random));
    if (odd(random) == 0) scene.numbers[scene.numbers.size() - 1 - i % 4] = strange[i % 3];
  }
  // Many equal ones.
  for (int64_t i = 0; i < boxes * classes; ++i) {
    scene.scores.push_back(odd(random) == 0 ? strange[i % 4]
                                            : static_cast<float>(eighth(random)) / 8);
  }
  return scene;
}

// 0: leaves them, 1: one value, 2: all different.
inline void spread_scores(int kind, Scene* scene) {
  for (size_t i = 0; i < scene->scores.size(); ++i) {
    if (kind == 1) scene->scores[i] = 0.5F;
    if (kind == 2) scene->scores[i] = 1.0F / static_cast<float>((i * 2654435761U) % 4503 + 1);
  }
}

using Row = std::tuple<int32_t, int32_t, float>;  // class, box, score

// From the definition, one step after the other.
inline std::vector<Row> expected(const Scene& scene, bool by_class, int64_t limit) {
  const NmsSettings& settings = scene.settings;
  const int numbers = box_numbers(settings.form);
  std::vector<Row> candidates;
  for (int32_t c = 0; c < scene.classes; ++c) {
    for (int32_t b = 0; b < scene.boxes; ++b) {
      const float score = scene.scores[scene.score_at(c, b)];
      bool counts = std::isfinite(score) && score > settings.score_threshold;
      for (int i = 0; i < numbers; ++i) counts &= std::isfinite(scene.numbers[b * numbers + i]);
      if (counts) candidates.emplace_back(c, b, score);
    }
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Row& a, const Row& b) { return std::get<2>(a) > std::get<2>(b); });
  std::vector<Row> selected;
  std::vector<int> looked_at(static_cast<size_t>(scene.classes) + 1);
  std::vector<int> of_class(static_cast<size_t>(scene.classes));
  std::vector<bool> seen(static_cast<size_t>(scene.boxes));
  for (const Row& row : candidates) {
    const auto [class_id, box, score] = row;
    if (settings.class_agnostic) {
      if (seen[box]) continue;
      seen[box] = true;
    }
    const int group = settings.class_agnostic ? 0 : class_id;
    if (settings.top_k > 0 && looked_at[group]++ >= settings.top_k) continue;
    if (of_class[class_id] >= settings.max_per_class) continue;
    bool overlaps = false;
    for (const Row& other : selected) {
      if (!settings.class_agnostic && std::get<0>(other) != class_id) continue;
      const float* a = &scene.numbers[std::get<1>(other) * numbers];
      const float* b = &scene.numbers[box * numbers];
      if (settings.form == BoxForm::kRotated) {
        RotatedBox first;
        RotatedBox second;
        place_box(settings.form, a, &first);
        place_box(settings.form, b, &second);
        overlaps |= box_iou_above(first, second, settings.iou_threshold);
        continue;
      }
      float bounds[2][4];
      for (int i = 0; i < 2; ++i) {
        const float* from = i == 0 ? a : b;
        if (settings.form == BoxForm::kCorners) {
          bounds[i][0] = std::min(from[0], from[2]);
          bounds[i][1] = std::min(from[1], from[3]);
          bounds[i][2] = std::max(from[0], from[2]);
          bounds[i][3] = std::max(from[1], from[3]);
        } else {
          bounds[i][0] = from[0] - from[2] / 2;
          bounds[i][1] = from[1] - from[3] / 2;
          bounds[i][2] = from[0] + from[2] / 2;
          bounds[i][3] = from[1] + from[3] / 2;
        }
      }
      const auto& [p, q] = bounds;
      const float width = std::min(p[2], q[2]) - std::max(p[0], q[0]);
      const float height = std::min(p[3], q[3]) - std::max(p[1], q[1]);
      if (width <= 0 || height <= 0) continue;
      const float intersection = width * height;
      const float both =
          (p[2] - p[0]) * (p[3] - p[1]) + (q[2] - q[0]) * (q[3] - q[1]) - intersection;
      overlaps |= intersection / both > settings.iou_threshold;
    }
    if (overlaps) continue;
    ++of_class[class_id];
    selected.push_back(row);
  }
  if (by_class) {
    std::stable_sort(selected.begin(), selected.end(),
                     [](const Row& a, const Row& b) { return std::get<0>(a) < std::get<0>(b); });
  } else if (static_cast<int64_t>(selected.size()) > limit) {
    selected.resize(static_cast<size_t>(limit));
  }
  return selected;
}

template <class Body>
void for_all_settings(const Body& body) {
  unsigned seed = 0;
  for (const auto form : {BoxForm::kCorners, BoxForm::kCenterSize, BoxForm::kRotated}) {
    for (const auto layout : {ScoreLayout::kClassesFirst, ScoreLayout::kBoxesFirst}) {
      for (const bool agnostic : {false, true}) {
        for (const int32_t top_k : {0, 5}) {
          for (const int32_t max_per_class : {0, 2, 1000}) {
            NmsSettings settings;
            settings.form = form;
            settings.layout = layout;
            settings.class_agnostic = agnostic;
            settings.iou_threshold = 0.3F;
            settings.score_threshold = 0.1F;
            settings.top_k = top_k;
            settings.max_per_class = max_per_class;
            body(settings, ++seed);
          }
        }
      }
    }
  }
}

}  // namespace nms_scenes
