"""What the parser refuses of a graph, and the largest part of it that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zerolane.errors import Unsupported

_LISTED = 8


@dataclass(frozen=True, slots=True)
class RefusedNode:
    """A node that cannot be built: its place in the file, name, operator type, and why not."""

    index: int
    name: str
    op_type: str
    reason: str

    def __str__(self) -> str:
        return f"node {self.index} {self.name!r} [{self.op_type}]: {self.reason}"


@dataclass(frozen=True, slots=True)
class UnsupportedReport:
    """`nodes`: those refused. `largest_part`: indices of the largest part without any of them.

    `node_count`: how many the graph has.
    """

    nodes: tuple[RefusedNode, ...]
    largest_part: tuple[int, ...]
    node_count: int

    @classmethod
    def read(
        cls, native: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]
    ) -> UnsupportedReport:
        """From what the native core found, with the model's own nodes (main graph) for names."""
        refused: dict[tuple[int, str], RefusedNode] = {}
        for index, name, op_type, reason in native["nodes"]:
            known = nodes[index] if 0 <= index < len(nodes) else {}
            if known.get("domain") and "Plugin not found" in reason:
                full = f"{known['domain']}::{known['op_type']}"
                reason = f"no library has defined {full} (zl.ops.load), and there is no such plugin"
            refused.setdefault(
                (index, name),
                RefusedNode(
                    index,
                    name or str(known.get("name", "")),
                    op_type or str(known.get("op_type", "")),
                    reason,
                ),
            )
        bad = {node.index for node in refused.values()}
        parts = [[i for i in part if i not in bad] for part in native["parts"]]
        largest = max(parts, key=len, default=[])
        return cls(tuple(refused.values()), tuple(largest), len(nodes))


class UnsupportedGraph(Unsupported):
    """The library's parser refuses nodes of a graph; `report` lists them all."""

    def __init__(self, message: str, subject: str = "", report: UnsupportedReport | None = None):
        super().__init__(message, subject)
        self.report = report or UnsupportedReport((), (), 0)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.subject, self.report)


def unsupported(
    model: str, library: str, report: UnsupportedReport, nodes: Sequence[Mapping[str, Any]]
) -> UnsupportedGraph:
    """The error for a report."""
    count = len(report.nodes)
    listed = "; ".join(map(str, report.nodes[:_LISTED]))
    more = f"; and {count - _LISTED} more" if count > _LISTED else ""
    part = report.largest_part
    if part:
        ends = [
            f"{i} {nodes[i].get('name', '')!r} [{nodes[i].get('op_type', '')}]"
            for i in (part[0], part[-1])
            if i < len(nodes)
        ]
        largest = f"{len(part)} of {report.node_count} nodes, from node {' to node '.join(ends)}"
    else:
        largest = "none"
    return UnsupportedGraph(
        f"building {model}: {library} cannot build {count} of its nodes: {listed}{more}; largest "
        f"part without them: {largest}; replace those nodes, split the model there, or run it with "
        "backend='onnxruntime'",
        report.nodes[0].name if report.nodes else model,
        report,
    )
