"""YAML files that stand for flags.

YAML guesses types: it reads ``off`` as False, ``010`` as 8, ``1:30`` as 90 and ``1e-3`` as a word. Here a scalar is the
text that the file shows, and the flag of that name says what it means, exactly as on the command line.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from yaml import BaseLoader, MappingNode, MarkedYAMLError, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from engine.cli.flags import nearest, value_of
from loaders.errors import InputError, printable

_SWITCHES: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NULLS: Final = {"", "~", "null", "Null", "NULL"}
_UNTAGGED: Final = {BaseLoader.DEFAULT_SCALAR_TAG, BaseLoader.DEFAULT_SEQUENCE_TAG, BaseLoader.DEFAULT_MAPPING_TAG}

_Pairs = dict[str, tuple[Node, Node]]
"""Dotted key -> the nodes of the key and of its value."""


@dataclass(frozen=True)
class Entry:
    """What a file says about one flag."""

    value: Any
    line: int


def read_yaml(path: Path, keys: Mapping[str, Any]) -> dict[str, Entry]:
    """Return what a YAML file sets, by dotted key. Raises InputError, with the line, for anything unusable.

    Args:
        path: the file; nested keys and dotted ones mean the same, and so do dashes and underscores.
        keys: dotted keys that it may set -> their types.
    """
    file = _File(path, keys)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        root = BaseLoader(text).get_single_node()
        pairs = file.flatten(root, "") if root and not _is_null(root) else {}
        return {name: Entry(file.value(name, value), _line(key)) for name, (key, value) in pairs.items()}
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): give a configuration file such as configs/train2d.yaml"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: this is not UTF-8: save the file as UTF-8 text") from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(
            f"{path}, line {line}: U+{error.character:04X} is no text: save the file as UTF-8 text"
        ) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(filter(None, (error.context, error.problem)))
        remedy = "; indent with spaces" if "'\\t'" in reason else ""
        raise InputError(f"{path}, line {mark.line + 1 if mark else 1}: this is not YAML: {reason}{remedy}") from None
    except RecursionError:
        raise InputError(f"{path} is nested in a circle or too deep: write its keys without aliases") from None


@dataclass(frozen=True)
class _File:
    path: Path
    keys: Mapping[str, Any]

    def flatten(self, section: Node, prefix: str) -> _Pairs:
        """Return all pairs in a section and below. A key that is known is no deeper than keys are, nor in a circle."""
        found: _Pairs = {}
        for name, (key, value) in self.pairs(section, prefix).items():
            if name in self.keys:
                below = {name: (key, value)}
            elif any(known.startswith(f"{name}.") for known in self.keys):
                below = {} if _is_null(value) else self.flatten(value, f"{name}.")
            else:
                raise self.fault(key, f"{name} is no key: {nearest(name, self.keys)}")
            for twice in found.keys() & below.keys():
                raise self.twice(twice, below[twice][0], found[twice][0])
            found |= below
        return found

    def pairs(self, section: Node, prefix: str) -> _Pairs:
        """Return the pairs of a section; what ``<<`` merges in gives way to the section's own."""
        if not isinstance(section, MappingNode):
            where = prefix[:-1] or "the file"
            raise self.fault(section, f"{where} holds no keys: write them one a line, as 'key: value'")
        own: _Pairs = {}
        merged: _Pairs = {}
        for key, value in section.value:
            if not isinstance(key, ScalarNode):
                raise self.fault(key, "a key is a single word")
            name = prefix + key.value.replace("-", "_")
            if key.value == "<<":
                for source in reversed(value.value if isinstance(value, SequenceNode) else [value]):
                    merged |= self.pairs(source, prefix)
            elif name in own:
                raise self.twice(name, key, own[name][0])
            else:
                own[name] = (key, value)
        return merged | own

    def value(self, name: str, node: Node) -> Any:
        """Return what a key's value means to the flag of that name."""
        hint = self.keys[name]
        if get_origin(hint) is not tuple:
            return self.single(name, node, hint)
        items = node.value if isinstance(node, SequenceNode) and node.tag in _UNTAGGED else [node]
        return tuple(self.single(name, item, get_args(hint)[0]) for item in items)

    def single(self, name: str, node: Node, hint: Any) -> Any:
        """Return what a value, or one of several, means to a flag of type ``hint``."""
        text = node.value
        if node.tag not in _UNTAGGED:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise self.fault(node, f"{name} has the tag {tag}: leave it out, the key says what the value means")
        if not isinstance(node, ScalarNode):
            raise self.fault(node, f"{name} takes one value: give it without brackets")
        if _is_null(node):
            if types.NoneType in get_args(hint):
                return None
            raise self.fault(node, f"{name} has no value: give one, or leave the line out")
        if hint is bool:
            if text.lower() not in _SWITCHES:
                raise self.fault(node, f"{name} is {text!r}: give true or false")
            return _SWITCHES[text.lower()]
        try:
            return value_of(text, hint)
        except ValueError as error:
            raise self.fault(node, f"{name} {error}") from None

    def twice(self, name: str, key: Node, first: Node) -> InputError:
        """Return the error of a key that is set again."""
        return self.fault(key, f"{name} is set again, after line {_line(first)}: keep one")

    def fault(self, node: Node, problem: str) -> InputError:
        """Return an error that says where."""
        return InputError(f"{self.path}, line {_line(node)}: {printable(problem)}")


def _line(node: Node) -> int:
    line: int = node.start_mark.line + 1
    return line


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.style is None and node.value in _NULLS
