"""How a job learns why its tasks ended: the first task that ends badly leaves its exit code in a file.

srun ends the other tasks then, and answers with the signal that it ended them by.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

VARIABLE = "SAM2_LAST_WORD"  # path of the file, in the environment of a job's tasks


def is_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is a task of a job that wants to know."""
    return bool(environment.get(VARIABLE))


def leave(code: int, environment: Mapping[str, str] = os.environ) -> None:
    """Say with which exit code this process ends, if it is a task, the code is bad, and no other task was first."""
    path = environment.get(VARIABLE)
    if not path or not code:
        return
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(f"{code}\n")
    except FileExistsError:
        pass
    except OSError as error:
        print(f"the exit code {code} could not be written down: {error}", file=sys.stderr)
