"""Plain mappings to typed dataclasses, with errors a person can act on.

`from_mapping` is the one gate between composed YAML and the program: every key is known, every value has its type.
`to_plain` is its inverse; what it returns can be written as YAML or JSON and read again to an equal object.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import importlib
import inspect
import math
import os
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from data.storage.place import Url, is_url

T = TypeVar("T")

_NAMES = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    Path: "a path",
    Url: "an address",
}


class ConfigError(ValueError):
    """A setting is unknown, missing, of the wrong type, or contradicts another one."""


@dataclass(frozen=True)
class Plugin:
    """Something of the user's own: `_target_: package.module.Name` in YAML, the other keys are its arguments."""

    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self, **given: Any) -> Any:
        """Import the target and call it with the arguments from the configuration and `given`."""
        return _import(self.target, self.target)(**{**given, **self.arguments})


def from_mapping(schema: type[T], values: Mapping[str, Any]) -> T:
    """An instance of the dataclass `schema` made of `values`, checked all the way down.

    Raises:
        ConfigError: names the dotted key, what it holds, what was expected, and the closest known spelling.
    """
    return _Merge(schema).group(schema, values, "")


def require_positive(config: Any, where: str, *names: str) -> None:
    """See that the numbers in these fields of `config`, which is the group `where`, are above 0.

    Raises:
        ValueError: naming the first that is not.
    """
    for name in names:
        value = getattr(config, name)
        if isinstance(value, int | float) and value <= 0:
            raise ValueError(f"{where}.{name} is {value}; it must be above 0")


def to_plain(value: Any) -> Any:
    """`value` in mappings, lists, text, numbers, booleans and None only."""
    if isinstance(value, Plugin):
        return {"_target_": value.target, **to_plain(value.arguments)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return to_plain(value.value)
    return str(value) if isinstance(value, Path | Url) else value


def flatten(plain: Any, where: str = "") -> dict[str, Any]:
    """Dotted keys of nested mappings; lists count as one value."""
    if not isinstance(plain, Mapping) or not plain:
        return {where: plain} if where else {}
    parts = (flatten(item, f"{where}.{key}" if where else str(key)) for key, item in plain.items())
    return {key: item for part in parts for key, item in part.items()}


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be."""
    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


class _Merge:
    """One walk down a schema; it knows the whole of it, to say where a misplaced key belongs."""

    def __init__(self, schema: type) -> None:
        self._paths = _paths(schema)

    def group(self, schema: type[T], values: Any, where: str) -> T:
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where or 'the configuration'}: expected a group of settings, got {values!r}")
        hints = get_type_hints(schema)
        fields = {f.name: f for f in dataclasses.fields(schema) if f.init}  # type: ignore[arg-type]
        for key in values:
            if key not in fields:
                raise ConfigError(self._unknown(str(key), where, fields))
        for name, f in fields.items():
            if name not in values and f.default is f.default_factory is dataclasses.MISSING:
                raise ConfigError(f"missing key '{_join(where, name)}' ({describe(hints[name])})")
        built = {name: self.value(hints[name], item, _join(where, name)) for name, item in values.items()}
        try:
            return schema(**built)
        except ConfigError:
            raise
        except ValueError as error:  # the dataclass's own checks
            says_where = not where or str(error).startswith(where)
            raise ConfigError(str(error) if says_where else f"{where}: {error}") from error

    def value(self, kind: Any, value: Any, where: str) -> Any:
        origin = get_origin(kind)
        if kind is Any or kind is object:
            return value
        if kind is Plugin:
            return _plugin(value, where)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return self.group(kind, value, where)
        if origin in (Union, types.UnionType):
            return self._union(get_args(kind), value, where)
        if origin is Literal:
            return _choice(value, get_args(kind), where)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return kind(_choice(value, [member.value for member in kind], where))
        if (origin or kind) in (list, tuple, set, frozenset, Sequence):
            return self._items(origin or kind, get_args(kind), value, where)
        if (origin or kind) in (dict, Mapping):
            return self._mapping(get_args(kind), value, where)
        return _scalar(kind, value, where)

    def _union(self, arms: Sequence[Any], value: Any, where: str) -> Any:
        if value is None and type(None) in arms:
            return None
        arms = [arm for arm in arms if arm is not type(None)]
        if isinstance(value, Mapping) and len(arms) > 1:
            wanted = [arm for arm in arms if (arm is Plugin) == ("_target_" in value) and _takes_mapping(arm)]
            arms = wanted or arms
        exact = [arm for arm in arms if arm is type(value)]
        if exact or len(arms) == 1:
            return self.value((exact or arms)[0], value, where)
        for arm in arms:
            try:
                return self.value(arm, value, where)
            except ConfigError:
                continue  # another arm may take it; the last line of this function reports when none does
        raise ConfigError(f"{where}: expected {' or '.join(map(describe, arms))}, got {_show(value)}")

    def _items(self, kind: Any, args: Sequence[Any], value: Any, where: str) -> Any:
        if not isinstance(value, list | tuple):
            inside = describe(args[0]) if args else "values"
            raise ConfigError(f"{where}: expected a list such as [a, b] ({inside} each), got {_show(value)}")
        fixed = kind is tuple and args and args[-1] is not Ellipsis
        if fixed and len(value) != len(args):
            raise ConfigError(f"{where}: expected a list of {len(args)}, got {len(value)}: {_show(value)}")
        kinds = args if fixed else [args[0] if args else Any] * len(value)
        made = [
            self.value(k, item, f"{where}[{i}]") for i, (k, item) in enumerate(zip(kinds, value, strict=True))
        ]
        return made if kind is list else tuple(made) if kind in (tuple, Sequence) else kind(made)

    def _mapping(self, args: Sequence[Any], value: Any, where: str) -> dict[Any, Any]:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a mapping such as {{name: value}}, got {_show(value)}")
        key_kind, item_kind = args or (Any, Any)
        return {
            self.value(key_kind, key, f"{where} (key)"): self.value(item_kind, item, _join(where, str(key)))
            for key, item in value.items()
        }

    def _unknown(self, key: str, where: str, fields: Iterable[str]) -> str:
        message = f"unknown key '{_join(where, key)}'"
        if (head := key.partition(".")[0]) != key and head in fields:
            nested = key.replace(".", ": {") + ": ..." + "}" * key.count(".")
            return f"{message}; in a file it is written `{nested}`"
        near = closest(key, fields)
        elsewhere = [path for path in self._paths if path.rpartition(".")[2] == key]
        if near is None and elsewhere:
            near = min(elsewhere, key=len)
        if near is not None:
            return f"{message}; did you mean '{near}'?"
        return f"{message}; known {'here' if where else 'at the top'}: {', '.join(fields)}"


def describe(kind: Any) -> str:
    """A type in the user's words."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if arm is type(None) else describe(arm) for arm in args)
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if (origin or kind) in (list, tuple, set, frozenset, Sequence):
        return "a list"
    if (origin or kind) in (dict, Mapping):
        return "a mapping"
    if kind is Plugin:
        return "a group with _target_"
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return "a group of settings"
    return _NAMES.get(kind, getattr(kind, "__name__", str(kind)))


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is bool and isinstance(value, bool):
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if kind is float and number:
        return float(value)
    if kind is int and number and float(value).is_integer():  # 1e4 is how people write ten thousand steps
        return int(value)
    if kind is str and isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)  # a name may look like a number: run_id=7
    if kind is Url and isinstance(value, str) and is_url(value):
        return Url(value)
    if kind is Path and isinstance(value, str | Path):
        return Path(value).expanduser().absolute()  # the run may be continued from elsewhere
    if isinstance(kind, type) and kind not in _NAMES and isinstance(value, kind):
        return value
    raise ConfigError(f"{where}: expected {describe(kind)}, got {_show(value)}{_quoted(kind, value, where)}")


def _quoted(kind: Any, value: Any, where: str) -> str:
    """The remedy where a name looks like a number or a truth value to YAML: run_id=nan, run_id=true."""
    if kind not in (str, Path) or not isinstance(value, bool | int | float):
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"; in quotes it is {describe(kind)}: '{where}=\"{text}\"'"


def _choice(value: Any, known: Sequence[Any], where: str) -> Any:
    for option in known:
        if value == option and isinstance(value, bool) == isinstance(option, bool):
            return option
        if isinstance(option, str) and str(value) == option and not isinstance(value, bool):
            return option  # precision=32 is an integer to YAML
    near = closest(str(value), [str(option) for option in known])
    hint = f"; did you mean {near!r}?" if near else ""
    raise ConfigError(f"{where}: expected one of {', '.join(map(str, known))}; got {_show(value)}{hint}")


def _plugin(value: Any, where: str) -> Plugin:
    if not isinstance(value, Mapping) or not isinstance(value.get("_target_"), str):
        raise ConfigError(
            f"{where}: expected a group with `_target_: package.module.Name`, got {_show(value)}"
        )
    target = value["_target_"]
    arguments = {str(key): item for key, item in value.items() if key != "_target_"}
    made = _import(target, where)
    try:
        parameters = inspect.signature(made).parameters
    except (TypeError, ValueError):  # some built-ins have no signature; calling them will tell
        return Plugin(target, arguments)
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for key in arguments:
            if key not in parameters:
                near = closest(key, parameters)
                hint = f"did you mean '{near}'?" if near else f"{target} takes: {', '.join(parameters)}"
                raise ConfigError(f"unknown key '{_join(where, key)}'; {hint}")
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for name, parameter in parameters.items():
        if parameter.kind in named and parameter.default is parameter.empty and name not in arguments:
            raise ConfigError(f"missing key '{_join(where, name)}': {target} needs it")
    return Plugin(target, arguments)


def _import(target: str, where: str) -> Callable[..., Any]:
    """The object called `target`; modules in the current directory are found last, so they can hide nothing."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{where}: cannot import _target_ '{target}': {error}") from error
    if not callable(found):
        raise ConfigError(f"{where}: _target_ '{target}' is not a class or a function")
    return found


def _paths(schema: Any, where: str = "") -> list[str]:
    """Dotted names of all settings of a schema."""
    found: list[str] = []
    for name, hint in get_type_hints(schema).items():
        found.append(_join(where, name))
        for arm in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
            if isinstance(arm, type) and dataclasses.is_dataclass(arm) and arm is not Plugin:
                found += _paths(arm, _join(where, name))
    return found


def _takes_mapping(kind: Any) -> bool:
    is_group = isinstance(kind, type) and dataclasses.is_dataclass(kind)
    return is_group or (get_origin(kind) or kind) in (dict, Mapping)


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
