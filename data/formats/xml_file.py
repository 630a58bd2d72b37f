"""XML files of others: bounded in size, without entities, and named in every complaint."""

from __future__ import annotations

import xml.etree.ElementTree as ET  # a document type, which alone can declare entities, is refused below
from pathlib import Path

from data.clip import DataError

MAX_XML_BYTES = 1 << 30
_PIECE = 1 << 20


class _Builder(ET.TreeBuilder):
    """Builds elements, refuses document types."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called before anything that a document type declares is looked at."""
        raise DataError("has a document type, which could declare entities; remove the DOCTYPE")


def read_xml(path: Path, most_bytes: int = MAX_XML_BYTES) -> ET.Element:
    """The root element of an XML file.

    Raises:
        DataError: missing, too large, not XML, or it has a document type.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; restore it")
    size = path.stat().st_size
    if size > most_bytes:
        raise DataError(f"{path}: {size} bytes, at most {most_bytes} are accepted; divide it")
    parser = ET.XMLParser(target=_Builder())
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                parser.feed(piece)
        root = parser.close()
    except (ET.ParseError, LookupError, ValueError) as error:
        raise DataError(f"{path}: not XML that can be read ({error}); export it again") from error
    if not isinstance(root, ET.Element):
        raise DataError(f"{path}: holds no element; export it again")
    return root
