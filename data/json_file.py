"""JSON files of others: bounded in size, and named in every complaint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data.clip import DataError

MAX_JSON_BYTES = 4 << 30


def read_json(path: Path, most_bytes: int = MAX_JSON_BYTES) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: missing, too large, or not JSON.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; restore it")
    size = path.stat().st_size
    if size > most_bytes:
        raise DataError(f"{path}: {size} bytes, at most {most_bytes} are accepted; divide it")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); download or export it again") from error


def read_object(path: Path, most_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """What a JSON file holds, which must be an object; errors as in `read_json`."""
    found = read_json(path, most_bytes)
    if not isinstance(found, dict):
        raise DataError(f"{path}: holds a {type(found).__name__}, expected an object")
    return found
