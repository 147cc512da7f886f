"""Settings dataclasses as command-line options and TOML keys: each is described once, by the comment beside its field.

    n_heads: int = 12  # H, attention heads per block        ->   --n-heads N    H, attention heads per block (default: 12)

A value comes from the flag, else from `--config file.toml`, else from the run that is resumed, else it is the recipe's default.
In the file, keys are the fields' names, at the top level or under the group's table ([model], [training], ...). A key
nobody knows is an error that names the nearest one.
"""

from __future__ import annotations

import argparse
import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyllm.storage.explain import nearest
from tinyllm.storage.settings import NONE_WORDS, Setting, check_choice, from_json, from_toml, settings_of

METAVARS = {int: "N", float: "X", str: "TEXT"}


@dataclass(frozen=True)
class Group:
    """A settings dataclass on the command line.

    name      its table in the TOML file
    default   an instance with the recipe's defaults
    flags     field -> flag without its dashes, where that is not the field's name
    without   fields that the verb fills itself
    words     field -> help in place of the field's comment, where that speaks of another default
    hidden    fields whose flag --help does not list, since there is a shorter way to give them
    title     its title in --help, where that is not its name
    """

    name: str
    default: Any
    flags: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    title: str = ""

    @property
    def settings(self) -> dict[str, Setting]:
        """Its settings by field name, in order, with the recipe's defaults and the verb's words."""
        known = [one for one in settings_of(type(self.default)) if one.name not in self.without]
        return {
            one.name: dataclasses.replace(one, default=getattr(self.default, one.name), help=self.words.get(one.name, one.help))
            for one in known
        }

    def with_saved(self, saved: Mapping[str, Any], *, where: str) -> Group:
        """The same group with the settings of an earlier run, as JSON gave them back, for defaults."""
        kept = {name: value for name, value in saved.items() if name not in self.without}
        return dataclasses.replace(self, default=from_json(type(self.default), kept, where=where, default=self.default))

    def flag(self, name: str) -> str:
        """The flag of a field: --n-layers."""
        return "--" + self.flags.get(name, name).replace("_", "-")


def add_options(parser: argparse.ArgumentParser, groups: Sequence[Group], *, config: bool = True) -> None:
    """An option for each setting of each group, under the group's title, and --config."""
    if config:
        parser.add_argument("--config", metavar="FILE", help="settings from a TOML file; flags come before it")
    for group in groups:
        section = parser.add_argument_group(group.title or f"{group.name} settings")
        for name, setting in group.settings.items():
            if setting.nested:
                continue
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
    return {group.name: dataclasses.replace(group.default, **given[group.name]) for group in groups}


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
    return check_choice(setting, value, where)


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
    near = nearest(key.rsplit(".", 1)[-1].replace("-", "_"), known)
    hint = f"did you mean {near}?" if near else f"known keys: {', '.join(known)}"
    return ValueError(f"{path}: unknown key {key}; {hint}")
