"""Where live pictures come from, in FFmpeg's words: files, URLs, cameras of every system."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sam2.video_timeline import FILE_OPTIONS, reason


class SourceError(RuntimeError):
    """A source that cannot be opened or read on: which one, what happened, what to do."""


@dataclass(frozen=True)
class Address:
    """Where pictures come from.

    Attributes:
        name: for people; it holds no password.
        file: what FFmpeg opens, with `options`, as `format` (None: FFmpeg finds out).
        is_live: the source goes on whether somebody looks or not.
    """

    name: str
    file: str
    is_live: bool
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


def address_of(source: str | os.PathLike[str] | int) -> Address:
    """Where FFmpeg finds a source.

    Args:
        source: a path, a URL, a camera's number (also as text, where no file has that name) or device.

    Raises:
        SourceError: there is no such file or camera.
        TypeError: something else.
    """
    if isinstance(source, int) and not isinstance(source, bool):
        return _camera(source)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            f"source is of type {type(source).__name__}, expected a path, a URL or a camera's number"
        )
    text = os.fspath(source)
    if re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
        return _url(text)
    path = Path(text)
    if not path.exists() and re.fullmatch(r"[0-9]{1,3}", text):
        return _camera(int(text))
    if not path.exists():
        raise SourceError(f"{text}: no such file; for a camera give its number, for a stream its URL")
    if stat.S_ISCHR(path.stat().st_mode):
        return Address(text, text, True, "v4l2")
    if path.is_dir():
        raise SourceError(f"{text}: is a folder; read its pictures with sam2.video_frames.open_frames")
    return Address(text, str(path.absolute()), False, None, FILE_OPTIONS)


def _url(url: str) -> Address:
    scheme = url.partition(":")[0].lower()
    name = re.sub(r"\?.*", "?***", re.sub(r"//[^/?#]*@", "//***@", url, count=1))
    # over UDP, a camera's lost packets are torn pictures
    options = {"rtsp_transport": "tcp"} if scheme in ("rtsp", "rtsps") else {}
    return Address(name, url, scheme != "file", None, options)


def _camera(number: int) -> Address:
    """The camera of that number, through the system's own interface."""
    import av
    import av.device

    name = f"camera {number}"
    if sys.platform.startswith("linux"):
        device = Path(f"/dev/video{number}")
        if not device.exists():
            others = ", ".join(sorted(str(path) for path in Path("/dev").glob("video[0-9]*")))
            raise SourceError(
                f"{name}: there is no {device}; {f'there is {others}' if others else 'no camera is there'}"
            )
        return Address(name, str(device), True, "v4l2")
    if sys.platform == "darwin":
        return Address(name, f"{number}:none", True, "avfoundation")
    if sys.platform == "win32":
        try:
            devices = av.device.enumerate_input_devices("dshow")
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"{name}: the cameras cannot be listed ({reason(error)})") from error
        cameras = [device for device in devices if "video" in device.media_types]
        if not 0 <= number < len(cameras):
            found = ", ".join(device.description for device in cameras) or "no camera"
            raise SourceError(f"{name}: there is no such camera; found {found}")
        return Address(name, f"video={cameras[number].name}", True, "dshow")
    raise SourceError(f"{name}: cameras are not known on {sys.platform}; give a file or a URL")
