"""Settings dataclasses as command-line options and TOML keys: each is described once, by the comment beside its field.

    n_heads: int = 12  # H, attention heads per block        ->   --n-heads N    H, attention heads per block (default: 12)

A value comes from the flag, else from `--config file.toml`, else from the verb's own default, else from the dataclass.
In the file, keys are the fields' names, at the top level or under the group's table ([model], [training], ...). A key
nobody knows is an error that names the nearest one; a value of the wrong type says the key, what came and what was
expected. What a value may be beyond its type is the dataclass's own affair: it raises ValueError when it is made.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import difflib
import inspect
import io
import textwrap
import tokenize
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
METAVARS = {int: "N", float: "X", str: "TEXT"}
NONE_WORDS = ("none", "null")


@dataclass(frozen=True)
class Setting:
    """One field of a settings dataclass. `kind` is int, float, bool or str; `optional`: may be None."""

    name: str
    kind: type
    default: Any
    help: str
    optional: bool = False
    several: bool = False  # a tuple of `kind`
    length: int | None = None  # of the tuple, None = any
    choices: tuple[Any, ...] = ()

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        one = KINDS[self.kind]
        if self.several:
            return f"a list of {self.length} values" if self.length else f"a list, each {one}"
        return f"{one} or 'none'" if self.optional else one


@dataclass(frozen=True)
class Group:
    """A settings dataclass on the command line.

    name      its table in the TOML file, and its title in --help
    defaults  values of the verb in place of the dataclass's own
    flags     field -> flag without its dashes, where that is not the field's name
    without   fields that the verb fills itself
    words     field -> help in place of the field's comment, where that speaks of another default
    hidden    fields whose flag --help does not list, since there is a shorter way to give them
    """

    name: str
    cls: type
    defaults: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    words: Mapping[str, str] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()

    @property
    def settings(self) -> dict[str, Setting]:
        """Its settings by field name, in order, with the verb's defaults and words."""
        known = {one.name: one for one in settings_of(self.cls) if one.name not in self.without}
        return {
            name: dataclasses.replace(one, default=self.defaults.get(name, one.default), help=self.words.get(name, one.help))
            for name, one in known.items()
        }

    def with_saved(self, saved: Mapping[str, Any], *, where: str) -> Group:
        """The same group with the settings of an earlier run, as JSON gave them back, for defaults."""
        known = self.settings
        values = {
            name: value if value is None and known[name].optional else from_toml(known[name], value, where=f"{where}: {name}")
            for name, value in saved.items()
            if name in known
        }
        return dataclasses.replace(self, defaults={**self.defaults, **values})

    def flag(self, name: str) -> str:
        """The flag of a field: --n-layers."""
        return "--" + self.flags.get(name, name).replace("_", "-")


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
    if hint not in KINDS:
        raise TypeError(f"{one.name} is a {hint}, which no option can hold")
    return Setting(one.name, hint, default, comment, **more)


def add_options(parser: argparse.ArgumentParser, groups: Sequence[Group]) -> None:
    """An option for each setting of each group, under the group's title, and --config."""
    parser.add_argument("--config", metavar="FILE", help="settings from a TOML file; flags come before it")
    for group in groups:
        section = parser.add_argument_group(f"{group.name} settings")
        for name, setting in group.settings.items():
            option = _option(setting) | ({"help": argparse.SUPPRESS} if name in group.hidden else {})
            section.add_argument(group.flag(name), dest=f"{group.name}.{name}", **option)


def _option(setting: Setting) -> dict[str, Any]:
    option: dict[str, Any] = {"default": argparse.SUPPRESS, "help": _help(setting)}
    if setting.kind is bool:
        return {**option, "action": argparse.BooleanOptionalAction}
    option["metavar"] = METAVARS[setting.kind]
    if setting.choices:
        option["metavar"] = "{" + ",".join(map(str, setting.choices)) + "}"
    if setting.several and setting.kind is str:
        return {**option, "action": "append"}  # --stop a --stop b: a text may itself hold any separator
    if setting.several:
        return {**option, "nargs": setting.length or "+"}
    return option


def _help(setting: Setting) -> str:
    text, default = setting.help, setting.default
    if "(default:" in text:
        pass  # the verb finds it out as it runs, and says how
    elif default is dataclasses.MISSING:
        text += " (required)"
    elif isinstance(default, bool):
        text += f" (default: {'yes' if default else 'no'})"
    elif isinstance(default, tuple) and default:
        text += f" (default: {' '.join(map(str, default))})"
    elif default not in (None, (), ""):
        text += f" (default: {default})"
    return text.replace("%", "%%")


def read_groups(groups: Sequence[Group], args: argparse.Namespace) -> dict[str, Any]:
    """group name -> an instance of its dataclass, from flags, file and defaults. ValueError for what does not fit."""
    given = values_of(groups, args)
    return {group.name: group.cls(**{**group.defaults, **given[group.name]}) for group in groups}


def values_of(groups: Sequence[Group], args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """group name -> the values that were given, by file or by flag; what was not given is left out."""
    file = getattr(args, "config", None)
    values = _values_of_file(groups, Path(file)) if file else {group.name: {} for group in groups}
    for group in groups:
        for name, setting in group.settings.items():
            given = getattr(args, f"{group.name}.{name}", argparse.SUPPRESS)
            if given is not argparse.SUPPRESS:
                values[group.name][name] = from_words(setting, given, where=group.flag(name))
    return values


def from_words(setting: Setting, given: Any, *, where: str) -> Any:
    """A value from the words of a command line."""
    if isinstance(given, bool):
        return given
    if setting.several:
        return tuple(_from_word(setting, word, where) for word in given)
    if setting.optional and given.lower() in NONE_WORDS:
        return None
    return _from_word(setting, given, where)


def _from_word(setting: Setting, word: str, where: str) -> Any:
    try:
        value = setting.kind(word)
    except ValueError:
        raise ValueError(f"{where}: got {word!r}, expected {setting.expected}") from None
    return _check_choice(setting, value, where)


def _values_of_file(groups: Sequence[Group], path: Path) -> dict[str, dict[str, Any]]:
    """The values in a TOML file, checked against the settings they are for."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from None
    tables = {group.name: content.pop(group.name) for group in groups if isinstance(content.get(group.name), dict)}
    values: dict[str, dict[str, Any]] = {group.name: {} for group in groups}
    for key, value in content.items():
        owner = next((group for group in groups if key in group.settings), None)
        if owner is None and key in values:
            raise ValueError(f"{path}: {key}: got {value!r}, expected a table: [{key}], and its settings below it")
        if owner is None:
            raise _unknown(path, key, [name for group in groups for name in (group.name, *group.settings)])
        values[owner.name][key] = from_toml(owner.settings[key], value, where=f"{path}: {key}")
    for group in groups:
        for key, value in tables.get(group.name, {}).items():
            if key not in group.settings:
                raise _unknown(path, f"{group.name}.{key}", list(group.settings))
            if key in values[group.name]:
                raise ValueError(f"{path}: {key} stands both above the tables and in [{group.name}]; keep one of the two")
            values[group.name][key] = from_toml(group.settings[key], value, where=f"{path}: {group.name}.{key}")
    return values


def _unknown(path: Path, key: str, known: list[str]) -> ValueError:
    close = difflib.get_close_matches(key.rsplit(".", 1)[-1].replace("-", "_"), known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
    return ValueError(f"{path}: unknown key {key}; {hint}")


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
    fits = isinstance(value, (int, float) if setting.kind is float else setting.kind)
    if not fits or (isinstance(value, bool) and setting.kind is not bool):
        raise ValueError(f"{where}: got {value!r}, expected {setting.expected}")
    return _check_choice(setting, setting.kind(value), where)


def _check_choice(setting: Setting, value: Any, where: str) -> Any:
    if setting.choices and value not in setting.choices:
        close = difflib.get_close_matches(str(value), list(map(str, setting.choices)), n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(f"{where}: got {value!r}, expected {setting.expected}{hint}")
    return value
