// SPDX-License-Identifier: Apache-2.0
#include "core/metric_registry.h"

#include <pthread.h>

#include <map>
#include <mutex>
#include <new>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>

#include "core/error.h"

namespace zerolane::metrics {
namespace {

// So many sets of labels are kept that no member has.
constexpr size_t kMaxPast = 512;

using Member = std::variant<const Counter*, const Gauge*, const LatencyHistogram*>;
using Key = std::pair<size_t, Labels>;  // the family's place in families()

struct Kept {
  std::map<uint64_t, Member> members;
  // Of members that have gone, and of counters without an owner.
  uint64_t counted = 0;
  HistogramCounts recorded;
  uint64_t past = 0;  // its place in Registry::past, 0 while it has members
};

struct Registry {
  std::mutex mutex;  // guards all below
  std::map<Key, Kept> series;
  std::unordered_map<uint64_t, Key> registrations;
  std::map<uint64_t, Key> past;  // series without members, those touched last at the end
  std::vector<Source> sources;
  uint64_t last_id = 0;
};

// The process forks with the lock held, so that it is free in the child.
Registry& registry() {
  static auto* made = new Registry;  // outlives every static
  static const int once =
      ::pthread_atfork([] { registry().mutex.lock(); }, [] { registry().mutex.unlock(); },
                       [] { registry().mutex.unlock(); });
  (void)once;
  return *made;
}

// Made at load: a child that is forked while another thread makes them would wait for that for
// ever.
[[maybe_unused]] const Registry* const g_made_at_load = (families(), &registry());

size_t index_of(const char* name, Type type, const Labels& labels) {
  const auto& all = families();
  for (size_t i = 0; i < all.size(); ++i) {
    if (std::string_view(all[i].name) != name) continue;
    bool fits = all[i].type == type && all[i].labels.size() == labels.size();
    for (size_t j = 0; fits && j < labels.size(); ++j) fits = labels[j].first == all[i].labels[j];
    if (fits) return i;
  }
  throw make_error(Code::kInternal, std::string("publishing the metric ") + name,
                   "it is not listed with this type and these labels",
                   "list it in core/metric_families.cpp", name);
}

void take_from_past(Registry& all, Kept& kept) {
  if (kept.past != 0) all.past.erase(std::exchange(kept.past, 0));
}

// Puts a series that has no members behind all others like it, and forgets the first of them where
// there are too many.
void put_into_past(Registry& all, const Key& key, Kept& kept) {
  take_from_past(all, kept);
  kept.past = ++all.last_id;
  all.past.emplace(kept.past, key);
  if (all.past.size() <= kMaxPast) return;
  all.series.erase(all.past.begin()->second);
  all.past.erase(all.past.begin());
}

}  // namespace

struct Registrar {
  static Registration publish(const char* family, Type type, Labels labels, Member member) {
    Key key(index_of(family, type, labels), std::move(labels));
    Registry& all = registry();
    std::lock_guard lock(all.mutex);
    auto found = all.series.try_emplace(std::move(key)).first;
    take_from_past(all, found->second);
    Registration made;
    made.id_ = ++all.last_id;
    all.registrations.emplace(made.id_, found->first);
    found->second.members.emplace(made.id_, member);
    return made;
  }
};

Registration::~Registration() {
  if (id_ == 0) return;
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  auto registered = all.registrations.find(id_);
  auto found = all.series.find(registered->second);
  Kept& kept = found->second;
  auto member = kept.members.find(id_);
  if (const auto* counter = std::get_if<const Counter*>(&member->second)) {
    kept.counted += (*counter)->value();
  } else if (const auto* histogram = std::get_if<const LatencyHistogram*>(&member->second)) {
    try {
      kept.recorded.add((*histogram)->read());
    } catch (const std::bad_alloc&) {  // then its past is lost
    }
  }
  kept.members.erase(member);
  Type type = families()[registered->second.first].type;
  all.registrations.erase(registered);
  if (!kept.members.empty()) return;
  try {
    if (type != Type::kGauge) {
      put_into_past(all, found->first, kept);
      return;
    }
  } catch (const std::bad_alloc&) {  // then all of it is lost
    take_from_past(all, kept);
  }
  all.series.erase(found);
}

Registration publish(const char* family, Labels labels, const Counter& counter) {
  return Registrar::publish(family, Type::kCounter, std::move(labels), &counter);
}

Registration publish(const char* family, Labels labels, const Gauge& gauge) {
  return Registrar::publish(family, Type::kGauge, std::move(labels), &gauge);
}

Registration publish(const char* family, Labels labels, const LatencyHistogram& histogram) {
  return Registrar::publish(family, Type::kHistogram, std::move(labels), &histogram);
}

void count(const char* family, const Labels& labels, uint64_t count) {
  Key key(index_of(family, Type::kCounter, labels), labels);
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  auto found = all.series.try_emplace(std::move(key)).first;
  found->second.counted += count;
  if (found->second.members.empty()) put_into_past(all, found->first, found->second);
}

void add_source(Source source) {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  all.sources.push_back(std::move(source));
}

std::vector<Series> read() {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  std::map<Key, Series> out;
  for (const auto& [key, kept] : all.series) {
    Series& series = out[key];
    uint64_t counted = kept.counted;
    series.histogram = kept.recorded;
    for (const auto& [id, member] : kept.members) {
      if (const auto* counter = std::get_if<const Counter*>(&member)) {
        counted += (*counter)->value();
      } else if (const auto* gauge = std::get_if<const Gauge*>(&member)) {
        counted += static_cast<uint64_t>((*gauge)->value());
      } else {
        series.histogram.add(std::get<const LatencyHistogram*>(member)->read());
      }
    }
    series.value = static_cast<int64_t>(counted);
  }
  for (const Source& source : all.sources) {
    source([&](const char* family, Labels labels, int64_t value) {
      size_t index = index_of(family, Type::kGauge, labels);
      out[Key(index, std::move(labels))].value += value;
    });
  }
  std::vector<Series> sorted;
  sorted.reserve(out.size());
  for (auto& [key, series] : out) {
    series.family = &families()[key.first];
    series.labels = key.second;
    sorted.push_back(std::move(series));
  }
  return sorted;
}

}  // namespace zerolane::metrics
