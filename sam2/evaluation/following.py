"""Follow objects through a video from prompts made of their true masks, each from the frame on which it first appears.

What every evaluation of a model on videos runs: benchmarks, held-out videos during training, shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sam2.evaluation.boundary import Bools
from sam2.evaluation.clicks import next_click
from sam2.evaluation.prompts import BOX, CLICKS, MASK, PROMPTS
from sam2.video_session import VideoSession
from sam2.video_state import FrameMasks


@dataclass(frozen=True, eq=False)
class Start:
    """An object on the frame on which it is pointed at: its id, the frame's index and its true mask (H, W) there."""

    object_id: int
    frame: int
    mask: Bools


def point_at(session: VideoSession, start: Start, prompt: str) -> FrameMasks:
    """Prompt an object on its first frame.

    `mask` gives the true mask, `box` the corners of its first and last rows and columns, `clickN` clicks N times: in
    the object's middle, then where the last answer is most wrong, as long as anything is.

    Raises:
        ValueError: there is no such prompt, or the mask is empty.
        PromptError, SessionError: the mask does not fit the video.
    """
    if prompt not in PROMPTS:
        raise ValueError(f"there is no prompt {prompt!r}; choose one of {', '.join(PROMPTS)}")
    if not start.mask.any():
        raise ValueError(f"object {start.object_id} has an empty mask on frame {start.frame}, its first")
    if prompt == MASK:
        return session.add_mask(start.frame, start.object_id, start.mask)
    if prompt == BOX:
        return session.add_points_or_box(start.frame, start.object_id, box=box_around(start.mask))
    return click_at(session, start, CLICKS[prompt], np.zeros_like(start.mask))


def click_at(session: VideoSession, start: Start, clicks: int, answer: Bools) -> FrameMasks:
    """Click up to `clicks` times where what is shown of an object is most wrong, beginning with `answer` (H, W).

    Raises:
        ValueError: nothing is wrong, so that there is nothing to click at.
    """
    shown: FrameMasks | None = None
    for _ in range(clicks):
        click = next_click(start.mask, answer)
        if click is None:
            break
        shown = session.add_points_or_box(
            start.frame,
            start.object_id,
            [[click.x, click.y]],
            [int(click.is_positive)],
            clear_old=shown is None and start.object_id not in session.objects,
        )
        answer = mask_of(shown, start.object_id)
    if shown is None:
        raise ValueError(f"object {start.object_id} is shown without an error on frame {start.frame}")
    return shown


def mask_of(shown: FrameMasks, object_id: int) -> Bools:
    """One object's mask (H, W)."""
    mask: Bools = (shown.logits[shown.object_ids.index(object_id), 0] > 0).cpu().numpy()
    return mask


def box_around(mask: Bools) -> list[int]:
    """x1, y1, x2, y2: the first and last column and row of a mask; one pixel wide or high ones are widened by one."""
    rows, columns = np.flatnonzero(mask.any(1)).tolist(), np.flatnonzero(mask.any(0)).tolist()
    x1, x2, y1, y2 = columns[0], columns[-1], rows[0], rows[-1]
    return [x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)]


def follow(session: VideoSession, starts: Sequence[Start], prompt: str = MASK) -> Iterator[FrameMasks]:
    """The masks of all objects that have appeared, frame by frame, from the first start to the end of the video.

    Args:
        session: of the video, without objects; `keep_past=False` keeps memory from growing with the video.
        starts: the objects; each is pointed at once and then left alone.
        prompt: how, one of `PROMPTS`.

    Raises:
        ValueError, PromptError, SessionError: see `point_at`.
    """
    by_frame: dict[int, list[Start]] = {}
    for start in starts:
        by_frame.setdefault(start.frame, []).append(start)
    for frame in range(min(by_frame), len(session.frames)) if by_frame else ():
        for start in by_frame.pop(frame, []):
            point_at(session, start, prompt)
        session.prepare()
        yield from session.follow([frame])
    if by_frame:
        raise ValueError(
            f"object {by_frame[min(by_frame)][0].object_id} starts on frame {min(by_frame)}; "
            f"the video has {len(session.frames)}"
        )
