"""The `sam2` command, behind a check that `sam2` and `data` are this project's own packages.

`data` is a name that many projects use, and other distributions install a `sam2`. Whichever Python finds first wins,
and the loser fails later in some far place. This module has a name that nobody else uses, so it can say so at once.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = ("sam2", "data")
MARK = "sam2-train"  # stands in the first line of both packages' __init__.py


class HiddenPackageError(ImportError):
    """Another module has the name of one of our packages and is found first."""


def check_names() -> None:
    """Make sure that `import sam2` and `import data` give this project's packages; neither is imported for it.

    Raises:
        HiddenPackageError: naming the file that is found instead, and what to do.
    """
    for name in PACKAGES:
        expected, found = HERE / name / "__init__.py", _origin(name)
        if found is None:
            raise HiddenPackageError(
                f"there is no package {name!r} beside {HERE / 'sam2_train.py'}; install sam2-train again"
            )
        if found != expected:
            raise HiddenPackageError(
                f"{found} hides the package {name!r} of sam2-train, which is {expected.parent}; rename that file or "
                "folder, start Python from another directory, or uninstall the distribution that brought it"
            )
        if MARK not in expected.read_text(encoding="utf-8").partition("\n")[0]:
            raise HiddenPackageError(
                f"another distribution has overwritten {expected}; uninstall it (pip uninstall sam2 SAM-2), "
                "then install sam2-train again"
            )


def _origin(name: str) -> Path | None:
    """The file that `import name` runs or has run; a folder for a package without __init__.py."""
    loaded = sys.modules.get(name)
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.origin is not None:
        return Path(spec.origin).resolve()
    return Path(next(iter(spec.submodule_search_locations or ["?"]))).resolve()


def main() -> None:
    """Run `sam2 VERB ...`."""
    try:
        check_names()
    except HiddenPackageError as error:
        sys.exit(f"sam2: {error}")
    from sam2.cli import main as run

    run()


if __name__ == "__main__":
    main()
