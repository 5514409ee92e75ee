// SPDX-License-Identifier: Apache-2.0
// Opens libraries and prints what came of it, one "key=value" a line. The first argument says what
// is tried.
#include <dlfcn.h>

#include <cstdio>
#include <string>

#include "trt/library.h"

using namespace zerolane;
using namespace zerolane::trt;

namespace {

void say(const std::string& key, const std::string& value) {
  std::string flat = value;
  for (char& c : flat) c = c == '\n' ? ' ' : c;
  std::printf("%s=%s\n", key.c_str(), flat.c_str());
}

void describe(const Library& library) {
  say("title", library.title());
  say("family", std::to_string(static_cast<int>(library.family)));
  say("edition", std::to_string(static_cast<int>(library.edition)));
  say("can_build", std::to_string(library.can_build));
  say("can_run", std::to_string(library.can_run));
}

int call(const char* path, const char* symbol) {
  void* handle = ::dlopen(path, RTLD_NOW | RTLD_LOCAL);
  auto function =
      reinterpret_cast<int (*)()>(handle != nullptr ? ::dlsym(handle, symbol) : nullptr);
  return function != nullptr ? function() : -2;
}

void all(int count, char** paths) {
  bool apart = true;
  int parsers = 0;
  for (int i = 0; i < count; ++i) {
    Library& library = open_library(paths[i]);
    say("title" + std::to_string(i), library.title());
    for (int j = 0; j < i; ++j) apart &= open_library(paths[j]).calls.Parser_destroy.slot() != 0;
    make_builder(library);
    Owned<Parser> parser = make_parser(library, nullptr);
    parsers += static_cast<bool>(parser);
  }
  apart &= open_library(paths[0]).calls.Builder_createNetworkV2.slot() !=
           open_library(paths[1]).calls.Builder_createNetworkV2.slot();
  say("apart", std::to_string(apart));
  say("parsers", std::to_string(parsers));
}

void attempt(const std::string& what, int count, char** paths) {
  if (what == "all") return all(count, paths);
  if (what == "foreign") {
    ::dlopen(paths[0], RTLD_NOW | RTLD_GLOBAL);
    open_parser(open_library(paths[1]));
    return;
  }
  Library& library = open_library(paths[0]);
  describe(library);
  if (what == "builder") make_builder(library);
  if (what == "runtime") make_runtime(library);
  if (what == "two") say("same", std::to_string(&open_library(paths[1]) == &library));
  if (what == "parser") {
    say("parser", open_parser(library).path);
    Owned<Parser> parser = make_parser(library, nullptr);
    Owned<ParserRefitter> refitter = make_parser_refitter(library, nullptr);
    say("made", std::to_string(parser && refitter));
  }
  if (what == "private") {
    say("before", std::to_string(call(paths[1], "fake_private")));
    open_parser(library);
    say("after", std::to_string(call(paths[1], "fake_private")));
    say("local", std::to_string(::dlsym(RTLD_DEFAULT, "getPrivateApi_INTERNAL") == nullptr));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // so that a crash keeps what was printed
  try {
    attempt(argv[1], argc - 2, argv + 2);
  } catch (const Error& error) {
    say("code", code_name(error.code()));
    say("error", error.message());
  }
  std::string logged;
  for (const LogRecord& record : take_log()) logged += record.message + " ";
  say("log", logged);
  return 0;
}
