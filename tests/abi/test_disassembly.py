"""A wrapper adds nothing: the machine code of a call is one indirect call."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess

import pytest

from tests.abi.compiler import Compiler

FUNCTIONS = """
#include "trt/calls.h"
using namespace zerolane::trt;
extern "C" {
bool enqueue(const Calls& calls, ExecutionContext* context, StreamHandle stream) {
  return calls.ExecutionContext_enqueueV3(context, stream);
}
bool address(const Calls& calls, ExecutionContext* context, const char* name, void* memory) {
  return calls.ExecutionContext_setTensorAddress(context, name, memory);
}
Dims shape(const Calls& calls, const ExecutionContext* context, const char* name) {
  return calls.ExecutionContext_getTensorShape(context, name);
}
bool weights(const Calls& calls, Refitter* refitter, const char* name, const Weights& weights) {
  return calls.Refitter_setNamedWeights(refitter, name, weights);
}
int32_t errors(const Calls& calls, const Parser* parser) {
  return calls.Parser_getNbErrors(parser);
}
}
"""
# Reads of memory before the call: the implementation (unless the object is its own), its table, and
# the slot. Where arguments pass through memory themselves, they are not counted.
READS = {"enqueue": 3, "address": 3, "errors": 2, "shape": None, "weights": None}


@pytest.fixture(scope="module")
def code(compiler: Compiler) -> dict[str, list[str]]:
    objdump = shutil.which("objdump")
    if objdump is None:
        pytest.skip("no objdump on PATH")
    if platform.machine() != "x86_64":
        pytest.skip("reads x86-64 instructions")
    made = compiler.compile(FUNCTIONS, ["-c", "-O2", "-DNDEBUG", "-fcf-protection=none"], "calls.o")
    text = subprocess.run(
        [objdump, "-d", "--no-show-raw-insn", str(made)], capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, list[str]] = {}
    for name, body in re.findall(r"^[0-9a-f]+ <(\w+)>:\n((?:\s+[0-9a-f]+:.*\n)+)", text, re.M):
        lines = [re.sub(r"^\s*[0-9a-f]+:\s*", "", line).strip() for line in body.splitlines()]
        found[name] = [line for line in lines if "nop" not in line and "xchg" not in line]
    return found


@pytest.mark.parametrize("name", READS)
def test_a_call_is_one_indirect_call(code: dict[str, list[str]], name: str) -> None:
    body = code[name]
    indirect = [line for line in body if re.match(r"(call|jmp)q?\s+\*", line)]
    branches = [line for line in body if re.match(r"(call|j\w+)\b", line)]
    assert len(indirect) == 1
    assert branches == indirect, "no test, no loop, no other call"
    if READS[name] is not None:
        reads = [line for line in body if re.match(r"mov\w*\s+[^,(]*\(", line)]
        assert len(reads) == READS[name], "\n".join(body)


def test_the_functions_were_found(code: dict[str, list[str]]) -> None:
    assert set(code) == set(READS)
