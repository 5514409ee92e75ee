// SPDX-License-Identifier: Apache-2.0
#include "kernels/nms_block.h"

#include <doctest/doctest.h>

#include <memory>

#include "host_block.h"
#include "nms_scenes.h"

using namespace nms_scenes;

namespace {

// As nms_cuda.cu does it, tile after tile and list after list.
template <class Box>
std::vector<Row> on_blocks(const Scene& scene, bool by_class, int64_t limit, uint32_t threads) {
  const auto boxes = static_cast<uint32_t>(scene.boxes);
  const auto classes = static_cast<uint32_t>(scene.classes);
  const NmsImage<float> image{scene.numbers.data(), scene.scores.data(), boxes, classes};
  const bool of_boxes = scene.settings.class_agnostic && !by_class;
  const uint32_t list_count = by_class ? classes : 1;
  const uint32_t stride = by_class || of_boxes ? boxes : boxes * classes;
  std::vector<uint64_t> keys(static_cast<size_t>(list_count) * stride + 1);
  std::vector<uint32_t> counts(list_count);
  const uint32_t items = of_boxes ? boxes : boxes * classes;
  auto tile = std::make_unique<NmsTile>();
  for (uint32_t first = 0; first < items; first += kNmsTile) {
    run_block(threads, [&](HostBlock& block) {
      collect(block, *tile, first, std::min(first + kNmsTile, items), boxes,
              NmsLists{keys.data(), counts.data(), stride, by_class},
              [&](uint32_t i, uint64_t* key) {
                return of_boxes ? box_candidate<Box>(scene.settings, image, i, key)
                                : pair_candidate<Box>(scene.settings, image, i, key);
              });
    });
  }
  const auto most = static_cast<uint32_t>(
      std::min<int64_t>(by_class ? scene.settings.max_per_class : limit, stride));
  std::vector<Row> rows;
  auto shared = std::make_unique<NmsShared<Box>>();
  for (uint32_t at = 0; at < list_count; ++at) {
    std::vector<GroupedBox<Box>> kept(most + 1);
    std::vector<uint32_t> looked_at(classes);
    std::vector<uint32_t> of_class(classes);
    const bool count_classes =
        !by_class && static_cast<uint32_t>(scene.settings.max_per_class) < most;
    const NmsList<Box> list{keys.data() + static_cast<size_t>(at) * stride,
                            counts[at],
                            by_class || scene.settings.class_agnostic,
                            most,
                            kept.data(),
                            scene.settings.top_k > 0 ? looked_at.data() : nullptr,
                            count_classes ? of_class.data() : nullptr};
    std::vector<uint64_t> written(most);
    uint32_t count = 0;
    run_block(threads, [&](HostBlock& block) {
      const uint32_t found =
          select_from_list(block, *shared, scene.settings, list, image,
                           [&](uint32_t place, uint64_t key) { written[place] = key; });
      if (block.thread() == 0) count = found;
    });
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t pair = pair_of(written[i]);
      rows.emplace_back(pair / boxes, pair % boxes, score_of(written[i]));
    }
  }
  return rows;
}

std::vector<Row> on_blocks(const Scene& scene, bool by_class, int64_t limit, uint32_t threads) {
  return scene.settings.form == BoxForm::kRotated
             ? on_blocks<RotatedBox>(scene, by_class, limit, threads)
             : on_blocks<BoxBounds>(scene, by_class, limit, threads);
}

TEST_CASE("a block selects what the CPU selects") {
  for_all_settings([](const NmsSettings& settings, unsigned seed) {
    const Scene scene = make_scene(seed, settings, 131, 3);
    CAPTURE(seed);
    CHECK(on_blocks(scene, false, 50, 1) == expected(scene, false, 50));
    if (settings.class_agnostic) return;
    CHECK(on_blocks(scene, true, 0, 1) == expected(scene, true, 0));
  });
}

// Few settings: on a busy machine a sync() of several threads takes milliseconds.
TEST_CASE("threads of a block work together") {
  NmsSettings settings;
  settings.iou_threshold = 0.3F;
  settings.top_k = 30;
  settings.max_per_class = 9;
  for (const bool agnostic : {false, true}) {
    settings.class_agnostic = agnostic;
    const Scene scene = make_scene(3, settings, 131, 3);
    CAPTURE(agnostic);
    CHECK(on_blocks(scene, false, 20, 3) == expected(scene, false, 20));
  }
  settings.form = BoxForm::kRotated;
  settings.class_agnostic = false;
  const Scene scene = make_scene(4, settings, 67, 2);
  CHECK(on_blocks(scene, true, 0, 2) == expected(scene, true, 0));
}

TEST_CASE("blocks sort more candidates than a batch holds") {
  NmsSettings settings;
  settings.score_threshold = -1.0F;
  settings.max_per_class = 100000;
  settings.iou_threshold = 0.1F;
  // Scores of few values, of one value, and all different.
  for (const int kind : {0, 1, 2}) {
    Scene scene = make_scene(5, settings, 1501, 3);
    spread_scores(kind, &scene);
    CAPTURE(kind);
    CHECK(on_blocks(scene, false, 100000, 3) == expected(scene, false, 100000));
  }
}

}  // namespace
