"""Settings dataclasses, as files hold them: each field has a type, a default, and a comment beside it that describes it.

    n_heads: int = 12  # H, attention heads per block

A value of the wrong type says the key, what came and what was expected. What a value may be beyond its type is the dataclass's
own affair: it raises ValueError when it is made.
"""

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tinyllm.storage.explain import suggestion

T = TypeVar("T")
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
NONE_WORDS = ("none", "null")


@dataclass(frozen=True)
class Setting:
    """One field of a settings dataclass. `kind` is int, float, bool, str or such a dataclass; `optional`: may be None."""

    name: str
    kind: type
    default: Any
    help: str
    optional: bool = False
    several: bool = False  # a tuple of `kind`
    length: int | None = None  # of the tuple, None = any
    choices: tuple[Any, ...] = ()

    @property
    def nested(self) -> bool:
        """Whether it is a dataclass of settings itself, which files hold and no flag can."""
        return dataclasses.is_dataclass(self.kind)

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        one = "a table" if self.nested else KINDS[self.kind]
        if self.several:
            return f"a list of {self.length} values" if self.length else f"a list, each {one}"
        return f"{one} or 'none'" if self.optional else one


def comments_of(cls: type) -> dict[str, str]:
    """field -> the comment on its lines, or on the comment lines right above it, or ""."""
    source = textwrap.dedent(inspect.getsource(cls))
    comments = {
        token.start[0]: (token.string.lstrip("# "), token.line.strip().startswith("#"))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for node in getattr(ast.parse(source).body[0], "body", []):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first, last = node.lineno, node.end_lineno or node.lineno
            beside = [comments[line][0] for line in range(first, last + 1) if line in comments]
            while not beside and comments.get(first - 1, ("", False))[1]:
                first -= 1
            found[node.target.id] = " ".join(beside or [comments[line][0] for line in range(first, node.lineno)])
    return found


def settings_of(cls: type) -> list[Setting]:
    """The settings of a dataclass, base classes first. TypeError for a type that no flag can hold."""
    comments: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            comments |= comments_of(base)
    hints = typing.get_type_hints(cls)
    return [_setting(one, hints[one.name], comments.get(one.name, "")) for one in dataclasses.fields(cls) if one.init]


def _setting(one: dataclasses.Field, hint: Any, comment: str) -> Setting:
    default = one.default
    if one.default_factory is not dataclasses.MISSING:
        default = one.default_factory()
    more: dict[str, Any] = {}
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [choice for choice in typing.get_args(hint) if choice is not type(None)]
        more["optional"] = len(inner) < len(typing.get_args(hint))
        hint = inner[0]
    if typing.get_origin(hint) is tuple:
        items = typing.get_args(hint)
        more |= {"several": True, "length": None if items[-1] is Ellipsis else len(items)}
        hint = items[0]
    if typing.get_origin(hint) is typing.Literal:
        more["choices"] = typing.get_args(hint)
        hint = type(more["choices"][0])
    if hint is Path:
        hint = str
    if hint not in KINDS and not dataclasses.is_dataclass(hint):
        raise TypeError(f"{one.name} is a {hint}, which no option can hold")
    return Setting(one.name, hint, default, comment, **more)


def from_toml(setting: Setting, value: Any, *, where: str) -> Any:
    """A value from a TOML file, whose types are those of the file: "4" is no number."""
    if setting.optional and isinstance(value, str) and setting.kind is not str and value.lower() in NONE_WORDS:
        return None  # TOML has no null
    if setting.several:
        if not isinstance(value, list) or len(value) != (setting.length or len(value)):
            raise ValueError(f"{where}: got {value!r}, expected {setting.expected}")
        return tuple(_scalar(setting, item, where) for item in value)
    return _scalar(setting, value, where)


def _scalar(setting: Setting, value: Any, where: str) -> Any:
    if setting.nested and isinstance(value, Mapping):
        return _table(setting.kind, value, where)
    fits = isinstance(value, (int, float) if setting.kind is float else setting.kind)
    if not fits or (isinstance(value, bool) and setting.kind is not bool):
        raise ValueError(f"{where}: got {value!r}, expected {setting.expected}")
    return check_choice(setting, setting.kind(value), where)


def _table(kind: type, values: Mapping[str, Any], where: str) -> Any:
    """An instance of a settings dataclass inside another, from a table that has no other keys and all that must be there."""
    known = {one.name: one for one in settings_of(kind)}
    for key in values:
        if key not in known:
            raise ValueError(f"{where}: unknown key {key}{suggestion(key, known)}")
    if missing := [name for name, one in known.items() if one.default is dataclasses.MISSING and name not in values]:
        raise ValueError(f"{where}: {missing[0]} is missing; expected {known[missing[0]].expected}")
    try:
        return from_json(kind, values, where=where)
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None


def check_choice(setting: Setting, value: Any, where: str) -> Any:
    """The value, if it is one of the setting's choices, where it has any."""
    if setting.choices and value not in setting.choices:
        hint = suggestion(str(value), map(str, setting.choices))
        raise ValueError(f"{where}: got {value!r}, expected {setting.expected}{hint}")
    return value


def from_json(cls: type[T], values: Mapping[str, Any], *, where: str, default: T | None = None) -> T:
    """An instance from the values that an earlier run left in a JSON file; fields that no longer exist are passed over.

    default  where fields that are missing in the file are taken from (None: the dataclass's own defaults)
    """
    known = {one.name: one for one in settings_of(cls)}
    found = {
        name: value if value is None and known[name].optional else from_toml(known[name], value, where=f"{where}: {name}")
        for name, value in values.items()
        if name in known
    }
    return cls(**found) if default is None else dataclasses.replace(default, **found)  # type: ignore[type-var]
