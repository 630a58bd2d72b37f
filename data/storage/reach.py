"""Whether shards behind addresses can be had from this machine: `python -P -m data.storage.reach < ADDRESSES`.

A line for each address on standard input, where no other user sees what is secret in one; a line for each that cannot
be read on standard output. A process of its own, so that whoever asks can end what hangs.
"""

from __future__ import annotations

import logging
import sys
from concurrent.futures import ThreadPoolExecutor

from data.clip import DataError
from data.index import INDEX_NAME
from data.storage.remote import NoRanges, Remote

_ATTEMPTS = 2
_TIMEOUT_S = 4.0


def fault_of(url: str) -> str:
    """Why a data set cannot be read from here, in one line; empty if it can."""
    try:
        Remote(url, attempts=_ATTEMPTS, timeout_s=_TIMEOUT_S).read(INDEX_NAME, 0, 1)
    except NoRanges:
        return ""
    except DataError as error:
        return " ".join(str(error).split())
    return ""


def main() -> int:
    """Look at all addresses at once; gives 1 if one cannot be read."""
    logging.disable(logging.WARNING)  # of second attempts
    urls = sys.stdin.read().splitlines()
    with ThreadPoolExecutor(max(1, len(urls))) as threads:
        faults = [fault for fault in threads.map(fault_of, urls) if fault]
    print("".join(f"{fault}\n" for fault in faults), end="")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
