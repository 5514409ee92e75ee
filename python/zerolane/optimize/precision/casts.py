"""The cast pass: float32 to float16 or bfloat16, with Cast nodes where the two meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from zerolane.model_file import Payloads
from zerolane.optimize.onnx_graph import (
    CONTROL_FLOW,
    FLOAT,
    Node,
    Scope,
    Value,
    all_names,
    bodies_of,
    view,
)
from zerolane.optimize.precision import keep as rules
from zerolane.optimize.precision import regions
from zerolane.optimize.precision.rounding import CODES, Constants, narrow_bits

_SUFFIX = {FLOAT: "fp32", CODES["float16"]: "fp16", CODES["bfloat16"]: "bf16"}


@dataclass
class Pass:
    """The result of `convert` before it is written.

    names: for each value of the main graph that was float32, its name and type in the result.
    """

    model: ModelProto
    converted: list[tuple[str, str]]
    kept: list[tuple[str, str, str]]  # name, operator, reason
    constants: Constants
    too_large: int
    casts: tuple[int, int]
    names: dict[str, tuple[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Plan:
    takes: frozenset[int]
    gives: frozenset[int]


def convert(
    model: ModelProto,
    payloads: Payloads,
    dtype: str,
    *,
    keep: Sequence[str] = (),
    keep_io: bool = True,
    keep_defaults: bool = True,
    hot: Mapping[str, str] | None = None,
) -> Pass:
    """Convert a light model (see `files`) without functions in place; new payloads are added.

    hot: values of the main graph that `dtype` does not hold, with the reason: what makes them and
    what reads them stays in float32.
    """
    return _Converter(model, payloads, dtype, keep, keep_io, keep_defaults, hot or {}).run()


class _Converter:
    def __init__(
        self,
        model: ModelProto,
        payloads: Payloads,
        dtype: str,
        keep: Sequence[str],
        keep_io: bool,
        keep_defaults: bool,
        hot: Mapping[str, str],
    ) -> None:
        self.hot = hot
        self.model, self.payloads, self.dtype = model, payloads, dtype
        self.narrow = CODES[dtype]
        self.keep_io = keep_io
        self.main = view(model)
        self.nodes = list(self.main.walk())
        self.constants = Constants()
        self.kept, self.too_large = self._choose(keep, keep_defaults)
        self.plans = {n: self._plan(n) for n in self.nodes if n not in self.kept}
        self.taken = all_names(model)
        self.wanted: dict[Value, set[int]] = {}
        self.made: dict[tuple[Value, int], str] = {}
        self.alias: dict[Value, str] = {}
        self.out: dict[Scope, list[NodeProto]] = {}
        self.types: dict[Scope, dict[str, tuple[int, Value]]] = {}
        self.initializers: dict[Value, list[TensorProto]] = {}

    # Which nodes

    def _choose(self, keep: Sequence[str], defaults: bool) -> tuple[regions.Reasons, int]:
        computing = [n for n in self.nodes if rules.computes(n)]
        asked = rules.match(keep, self.nodes) if keep else set()
        kept: regions.Reasons = {}
        for node in computing:
            reason = rules.type_reason(node) or rules.schema_reason(node, self.dtype)
            if node in asked or any(owner in asked for owner in _owners(node)):
                reason = "asked for"
            elif reason is None and defaults:
                reason = rules.fragile_reason(node, self.dtype)
            if reason is not None:
                kept[node] = reason
        found: regions.Reasons = {}
        too_large = 0
        if self.dtype == rules.FLOAT16:
            found, too_large = regions.out_of_range(self.main, self.payloads.floats)
        if defaults:
            found |= regions.from_whole_numbers(self.main, self.dtype)
        found |= regions.widened_on_purpose(self.main)
        for name, reason in self.hot.items():
            value = self.main.values.get(name)
            if value is not None:
                for touching in (value.producer, *(reader for reader, _ in value.uses)):
                    if touching is not None:
                        found.setdefault(touching, reason)
        wanted = set(computing)
        for node, reason in found.items():
            if node in wanted:
                kept.setdefault(node, reason)
        self.kept = kept
        self.plans = {n: self._plan(n) for n in self.nodes if n not in kept}
        around = regions.between(
            self.main,
            kept,
            self._is_narrow,
            lambda node, index: index in self.plans[node].takes,
            self._narrow_output,
        )
        for node in around:
            if node in wanted:
                kept.setdefault(node, "its neighbours are float32")
        return kept, too_large

    def _plan(self, node: Node) -> _Plan:
        if node.op in CONTROL_FLOW or node.bodies or node.schema is None or node.op == "Cast":
            return _Plan(frozenset(), frozenset())
        takes, gives = rules.narrow_ports(node, self.dtype)
        return _Plan(frozenset(takes), frozenset(gives))

    def _narrow_output(self, value: Value) -> bool:
        return value.returned and value.scope is self.main and not self.keep_io

    def _is_narrow(self, value: Value) -> bool | None:
        """Whether a float32 value comes narrow from its source; None: it can be had both ways."""
        if value.fed:
            return value.scope is self.main and not self.keep_io
        if value.constant is not None:
            return None
        node = value.producer
        if node is None:  # a sparse initializer
            return False
        if node.op == "Cast":
            source = node.inputs[0]
            if source is not None and source.is_float:
                return self._is_narrow(source)
            return None
        if node in self.kept:
            return False
        return node.outputs.index(value) in self.plans[node].gives

    # What each wants

    def run(self) -> Pass:
        before = _count_casts(self.main)
        self._collect_wanted()
        self._rewrite(self.main)
        self._finish(self.main)
        names = {
            v.name: (self.made[v, code], code)
            for v in self.main.values.values()
            for code in (self.narrow, FLOAT)
            if v.is_float and v.producer is not None and (v, code) in self.made
        }
        floating = [n for n in self.plans if self.plans[n].takes or self.plans[n].gives]
        return Pass(
            self.model,
            [(n.name, n.op) for n in floating],
            [(n.name, n.op, reason) for n, reason in self.kept.items()],
            self.constants,
            self.too_large,
            (before, _count_proto_casts(self.out)),
            names,
        )

    def _native(self, value: Value) -> int:
        narrow = self._is_narrow(value)
        if narrow is None:
            wanted = self.wanted.get(value, set())
            return self.narrow if wanted == {self.narrow} else FLOAT
        return self.narrow if narrow else FLOAT

    def _pinned(self, value: Value) -> int | None:
        """The type that the value's own name must have, where that is seen outside."""
        if not value.returned:
            return None
        return self.narrow if self._narrow_output(value) else FLOAT

    def _want(self, node: Node, index: int, value: Value) -> int:
        if node in self.kept or node.op in CONTROL_FLOW or node.bodies:
            return FLOAT
        if rules.takes_any(node, index):
            if node.op == "Cast":
                output = node.outputs[0]
                if output is not None and output.elem == self.narrow:
                    return self.narrow
                if output is not None and output.is_float:
                    return self._native(output)
            return self._native(value)
        return self.narrow if index in self.plans[node].takes else FLOAT

    def _collect_wanted(self) -> None:
        """Backwards, so that what a cast wants is known from what is wanted of its output."""
        for node in reversed(self.nodes):
            for output in node.outputs:
                if output is not None and output.is_float and output.returned:
                    self.wanted.setdefault(output, set()).add(self._pinned(output) or FLOAT)
            if node.op == "Cast" and node.outputs[0] is not None:
                output = node.outputs[0]
                source = node.inputs[0]
                if source is not None and source.is_float and output.is_float:
                    both = self.wanted.get(output, set())
                    self.wanted.setdefault(source, set()).update(both)
                    continue
            for index, value in enumerate(node.inputs):
                if value is not None and value.is_float and not rules.takes_any(node, index):
                    self.wanted.setdefault(value, set()).add(self._want(node, index, value))
        for node in self.nodes:
            for index, value in enumerate(node.inputs):
                if value is not None and value.is_float and rules.takes_any(node, index):
                    self.wanted.setdefault(value, set()).add(self._want(node, index, value))
        for scope in self.main.scopes():
            for value in scope.outputs:
                if value.is_float:
                    self.wanted.setdefault(value, set()).add(self._pinned(value) or FLOAT)

    # Rewriting

    def _fresh(self, name: str, code: int) -> str:
        stem = f"{name}_{_SUFFIX[code]}"
        fresh, number = stem, 2
        while fresh in self.taken:
            fresh, number = f"{stem}_{number}", number + 1
        self.taken.add(fresh)
        return fresh

    def _name_for(self, value: Value, code: int) -> str:
        """The name that the value in type `code` is to have: its own for one of the types."""
        own = self._pinned(value) or self._native(value)
        return value.name if code == own else self._fresh(value.name, code)

    def _have(self, value: Value, code: int) -> str:
        """The name of a float32 value in type `code`, made here if it is not there yet."""
        if (value, code) in self.made:
            return self.made[value, code]
        cast = value.producer if value.producer and value.producer.op == "Cast" else None
        source = cast.inputs[0] if cast is not None else None
        if value.constant is not None and not value.fed:
            return self._constant(value, code)
        if cast is not None and source is not None:
            if source.is_float and not value.returned:
                return self._keep_name(value, code, self._have(source, code), declare=False)
            native = self._native(source) if source.is_float else 0
            before = self._have(source, native) if source.is_float else self._plain(source)
            if source.elem == code and not value.returned:
                return self._keep_name(value, code, before, declare=False)
            name = self._name_for(value, code)
            self._emit_cast(value.scope, before, name, code, cast.proto)
            return self._keep_name(value, code, name)
        other = self.narrow if code == FLOAT else FLOAT
        name = self._name_for(value, code)
        self._emit_cast(value.scope, self.made[value, other], name, code, None)
        return self._keep_name(value, code, name)

    def _keep_name(self, value: Value, code: int, name: str, *, declare: bool = True) -> str:
        self.made[value, code] = name
        if declare:
            self.types.setdefault(value.scope, {})[name] = (code, value)
        return name

    def _plain(self, value: Value) -> str:
        return self.alias.get(value, value.name)

    def _emit_cast(
        self, scope: Scope, source: str, name: str, code: int, proto: NodeProto | None
    ) -> None:
        cast = helper.make_node("Cast", [source], [name], to=code)
        if proto is not None and proto.output[0] == name:
            cast.name = proto.name
        else:
            cast.name = f"{name}_cast" if f"{name}_cast" not in self.taken else ""
            self.taken.add(cast.name)
        self.out[scope].append(cast)

    def _constant(self, value: Value, code: int) -> str:
        assert value.constant is not None
        name = self._name_for(value, code)
        tensor = value.constant if code == FLOAT else self._narrow_tensor(value.constant)
        if value.producer is None:
            copy = TensorProto()
            copy.CopyFrom(tensor)
            copy.name = name
            self.initializers.setdefault(value, []).append(copy)
        else:
            node = NodeProto()
            node.CopyFrom(value.producer.proto)
            node.output[0] = name
            if name != value.name:
                node.name = ""
            next(a for a in node.attribute if a.name == "value").t.CopyFrom(tensor)
            self.out[value.scope].append(node)
        return self._keep_name(value, code, name)

    def _narrow_tensor(self, tensor: TensorProto) -> TensorProto:
        array = self.payloads.floats(tensor)
        bits = narrow_bits(array.reshape(-1), self.dtype, self.constants)
        made = TensorProto(name=tensor.name, data_type=self.narrow, dims=tensor.dims)
        made.doc_string = tensor.doc_string
        if self.payloads.of(tensor) is not None:
            self.payloads.add(made, bits.view(np.uint8))
        else:
            made.raw_data = bits.tobytes()
        return made

    def _rewrite(self, scope: Scope) -> None:
        self.out[scope] = []
        for value in scope.values.values():
            if value.is_float and value.fed:
                self._keep_name(value, self._native(value), value.name)
            elif value.is_float and value.producer is None and value.constant is None:
                self._keep_name(value, FLOAT, value.name)
        for node in scope.nodes:
            if node.op == "Constant" and _float_output(node):
                continue  # made when first wanted
            if node.op == "Cast":
                self._rewrite_cast(node)
            else:
                self._rewrite_node(node)
        for value in scope.outputs:
            if value.is_float:
                self._have(value, self._pinned(value) or FLOAT)

    def _rewrite_cast(self, node: Node) -> None:
        source, output = node.inputs[0], node.outputs[0]
        if source is None or output is None or output.is_float:
            if output is not None and output.returned:
                self._have(output, self._pinned(output) or FLOAT)
            return  # otherwise made when first wanted
        if output.elem == self.narrow and source.is_float:
            if not output.returned and (source, self.narrow) in self.made:
                self.alias[output] = self.made[source, self.narrow]
                return
            if not output.returned and self._is_narrow(source) is None:
                self.alias[output] = self._have(source, self.narrow)
                return
            if (source, self.narrow) not in self.made:
                self._keep_name(source, self.narrow, output.name, declare=False)
        cast = NodeProto()
        cast.CopyFrom(node.proto)
        code = self._want(node, 0, source) if source.is_float else 0
        if source.is_float and (source, FLOAT) in self.made and output.elem == self.narrow:
            code = FLOAT
        cast.input[0] = self._have(source, code) if source.is_float else self._plain(source)
        self.out[node.scope].append(cast)

    def _rewrite_node(self, node: Node) -> None:
        for body in node.bodies:
            self._rewrite(body)
        proto = NodeProto()
        proto.CopyFrom(node.proto)
        plan = self.plans.get(node, _Plan(frozenset(), frozenset()))
        for index, value in enumerate(node.inputs):
            if value is not None and value.is_float:
                proto.input[index] = self._have(value, self._want(node, index, value))
            elif value is not None:
                proto.input[index] = self._plain(value)
        pinned: list[Value] = []
        for index, value in enumerate(node.outputs):
            if value is None or not value.is_float:
                continue
            code = self.narrow if index in plan.gives else FLOAT
            proto.output[index] = self._keep_name(value, code, self._name_for(value, code))
            pinned.append(value)
        if node.op == "ConstantOfShape" and 0 in plan.gives:
            self._narrow_fill(proto)
        for body, graph in zip(node.bodies, bodies_of(proto), strict=True):
            self._finish(body)
            graph.CopyFrom(body.graph)
        self.out[node.scope].append(proto)
        for value in pinned:
            if value.returned:
                self._have(value, self._pinned(value) or FLOAT)

    def _narrow_fill(self, proto: NodeProto) -> None:
        attribute = next((a for a in proto.attribute if a.name == "value"), None)
        if attribute is None:
            zero = TensorProto(data_type=FLOAT, dims=[1], raw_data=bytes(4))
            attribute = helper.make_attribute("value", zero)
            proto.attribute.append(attribute)
            attribute = proto.attribute[-1]
        attribute.t.CopyFrom(self._narrow_tensor(attribute.t))

    def _finish(self, scope: Scope) -> None:
        """Put what was made into the graph's proto: nodes, initializers and types."""
        graph = scope.graph
        del graph.node[:]
        graph.node.extend(self.out[scope])
        self._finish_initializers(scope)
        told = [ValueInfoProto.FromString(v.SerializeToString()) for v in graph.value_info]
        if scope is self.main and not self.keep_io:
            for info in (*graph.input, *graph.output):
                if info.type.tensor_type.elem_type == FLOAT:
                    info.type.tensor_type.elem_type = self.narrow
        del graph.value_info[:]
        graph.value_info.extend(self._told(scope, told))

    def _told(self, scope: Scope, before: list[ValueInfoProto]) -> Iterator[ValueInfoProto]:
        """What was said of the types of values, and the same of their versions in another type."""
        graph = scope.graph
        outside = {v.name for v in (*graph.output, *graph.input)}
        outside |= {t.name for t in graph.initializer}
        alive = {name for node in graph.node for name in node.output} - outside
        versions: dict[str, list[tuple[str, int]]] = {}
        for name, (code, value) in self.types.get(scope, {}).items():
            versions.setdefault(value.name, []).append((name, code))
        said: set[str] = set()
        for info in (*before, *graph.output, *graph.input):
            if info.name in said:  # some exporters tell the same twice
                continue
            said.add(info.name)
            same = [(info.name, 0)] if info.name not in versions else versions.pop(info.name)
            for name, code in same:
                if name in alive:
                    copy = ValueInfoProto.FromString(info.SerializeToString())
                    copy.name = name
                    if code:
                        copy.type.tensor_type.elem_type = code
                    yield copy

    def _finish_initializers(self, scope: Scope) -> None:
        graph = scope.graph
        rest: list[TensorProto] = []
        for tensor in graph.initializer:
            value = scope.values[tensor.name]
            if not value.is_float:
                rest.append(tensor)
            elif value.fed:
                narrow = self._native(value) == self.narrow
                made = self._narrow_tensor(tensor) if narrow else tensor
                rest.append(made)
            rest += self.initializers.get(value, [])
        copies = [TensorProto.FromString(t.SerializeToString()) for t in rest]
        del graph.initializer[:]
        graph.initializer.extend(copies)


def _float_output(node: Node) -> bool:
    output = node.outputs[0]
    return output is not None and output.is_float and output.constant is not None


def _owners(node: Node) -> list[Node]:
    owners = []
    owner = node.scope.owner
    while owner is not None:
        owners.append(owner)
        owner = owner.scope.owner
    return owners


def _count_casts(main: Scope) -> int:
    return sum(n.op == "Cast" for n in main.walk())


def _count_proto_casts(out: dict[Scope, list[NodeProto]]) -> int:
    return Counter(n.op_type for nodes in out.values() for n in nodes)["Cast"]
