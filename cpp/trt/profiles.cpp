// SPDX-License-Identifier: Apache-2.0
#include "trt/profiles.h"

#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "core/error.h"

namespace zerolane::trt {
namespace {

std::string dims_text(const std::vector<int64_t>& dims) { return Shape(dims).text(); }

std::string values_text(const std::vector<int64_t>& values) {
  std::string text = "{";
  for (size_t i = 0; i < values.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(values[i]);
  }
  return text + "}";
}

bool within(const std::vector<int64_t>& min, std::span<const int64_t> found,
            const std::vector<int64_t>& max) {
  if (found.size() != min.size()) return false;
  for (size_t d = 0; d < found.size(); ++d) {
    if (found[d] < min[d] || found[d] > max[d]) return false;
  }
  return true;
}

bool takes(const InputRange& range, const Profiles::Given& given) {
  if (!within(range.min, given.shape.dims(), range.max)) return false;
  return range.min_values.empty() || within(range.min_values, given.values, range.max_values);
}

double distance(const InputRange& range, const Shape& shape) {
  double sum = 0;
  for (size_t d = 0; d < shape.rank(); ++d) {
    sum += std::abs(
        std::log2((static_cast<double>(shape[d]) + 1) / (static_cast<double>(range.opt[d]) + 1)));
  }
  return sum;
}

}  // namespace

std::string Profiles::text(size_t profile) const {
  std::string text;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const InputRange& range = profiles_[profile][i];
    text += (i > 0 ? "; " : "") + inputs_[i] + " " + dims_text(range.min);
    if (range.min != range.max) {
      text += ".." + dims_text(range.max) + ", best " + dims_text(range.opt);
    }
    if (!range.min_values.empty()) {
      text +=
          " with values " + values_text(range.min_values) + ".." + values_text(range.max_values);
    }
  }
  return text;
}

size_t Profiles::choose(const std::vector<Given>& given, const std::string& model) const {
  std::optional<size_t> best;
  double least = std::numeric_limits<double>::infinity();
  for (size_t p = 0; p < profiles_.size(); ++p) {
    bool fits = true;
    double sum = 0;
    for (size_t i = 0; fits && i < given.size(); ++i) {
      fits = takes(profiles_[p][i], given[i]);
      if (fits) sum += distance(profiles_[p][i], given[i].shape);
    }
    if (fits && sum < least) {
      least = sum;
      best = p;
    }
  }
  if (best) return *best;
  // Blame an input that no profile takes; otherwise it is the combination.
  std::string found;
  std::string subject;
  for (size_t i = 0; i < given.size() && subject.empty(); ++i) {
    bool any = false;
    for (const auto& profile : profiles_) any |= takes(profile[i], given[i]);
    if (!any) subject = inputs_[i];
  }
  for (size_t i = 0; i < given.size(); ++i) {
    if (!subject.empty() && inputs_[i] != subject) continue;
    found += (found.empty() ? "'" : ", '") + inputs_[i] + "' is " + given[i].shape.text();
    if (!given[i].values.empty()) found += " with values " + values_text(given[i].values);
  }
  std::string ranges;
  for (size_t p = 0; p < profiles_.size(); ++p) {
    ranges += (p > 0 ? " | " : "") + std::to_string(p) + ": " + text(p);
  }
  throw make_error(
      Code::kShapeMismatch, "choosing an optimization profile of " + model,
      "input " + found + ", which none takes; the profiles are " + ranges,
      "give shapes inside one profile, or build the engine with shapes= that hold these",
      subject.empty() ? model : subject);
}

}  // namespace zerolane::trt
