"""Memory policies: what an object's memory holds and what a frame looks at, chosen by name or by a YAML file.

A policy is one class here and one file in `configs/policy/`; the file's name is the policy's name. A file of your own
works as well, and so does a class of your own, if it can be imported.
"""

from __future__ import annotations

import difflib
import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from sam2.policies.policy import REFERENCE, Policy
from sam2.policies.thresholds import PolicyError
from sam2.shipped import shipped

__all__ = [
    "REFERENCE",
    "Policy",
    "PolicyError",
    "as_policy",
    "content_of",
    "find_policy",
    "name_of",
    "policy_names",
]

_MAX_BYTES = 1 << 16
_TARGET = "_target_"


def policy_names() -> list[str]:
    """Names of the policies that come with the project."""
    return sorted(path.stem for path in shipped("configs").glob("policy/*.yaml"))


def find_policy(name: str | os.PathLike[str]) -> Policy:
    """The policy called `name`, or described by the YAML file of that path.

    A file holds `_target_: package.module.Class`, a subclass of `Policy`, and its thresholds.

    Raises:
        PolicyError: names the file and the key, what was found and what was expected.
    """
    path = Path(name).expanduser()
    if path.suffix not in {".yaml", ".yml"} and len(path.parts) == 1:
        return _from_file(_shipped(str(name)))
    if not path.is_file():
        raise PolicyError(f"there is no file {path}; policies by name: {', '.join(policy_names())}")
    return _from_file(path)


def as_policy(policy: Policy | str | os.PathLike[str]) -> Policy:
    """A policy, or the one that `find_policy` knows by that name or path.

    Raises:
        PolicyError: as `find_policy`.
        TypeError: something else, for instance a class in place of its instance.
    """
    if isinstance(policy, Policy):
        return policy
    if isinstance(policy, (str, os.PathLike)):
        return find_policy(policy)
    found = f"the class {policy.__name__}" if isinstance(policy, type) else f"of type {type(policy).__name__}"
    raise TypeError(
        f"the memory policy is {found}; expected its name ({', '.join(policy_names())}), a YAML file or an "
        "instance such as Samurai()"
    )


def content_of(policy: Policy) -> dict[str, Any]:
    """What a policy is: its class as `_target_` and all its thresholds, whichever way it was named.

    Equal for equal policies and ready for JSON: what JSON has no form for stands there as text.
    """
    kind = type(policy)
    thresholds = {f.name: getattr(policy, f.name) for f in fields(policy) if f.init}
    content = {_TARGET: f"{kind.__module__}.{kind.__qualname__}", **thresholds}
    plain: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return plain


def name_of(policy: Policy) -> str:
    """The name of a policy that comes with the project, the class's of any other."""
    content = content_of(policy)
    shipped_as = (name for name in policy_names() if content_of(find_policy(name)) == content)
    return next(shipped_as, type(policy).__name__)


def _shipped(name: str) -> Path:
    known = policy_names()
    if name not in known:
        close = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}? " if close else ""
        raise PolicyError(f"no memory policy is called {name!r}; {hint}known: {', '.join(known)}")
    return shipped("configs") / "policy" / f"{name}.yaml"


def _from_file(path: Path) -> Policy:
    content = _read(path)
    kind = _class(path, content[_TARGET])
    thresholds = {key: value for key, value in content.items() if key != _TARGET}
    known = [f.name for f in fields(kind) if f.init]
    for key in thresholds:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known) or 'none'}"
            raise PolicyError(f"{path}: {kind.__name__} has no threshold {key!r}; {hint}")
    try:
        return kind(**thresholds)
    except (TypeError, ValueError) as error:
        raise PolicyError(f"{path}: {error}") from error


def _read(path: Path) -> Mapping[str, Any]:
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise PolicyError(f"{path} has {size} bytes; a policy's file is a few lines")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not isinstance(content.get(_TARGET), str):
        raise PolicyError(f"{path}: expected `{_TARGET}: package.module.Class` and thresholds")
    return content


def _class(path: Path, target: str) -> type[Policy]:
    module, _, name = target.rpartition(".")
    if not module or not all(part.isidentifier() for part in target.split(".")):
        raise PolicyError(f"{path}: {_TARGET} is {target!r}, expected package.module.Class")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PolicyError(f"{path}: cannot import {_TARGET} {target!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Policy)):
        raise PolicyError(f"{path}: {_TARGET} {target!r} is no memory policy; subclass sam2.policies.Policy")
    return found
