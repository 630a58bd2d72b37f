"""Settings as YAML text that Hydra reads back as they were."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Puts text into quotes that OmegaConf, unlike PyYAML, takes for a number: 0653e4, the name of a sweep."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def as_yaml(settings: Any) -> str:
    """The text of plain settings: mappings, lists, text, numbers, None."""
    text: str = yaml.dump(settings, Dumper=_Dumper, sort_keys=False)
    return text
