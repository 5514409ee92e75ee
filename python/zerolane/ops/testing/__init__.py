"""`zl.ops.testing`: holds ops against their NumPy reference in every way they can run.

    report = testing.run(testing.cases("my_ops"))     # a package, a library's path, an op's name

In pytest, one test for each case and check:

    @pytest.mark.parametrize("check", testing.CHECKS)
    @pytest.mark.parametrize("case", testing.cases("my_ops"), ids=str)
    def test_op(case, check):
        testing.check(case, check)

The checks:

    bounds       nothing is read or written beside the buffers, and inputs are not written to
    reference    the direct call gives what the NumPy reference gives
    unwritten    every element of an output is written
    repeat       the same inputs give the same bits, also after others and over other garbage
    threads      so do several threads at once that call one object
    layouts      and inputs that are strided, reversed, column-major, misaligned or read-only
    onnxruntime  a model of one node gives the same, and shapes are inferred rightly
    cuda         the CUDA body gives the same
    capture      it can be captured into a CUDA graph
    tensorrt     an engine is built with the op as a plugin, and gives the same where there is a GPU

The first six run in a child process, so that an op which crashes is a failed check.
"""

from zerolane.ops.testing.case import Case
from zerolane.ops.testing.checks import CHECKS, Result, cases, check, judge
from zerolane.ops.testing.report import Report, run

__all__ = ["CHECKS", "Case", "Report", "Result", "cases", "check", "judge", "run"]
