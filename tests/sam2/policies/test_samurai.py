"""Among candidates the one that moves as the object did wins."""

from __future__ import annotations

import pytest

from sam2.model.memory_bank import MemoryPolicy, Recall
from sam2.policies import REFERENCE
from sam2.policies.samurai import Samurai
from tests.sam2.policies.script import Box, Player, Says, steady

RIVAL: Box = (12, 20, 19, 27)


def mover(frame: int) -> Box:
    return (1 + frame, 4, 8 + frame, 11)


def crossing(frame: int, recall: Recall) -> Says:
    """One object moves; from frame 18 on the decoder thinks a little more of another one that rests."""
    if frame < 18:
        return Says([mover(frame), RIVAL], [0.9, 0.6])
    return Says([RIVAL, mover(frame)], [0.92, 0.88])


def test_the_moving_candidate_is_preferred_to_the_likelier_resting_one():
    frames = range(1, 23)
    assert Player(crossing, REFERENCE).play(frames)[-1] == RIVAL[0]
    assert Player(crossing, Samurai()).play(frames) == [mover(t)[0] for t in frames]


def test_motion_has_no_say_before_tracking_was_stable():
    assert Player(crossing, Samurai(stable_frames=18)).play(range(1, 19))[-1] == RIVAL[0]
    assert Player(crossing, Samurai(stable_frames=17)).play(range(1, 19))[-1] == mover(18)[0]


def test_alpha_weighs_motion_against_the_predicted_iou():
    # the mover must win by alpha * IoU of boxes > (1 - alpha) * 0.04
    assert Player(crossing, Samurai(alpha=0.03)).play(range(1, 19))[-1] == RIVAL[0]
    assert Player(crossing, Samurai(alpha=0.10)).play(range(1, 19))[-1] == mover(18)[0]


def test_motion_goes_on_while_the_object_is_hidden_but_must_prove_itself_again():
    def hidden(frame: int, recall: Recall) -> Says:
        says = crossing(frame, recall)
        return Says(says.boxes, says.ious, visible=-3.0) if frame in (16, 17) else says

    player = Player(hidden, Samurai(stable_frames=3))
    player.play(range(1, 18))
    motion = player.track.best.state
    assert motion.stable == 0 and abs(motion.believed.extent.left - mover(17)[0]) < 1
    assert Player(hidden, Samurai(stable_frames=3)).play(range(1, 19))[-1] == RIVAL[0]


def test_a_correction_starts_the_motion_anew():
    player = Player(crossing, Samurai(stable_frames=2))
    player.play(range(1, 18))
    player.prompt(18, (20, 20, 27, 27))
    player.step(19)
    motion = player.track.best.state
    assert motion.stable == 1 and set(motion.prompted) == {0, 18}
    assert player.play([20, 21])[-1] == RIVAL[0], "near the person's box, where the rival is"


def test_going_backwards_starts_from_the_prompted_frame():
    def back(frame: int, recall: Recall) -> Says:
        box = mover(frame)
        return Says([box, RIVAL], [0.9, 0.6]) if frame > 5 else Says([RIVAL, box], [0.92, 0.88])

    player = Player(back, Samurai(stable_frames=4), is_stream=False)
    player.prompt(20, mover(20))
    player.step(21)
    shown = [player.step(frame, reverse=True) for frame in range(19, 3, -1)]
    assert player.track.best.state.believed.axes[0].speed < -0.5
    assert [int((s.low_res[0, 0] > 0).any(dim=0).long().argmax()) for s in shown] == [
        mover(t)[0] for t in range(19, 3, -1)
    ]


@pytest.mark.parametrize(
    ("iou", "visible", "box"), [(0.4, 5.0, mover(0)), (0.9, -1.0, mover(0)), (0.9, 5.0, (20, 20, 27, 27))]
)
def test_a_frame_with_a_poor_mask_object_or_motion_score_is_not_remembered(iou, visible, box):
    def script(frame: int, recall: Recall) -> Says:
        if frame == 5:
            return Says([box, RIVAL], [iou, 0.1], visible)
        return Says([mover(0), RIVAL], [0.9, 0.1])

    player = Player(script, Samurai(min_motion=0.2, stable_frames=2), first=mover(0))
    player.play(range(1, 6))
    assert player.remembered == [0, 1, 2, 3, 4]


def test_the_memory_of_an_endless_stream_stays_the_same():
    player = Player(steady, Samurai(), rules=MemoryPolicy(slots=4, max_pointers=6))
    player.play(range(1, 60))
    early = player.bytes
    player.play(range(60, 600))
    assert player.bytes == early
