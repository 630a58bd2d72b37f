"""Tracks in CVAT's XML: which shape an object has in which frame of a video.

CVAT writes the shape of every frame, those between keyframes (keyframe="0") included, until one with outside="1" says
that the object has left. Other programs write keyframes alone: between two boxes CVAT's linear interpolation is done
here.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from data.clip import DataError
from data.formats.cvat_shapes import SHAPES, box_between, whole_attribute
from data.shard import MAX_FRAMES

_LAST = 2**31 - 1


@dataclass(frozen=True)
class TaskFrames:
    """The frames of a task: every `step`th one of the video from `start` on, without those in `deleted`."""

    start: int
    step: int
    deleted: frozenset[int]

    @classmethod
    def of(cls, task: ET.Element, where: str) -> TaskFrames:
        """What `<task>` or `<job>` says.

        Raises:
            DataError: it says something that is no number.
        """
        rule = (task.findtext("frame_filter") or "").strip()
        step = re.fullmatch(r"step\s*=\s*(\d{1,9})", rule)
        start = (task.findtext("start_frame") or "0").strip()
        if (rule and not step) or (step and int(step[1]) < 1) or not (start.isdecimal() and len(start) < 10):
            raise DataError(
                f"{where}: start_frame {start[:40]!r} with frame_filter {rule[:40]!r}, expected 0 and step=1"
            )
        deleted = [(element.text or "").strip() for element in task.findall("deleted_frames/frame")]
        if not all(number.isdecimal() and len(number) < 10 for number in deleted):
            raise DataError(f"{where}: deleted_frames must be numbers")
        return cls(int(start), int(step[1]) if step else 1, frozenset(int(number) for number in deleted))

    def position(self, frame: int) -> int:
        """Which frame of the task a frame of the video is."""
        return (frame - self.start) // self.step


def shapes_by_frame(track: ET.Element, frames: TaskFrames, where: str) -> dict[int, ET.Element]:
    """The shape of an object in each frame in which it can be seen, by the number of the frame in the video.

    Raises:
        DataError: a frame comes twice, is not of the task, or shapes other than boxes are missing between keyframes.
    """
    entries: dict[int, ET.Element] = {}
    for shape in track:
        if shape.tag not in SHAPES:
            continue
        frame = whole_attribute(shape, "frame", where, 0, _LAST)
        if frame in entries:
            raise DataError(f"{where}: frame {frame} comes twice; export it again")
        if frame < frames.start or (frame - frames.start) % frames.step:
            raise DataError(
                f"{where}: frame {frame} is none of the task's, which begin at {frames.start} with step {frames.step}; "
                "export it again"
            )
        entries[frame] = shape
    found: dict[int, ET.Element] = {}
    ordered = sorted(entries)
    for frame, following in zip(ordered, [*ordered[1:], None], strict=True):
        if entries[frame].get("outside") == "1" or frame in frames.deleted:
            continue
        found[frame] = entries[frame]
        if following is not None:
            found |= _between(frame, entries[frame], following, entries[following], frames, where)
    return found


def _between(
    first: int, shape: ET.Element, last: int, end: ET.Element, frames: TaskFrames, where: str
) -> dict[int, ET.Element]:
    """The shapes in the frames that are not written, the object being visible in the first one."""
    missing = [
        frame for frame in range(first + frames.step, last, frames.step) if frame not in frames.deleted
    ]
    if not missing:
        return {}
    if len(missing) > MAX_FRAMES or shape.tag != "box" or end.tag != "box":
        raise DataError(
            f"{where}: nothing is written for frames {missing[0]} to {missing[-1]}, between two keyframes; export it "
            "from CVAT, which writes every frame"
        )
    return {frame: box_between(shape, end, (frame - first) / (last - first), where) for frame in missing}
