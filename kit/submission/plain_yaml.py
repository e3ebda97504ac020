"""YAML without its surprises: no anchors, tags, merges or duplicate keys, not deep, and every value knows its line."""

from collections.abc import Hashable, Sequence
from typing import Any

import yaml

MAX_DEPTH = 12


class YamlProblem(Exception):  # noqa: N818 - becomes the message of an error
    """Why a text is not such YAML."""

    def __init__(self, what: str, line: int | None) -> None:
        super().__init__(" ".join(what.split()))
        self.line = line


def read_yaml(content: bytes) -> tuple[Any, yaml.Node | None]:
    """The content, and the nodes that know its lines.

    Raises:
        YamlProblem: It cannot be read, or uses what is not taken here.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise YamlProblem(f"expected UTF-8: {error.reason}", content[: error.start].count(b"\n") + 1) from None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        return (None if root is None else loader.construct_document(root)), root
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlProblem(error.problem or error.context or "?", None if mark is None else mark.line + 1) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise YamlProblem(f"{error.reason}: character {int(error.character):#04x}", line) from None


def line_of(root: yaml.Node | None, loc: Sequence[int | str]) -> int | None:
    """The line, from 1, of a key or item; None of what is not there."""
    node, line = root, None
    for part in loc:
        match node:
            case yaml.MappingNode():
                pairs = [(key, value) for key, value in node.value if getattr(key, "value", None) == str(part)]
                if not pairs:
                    break
                line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
            case yaml.SequenceNode() if isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
            case _:
                break
    return line


class _Loader(yaml.SafeLoader):
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise _problem("anchors and aliases (&, *) are not taken here", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _problem("tags (!) are not taken here", event.start_mark)
        if self._depth == MAX_DEPTH:
            raise _problem(f"nested more than {MAX_DEPTH} deep", event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[Hashable] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _problem("expected a name as key", key.start_mark)
            if key.tag == "tag:yaml.org,2002:merge":
                raise _problem("merge keys (<<) are not taken here", key.start_mark)
            if (key.tag, key.value) in seen:
                raise _problem(f"the key {key.value!r} stands here twice", key.start_mark)
            seen.add((key.tag, key.value))
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, ArithmeticError) as error:  # a date that is none, a number of more digits than Python reads
            raise _problem(str(error), node.start_mark) from None


def _problem(what: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=mark)
