// SPDX-License-Identifier: Apache-2.0
// What a build tells while it runs: phases, the node last seen, and whether to go on.
#include <doctest/doctest.h>

#include <array>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "trt/build_report.h"
#include "trt/build_watch.h"
#include "trt/logger.h"

using namespace zerolane;
using namespace zerolane::trt;

namespace {

// Says something as a library would.
void say(LibraryLogger& logger, Family family, const char* message) {
  if (family == Family::k10) {
    static_cast<Logger10*>(logger.address(family))->log(Severity::kVerbose, message);
  } else {
    static_cast<Logger*>(logger.address(family))->log(Severity::kVerbose, message);
  }
}

}  // namespace

TEST_CASE("the note holds the node that the parser has come to") {
  std::array<char, 32> note{};
  LibraryLogger logger("test");
  for (Family family : {Family::k10, Family::k11, Family::kRtx1}) {
    BuildWatch watch({}, note);
    watch.enter("reading the model");
    CHECK(std::string(note.data()) == "reading the model");
    say(logger, family, "Parsing node: conv1 [Conv]");
    CHECK(std::string(note.data()) == "reading node conv1 [Conv]");
    CHECK(watch.doing() == "reading node conv1 [Conv]");
    say(logger, family, "Static check for parsing node: a [Relu]");
    CHECK(watch.doing() == "checking node a [Relu]");
    say(logger, family, "Searching for input: x");
    CHECK(watch.doing() == "checking node a [Relu]");
    std::string name = "Parsing node: " + std::string(100, 'n') + " [Conv]";
    say(logger, family, name.c_str());
    CHECK(std::string(note.data()).size() == note.size() - 1);
  }
  say(logger, Family::k11, "Parsing node: late [Conv]");
  CHECK(std::string(note.data()).find("late") == std::string::npos);
}

TEST_CASE("messages of other threads are theirs") {
  std::array<char, 64> note{};
  LibraryLogger logger("test");
  BuildWatch watch({}, note);
  watch.enter("here");
  std::thread([&] { say(logger, Family::k11, "Parsing node: other [Conv]"); }).join();
  CHECK(watch.doing() == "here");
}

TEST_CASE("phases nest, and their steps are counted") {
  std::vector<std::vector<BuildPhase>> told;
  BuildWatch watch(
      [&](const std::vector<BuildPhase>& phases) {
        told.push_back(phases);
        return true;
      },
      {});
  watch.phaseStart("build", nullptr, 6);
  CHECK(watch.stepComplete("build", 0));
  watch.phaseStart("compile", "build", 2);
  REQUIRE(told.size() == 2);
  REQUIRE(told[1].size() == 2);
  CHECK(told[1][0].name == "build");
  CHECK(told[1][0].done == 1);
  CHECK(told[1][0].steps == 6);
  CHECK(told[1][1].done == 0);
  watch.phaseFinish("compile");
  watch.phaseFinish("never begun");
  watch.phaseStart("write", "build", 1);
  REQUIRE(told.size() == 3);
  CHECK(told[2].back().name == "write");
  CHECK(watch.doing() == "in phase 'write'");
}

TEST_CASE("many short steps are not all told, and thousands of inner phases neither") {
  int told = 0;
  BuildWatch watch(
      [&](const std::vector<BuildPhase>&) {
        ++told;
        return true;
      },
      {});
  for (const char* name : {"a", "b", "c", "d"}) watch.phaseStart(name, nullptr, 1);
  CHECK(told == 4);
  for (int i = 0; i < 10000; ++i) {
    watch.phaseStart("inner", "d", 1);
    watch.stepComplete("inner", 0);
    watch.phaseFinish("inner");
  }
  CHECK(told < 1000);
}

TEST_CASE("refusing ends the build, and stays so") {
  int told = 0;
  BuildWatch watch(
      [&](const std::vector<BuildPhase>&) {
        ++told;
        return false;
      },
      {});
  CHECK_FALSE(watch.stopped());
  watch.phaseStart("build", nullptr, 6);
  CHECK(watch.stopped());
  CHECK_FALSE(watch.stepComplete("build", 0));
  CHECK(told == 1);
  watch.rethrow();  // nothing was thrown
}

TEST_CASE("what the follower throws is kept") {
  BuildWatch watch(
      [](const std::vector<BuildPhase>&) -> bool { throw std::runtime_error("enough"); }, {});
  watch.phaseStart("build", nullptr, 6);
  CHECK_FALSE(watch.stepComplete("build", 0));
  CHECK_THROWS_WITH(watch.rethrow(), "enough");
}

TEST_CASE("a wrong table of names does no harm") {
  BuildWatch watch({}, {});
  watch.phaseStart(nullptr, nullptr, -3);
  CHECK(watch.stepComplete(nullptr, -1));
  watch.phaseFinish(nullptr);
}

TEST_CASE("complaints about support are told apart from broken models") {
  ParserComplaint refused{ParserErrorCode::kUnsupportedNode, "no", 3, "n", "Det"};
  ParserComplaint broken{ParserErrorCode::kInvalidNode, "bad", 2, "m", "Conv"};
  ParserComplaint nowhere{ParserErrorCode::kUnsupportedGraph, "no", -1, "", ""};
  CHECK(about_support(std::vector{refused, refused}));
  CHECK_FALSE(about_support(std::vector{refused, broken}));
  CHECK_FALSE(about_support(std::vector{nowhere}));
  CHECK_FALSE(about_support({}));
  CHECK(is_echo("[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime"));
  CHECK_FALSE(is_echo("Error Code 4: API Usage Error"));
}
