"""The process of one run of a sweep: `python -m sam2.training.sweeps.one RECIPE key=value ...`."""

import sys

from sam2.training.launch import die_with_parent

if __name__ == "__main__":
    die_with_parent()
    from sam2.training.run import as_program

    sys.exit(as_program())
