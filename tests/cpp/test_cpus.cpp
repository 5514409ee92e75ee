// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/cpus.h"

using namespace zerolane;
namespace fs = std::filesystem;

namespace {

struct Tree {
  fs::path root;
  Tree() {
    std::string name = (fs::temp_directory_path() / "zerolane-cgroup-XXXXXX").string();
    root = ::mkdtemp(name.data());
  }
  ~Tree() { fs::remove_all(root); }
  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((root / file).parent_path());
    std::ofstream(root / file) << text;
  }
  double quota() const { return cgroup_cpu_quota(root.string(), (root / "self").string()); }
};

}  // namespace

TEST_CASE("cgroup v2: the tightest limit on the way to the root counts") {
  Tree tree;
  tree.write("self", "0::/a/b\n");
  tree.write("a/b/cpu.max", "max 100000\n");
  CHECK(tree.quota() == 0);
  tree.write("a/cpu.max", "150000 100000\n");
  CHECK(tree.quota() == doctest::Approx(1.5));
  tree.write("a/b/cpu.max", "400000 100000\n");
  CHECK(tree.quota() == doctest::Approx(1.5));
}

TEST_CASE("cgroup v2 inside a container: only the mount's own root is there") {
  Tree tree;
  tree.write("self", "0::/docker/deadbeef\n");
  tree.write("cpu.max", "50000 100000\n");
  CHECK(tree.quota() == doctest::Approx(0.5));
}

TEST_CASE("cgroup v1") {
  Tree tree;
  tree.write("self", "4:cpu,cpuacct:/x\n3:memory:/y\n");
  tree.write("cpu,cpuacct/x/cpu.cfs_quota_us", "-1\n");
  tree.write("cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
  CHECK(tree.quota() == 0);
  tree.write("cpu,cpuacct/x/cpu.cfs_quota_us", "250000\n");
  CHECK(tree.quota() == doctest::Approx(2.5));
}

TEST_CASE("broken files mean no limit") {
  Tree tree;
  CHECK(tree.quota() == 0);
  tree.write("self", "nonsense\n0::\n0::/a");
  tree.write("a/cpu.max", "junk junk");
  CHECK(tree.quota() == 0);
}

TEST_CASE("there is always a CPU") { CHECK(usable_cpus() >= 1); }
