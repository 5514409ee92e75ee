"""Who feeds whom: from the stages as written to sources by number, for native code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zerolane.errors import InvalidArgument
from zerolane.pipeline.stage import Node, SpecRow, Stage, default_name, kind_of, node_of
from zerolane.types import TensorSpec

# A stage's number and output, or -1 and an input of the pipeline.
Source = tuple[int, int]
InputSpecs = Mapping[str, str | TensorSpec | None] | Sequence[str | TensorSpec]


@dataclass
class Wiring:
    """Stages in the order in which they run, and what they are wired to."""

    nodes: list[Node]
    sources: list[list[Source | None]]
    inputs: list[SpecRow]
    outputs: list[tuple[str, Source]]


def wire(
    entries: Sequence[Any],
    inputs: InputSpecs | None,
    outputs: Mapping[str, str] | Sequence[str] | None,
    pipeline: str,
) -> Wiring:
    """Raises InvalidArgument, saying what to write, where the wiring is wrong or could be many."""
    return _Wirer(entries, inputs, outputs, pipeline).wire()


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


class _Wirer:
    def __init__(
        self,
        entries: Sequence[Any],
        inputs: InputSpecs | None,
        outputs: Mapping[str, str] | Sequence[str] | None,
        pipeline: str,
    ) -> None:
        self.doing = f"wiring {pipeline}"
        if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
            raise InvalidArgument(
                f"{self.doing}: stages is {entries!r:.60}, expected a list of at least one stage; "
                "give [op, session, function]",
                "stages",
            )
        self.stages = [entry if isinstance(entry, Stage) else Stage(entry) for entry in entries]
        self.nodes = self._nodes()
        self.wanted = outputs
        self.declared = None if inputs is None else self._declared(inputs)
        self.inputs: dict[str, int] = {}
        if self.declared is not None:
            self.inputs = {name: i for i, name in enumerate(self.declared)}
        self.tensors = self._tensors()
        self.read: set[Source] = set()

    def fail(self, found: str, remedy: str, subject: str) -> InvalidArgument:
        return InvalidArgument(f"{self.doing}: {found}; {remedy}", subject)

    def _nodes(self) -> list[Node]:
        for stage in self.stages:
            kind_of(stage.what)  # refuses what is no stage before it is asked for its name
        given = [stage.name for stage in self.stages if stage.name is not None]
        for name in given:
            if given.count(name) > 1:
                raise self.fail(
                    f"{given.count(name)} stages are called {name!r}", "name them apart", name
                )
        taken = set(given)
        nodes = []
        for stage in self.stages:
            name = stage.name or self._free_name(default_name(stage.what), taken)
            taken.add(name)
            nodes.append(node_of(stage, name))
        return nodes

    @staticmethod
    def _free_name(base: str, taken: set[str]) -> str:
        name, number = base, 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        return name

    def _declared(self, inputs: InputSpecs) -> dict[str, SpecRow]:
        rows: dict[str, SpecRow] = {}
        items: Iterable[tuple[str, Any]]
        if isinstance(inputs, Mapping):
            items = inputs.items()
        else:
            items = ((i.name, i) if isinstance(i, TensorSpec) else (i, None) for i in inputs)
        for name, spec in items:
            if isinstance(spec, TensorSpec):
                rows[name] = (name, spec.dtype, spec.shape)
            elif spec is None or isinstance(spec, str):
                rows[name] = (name, spec or "", None)
            else:
                raise self.fail(
                    f"inputs says {spec!r:.60} of {name!r}, expected an element type or a "
                    "zl.TensorSpec",
                    f'write inputs={{"{name}": "float32"}}',
                    name,
                )
        return rows

    def _tensors(self) -> dict[str, list[Source]]:
        """Sources by name: short ones, which several may have, and "stage.output"."""
        tensors: dict[str, list[Source]] = {}
        renamed: dict[str, str] = {}
        for s, (stage, node) in enumerate(zip(self.stages, self.nodes, strict=True)):
            names = self._output_names(stage, node)
            for k, own in enumerate(node.outputs):
                full = f"{node.name}.{own}"
                for name in dict.fromkeys((names[own], full)):
                    tensors.setdefault(name, []).append((s, k))
                if names[own] != own:
                    if names[own] in renamed:
                        raise self.fail(
                            f"stages {renamed[names[own]]!r} and {node.name!r} both call an output "
                            f"{names[own]!r}",
                            "name them apart",
                            names[own],
                        )
                    renamed[names[own]] = node.name
        return tensors

    def _output_names(self, stage: Stage, node: Node) -> dict[str, str]:
        names = {own: own for own in node.outputs}
        given = stage.outputs
        if given is None or node.kind == "python":
            return names
        if not isinstance(given, Mapping):
            listed = [item.name if isinstance(item, TensorSpec) else item for item in given]
            if len(listed) > len(node.outputs):
                raise self.fail(
                    f"outputs of stage {node.name!r} are {len(listed)} names, and it has "
                    f"{_quoted(node.outputs)}",
                    "give one name an output",
                    node.name,
                )
            given = dict(zip(node.outputs, listed, strict=False))
        for own, name in given.items():
            if own not in names:
                raise self.fail(
                    f"stage {node.name!r} has no output {own!r}, they are {_quoted(node.outputs)}",
                    "check the name",
                    node.name,
                )
            names[own] = name
        return names

    def wire(self) -> Wiring:
        wired = [self._wire_stage(s) for s in range(len(self.nodes))]
        outputs = self._outputs()
        self._check_inputs_read()
        order = self._order(wired)
        self._check_all_feed(wired, outputs)
        number = {s: i for i, s in enumerate(order)}

        def placed(source: Source | None) -> Source | None:
            if source is None or source[0] < 0:
                return source
            return number[source[0]], source[1]

        rows = self.declared or {name: (name, "", None) for name in self.inputs}
        return Wiring(
            [self.nodes[s] for s in order],
            [[placed(source) for source in wired[s]] for s in order],
            [rows[name] for name in self.inputs],
            [(name, (number[source[0]], source[1])) for name, source in outputs],
        )

    def _resolve(self, name: str, node: Node, own: str) -> Source:
        """The source of this name; a name that no stage gives is an input of the pipeline."""
        if not isinstance(name, str):
            raise self.fail(
                f"input {own!r} of stage {node.name!r} is wired to {name!r:.60}, expected a name",
                "give the name of an output of a stage, or of an input of the pipeline",
                node.name,
            )
        found = self.tensors.get(name, [])
        if len(found) > 1:
            full = [f"{self.nodes[s].name}.{self.nodes[s].outputs[k]}" for s, k in found]
            raise self.fail(
                f"input {own!r} of stage {node.name!r} is wired to {name!r}, which "
                f"{len(found)} stages give",
                f"write {' or '.join(map(repr, full))}",
                name,
            )
        if found:
            return found[0]
        return self._pipeline_input(name, node, own)

    def _pipeline_input(self, name: str, node: Node, own: str) -> Source:
        if name not in self.inputs:
            if self.declared is not None:
                raise self.fail(
                    f"input {own!r} of stage {node.name!r} is wired to {name!r}, which is no "
                    f"output ({_quoted(n for n in self.tensors if '.' not in n)}) and no input "
                    f"({_quoted(self.declared)})",
                    "check the name, or declare it in inputs=",
                    name,
                )
            self.inputs[name] = len(self.inputs)
        source = (-1, self.inputs[name])
        self.read.add(source)
        return source

    def _wire_stage(self, index: int) -> list[Source | None]:
        stage, node = self.stages[index], self.nodes[index]
        if stage.inputs is None:
            pairs = self._by_itself(index)
        elif isinstance(stage.inputs, Mapping):
            pairs = {own: self._resolve(name, node, own) for own, name in stage.inputs.items()}
        else:
            names = self._in_order(node, stage.inputs)
            pairs = {own: self._resolve(name, node, own) for own, name in names.items()}
        for own in pairs:
            if own not in node.inputs and not node.variadic:
                raise self.fail(
                    f"stage {node.name!r} has no input {own!r}, they are {_quoted(node.inputs)}",
                    "check the name",
                    node.name,
                )
        missing = [own for own in node.needed if own not in pairs]
        if missing:
            raise self.fail(
                f"inputs of stage {node.name!r} leave out {_quoted(missing)}",
                f'write inputs={{"{missing[0]}": ...}} with the name of a tensor',
                node.name,
            )
        if node.kind == "python":
            return self._python_sources(node, pairs)
        further = [own for own in pairs if own not in node.inputs]
        sources = [pairs.get(own) for own in (*node.inputs, *further)]
        if node.kind == "op":
            while sources and sources[-1] is None:
                sources.pop()
        return sources

    def _in_order(self, node: Node, names: Sequence[str]) -> dict[str, str]:
        room = list(node.inputs)
        if len(names) > len(room):
            if not node.variadic:
                raise self.fail(
                    f"inputs of stage {node.name!r} are {len(names)} names, and it has "
                    f"{_quoted(node.inputs)}",
                    "give one name an input",
                    node.name,
                )
            room += [f"input {i}" for i in range(len(room), len(names))]
        return dict(zip(room, names, strict=False))

    def _python_sources(self, node: Node, pairs: dict[str, Source]) -> list[Source | None]:
        """A callable gets what is wired, in order; by name where it has parameters between."""
        wired = [own for own in (*node.inputs, *pairs) if own in pairs]
        wired = list(dict.fromkeys(wired))
        node.keywords = wired[: len(node.inputs)] != node.inputs[: len(wired)]
        node.inputs = wired
        return [pairs[own] for own in wired]

    def _by_itself(self, index: int) -> dict[str, Source]:
        """From the entry before it: by name, what is left by order."""
        node = self.nodes[index]
        if index == 0:
            return {own: self._pipeline_input(own, node, own) for own in self._first_inputs(node)}
        before = self.nodes[index - 1]
        names = self._output_names(self.stages[index - 1], before)
        given = {
            names[own]: (index - 1, k)
            for k, own in enumerate(before.outputs)
            if own not in before.optional_outputs
        }
        if node.variadic:
            room = self._in_order(node, list(given))
            return {own: given[name] for own, name in room.items()}
        pairs = {own: given[own] for own in node.inputs if own in given}
        if all(own in pairs for own in node.needed) and pairs:
            return pairs
        wanting = [own for own in node.needed if own not in pairs]
        left = [name for name in given if name not in pairs]
        if len(wanting) == len(left):
            return pairs | {own: given[n] for own, n in zip(wanting, left, strict=True)}
        if not node.needed and len(node.inputs) == len(left):
            return {own: given[n] for own, n in zip(node.inputs, left, strict=True)}
        example = ", ".join(f'"{own}": ...' for own in node.needed or node.inputs)
        raise self.fail(
            f"stage {node.name!r} takes {_quoted(node.needed or node.inputs)}, and stage "
            f"{before.name!r} before it gives {_quoted(given)}: which goes where is not clear",
            f"write zl.Stage(..., inputs={{{example}}})",
            node.name,
        )

    def _first_inputs(self, node: Node) -> list[str]:
        if node.inputs:
            return node.needed or node.inputs[:1]
        if self.declared:
            return list(self.declared)
        raise self.fail(
            f"the first stage, {node.name!r}, has no names for what it takes",
            'write zl.Stage(..., inputs=["x"])',
            node.name,
        )

    def _outputs(self) -> list[tuple[str, Source]]:
        wanted = self.wanted
        if wanted is None:
            last = len(self.nodes) - 1
            names = self._output_names(self.stages[last], self.nodes[last])
            return [
                (names[own], (last, k))
                for k, own in enumerate(self.nodes[last].outputs)
                if own not in self.nodes[last].optional_outputs
            ]
        if isinstance(wanted, str) or not isinstance(wanted, Mapping | Sequence) or not wanted:
            raise self.fail(
                f"outputs is {wanted!r:.60}, expected a list of names",
                "name at least one output of a stage, or leave it out for those of the last",
                "outputs",
            )
        items = wanted.items() if isinstance(wanted, Mapping) else ((name, name) for name in wanted)
        found: list[tuple[str, Source]] = []
        for public, name in items:
            sources = self.tensors.get(name, [])
            if len(sources) != 1:
                full = [f"{self.nodes[s].name}.{self.nodes[s].outputs[k]}" for s, k in sources]
                known = [n for n in self.tensors if "." not in n]
                raise self.fail(
                    f"outputs names {name!r}, which {len(sources)} stages give"
                    if sources
                    else f"outputs names {name!r}, and the stages give {_quoted(known)}",
                    f"write {' or '.join(map(repr, full))}" if sources else "check the name",
                    str(name),
                )
            if sources[0] in [source for _, source in found]:
                raise self.fail(f"outputs names {name!r} twice", "name it once", name)
            found.append((public, sources[0]))
        return found

    def _check_inputs_read(self) -> None:
        for name, index in self.inputs.items():
            if (-1, index) not in self.read:
                raise self.fail(
                    f"no stage reads the input {name!r}",
                    "wire it to a stage, or leave it out of inputs=",
                    name,
                )

    def _order(self, wired: list[list[Source | None]]) -> list[int]:
        """Each stage behind those that it takes from, else as they were written."""
        left = dict.fromkeys(range(len(wired)))
        order: list[int] = []
        while left:
            ready = next((s for s in left if not self._before(wired[s]) & left.keys()), None)
            if ready is None:
                names = [self.nodes[s].name for s in self._cycle(wired, left)]
                raise self.fail(
                    f"stages feed each other in a cycle: {' <- '.join(names)}",
                    "take one of these wires out; carry state through inputs and outputs instead",
                    names[0],
                )
            order.append(ready)
            del left[ready]
        return order

    @staticmethod
    def _before(sources: list[Source | None]) -> set[int]:
        return {source[0] for source in sources if source is not None and source[0] >= 0}

    def _cycle(self, wired: list[list[Source | None]], left: Mapping[int, Any]) -> list[int]:
        path = [next(iter(left))]
        while True:
            following = next(s for s in self._before(wired[path[-1]]) if s in left)
            path.append(following)
            if following in path[:-1]:
                return path[path.index(following) :]

    def _check_all_feed(
        self, wired: list[list[Source | None]], outputs: list[tuple[str, Source]]
    ) -> None:
        feeding = {source[0] for _, source in outputs}
        waiting = list(feeding)
        while waiting:
            for s in self._before(wired[waiting.pop()]) - feeding:
                feeding.add(s)
                waiting.append(s)
        for s, node in enumerate(self.nodes):
            if s not in feeding:
                raise self.fail(
                    f"nothing comes of stage {node.name!r}: no other stage reads it and no output "
                    "is its",
                    "name its outputs in outputs=, or leave it out",
                    node.name,
                )


def by_name(function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """The function with arguments in this order, whatever its own."""

    def call(*arrays: Any) -> Any:
        return function(**dict(zip(names, arrays, strict=True)))

    return call
