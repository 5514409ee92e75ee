"""A stand-in for TensorRT-RTX whose builder misbehaves, and the real one where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import zerolane as zl

_SOURCE = """
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int getInferLibVersion(void) { return 10701; }

/* What it does is said by the environment. */
void* createInferBuilder_INTERNAL(void* logger, int version) {
  const char* how = getenv("BAD_BUILDER");
  (void)logger;
  (void)version;
  if (strcmp(how, "abort") == 0) {
    fputs("terminate called: no reason\\n", stderr);
    abort();
  }
  if (strcmp(how, "segv") == 0) raise(SIGSEGV);
  if (strcmp(how, "kill") == 0) raise(SIGKILL);
  if (strcmp(how, "exit") == 0) _exit(7);
  if (strcmp(how, "noise") == 0) {
    int i;
    for (i = 0; i < 100000; ++i) puts("much ado about nothing");
    fflush(stdout);
    abort();
  }
  if (strcmp(how, "hang") == 0) {
    FILE* file = fopen(getenv("BAD_BUILDER_STARTED"), "w");
    fprintf(file, "%d", (int)getpid());
    fclose(file);
    for (;;) pause();
  }
  return 0;
}
"""


def bad_library(folder: Path) -> Path:
    """Compiles the stand-in. The name tells its release, so nobody opens it to ask."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler for a library that misbehaves")
    source = folder / "bad.c"
    source.write_text(_SOURCE)
    library = folder / "libtensorrt_rtx.so.1.7.1"
    command = [compiler, "-shared", "-fPIC", "-Wl,-soname,libtensorrt_rtx.so.1"]
    subprocess.run([*command, "-o", str(library), str(source)], check=True)
    return library


def require_rtx() -> str:
    """The release of TensorRT-RTX here, or a skip."""
    from zerolane.builder.request import find_library

    try:
        return find_library("tensorrt-rtx").version
    except zl.Unavailable as error:
        pytest.skip(f"TensorRT-RTX is not installed: {error}")
