"""A video session for interactive evaluation: one object, clicked on, followed, put back to an earlier state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sam2.evaluation.boundary import Bools
from sam2.evaluation.clicks import Click
from sam2.evaluation.following import mask_of
from sam2.video_session import VideoSession
from sam2.video_state import TrackedObject

_OBJECT = 1


class SessionPredictor:
    """One object in a `VideoSession` that has none and keeps its past.

    Where `add_all_frames_to_correct_as_cond` is set, a corrected frame becomes a prompted one of the memory, as in
    training. Where it is not, as in the released predictor, a frame that has been tracked stays a tracked one: the
    correction reaches the frames after it, but the next pass over the video tracks over it. Offline that changes
    nothing at all.

    Raises:
        ValueError: it does not keep its past, so that nothing could be corrected.
    """

    def __init__(self, session: VideoSession) -> None:
        if not session.options.keep_past:
            raise ValueError("a session without its past cannot be corrected; open it with keep_past")
        self._session = session

    def reset(self) -> None:
        """Forget the object; what was seen in the frames stays."""
        self._session.reset()

    def click(self, frame: int, click: Click) -> Bools:
        """The mask (H, W) after one more click; earlier ones of the frame and what it showed count, too."""
        place, label = [[click.x, click.y]], [int(click.is_positive)]
        return mask_of(
            self._session.add_points_or_box(frame, _OBJECT, place, label, clear_old=False), _OBJECT
        )

    def follow(self, start: int) -> Iterator[tuple[int, Bools]]:
        """Index and mask (H, W) of each frame from `start` on."""
        self._session.prepare()
        for shown in self._session.follow(range(start, len(self._session.frames))):
            yield shown.frame, mask_of(shown, _OBJECT)

    def save(self) -> TrackedObject:
        """References to what is known; memories themselves are not copied."""
        return _forked(self._session.objects[_OBJECT])

    def restore(self, state: TrackedObject) -> None:
        """Come back to what was saved, as often as one likes."""
        self._session.objects[_OBJECT] = _forked(state)


def _forked(known: TrackedObject) -> TrackedObject:
    return replace(
        known,
        prompts=dict(known.prompts),
        masks=dict(known.masks),
        pending=dict(known.pending),
        answers=dict(known.answers),
        tracked=dict(known.tracked),
    )
