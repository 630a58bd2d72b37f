"""What a model says beside its masks."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from sam2.evaluation.answers import Answers, TimedFrames, known_of_itself, speed
from sam2.evaluation.choices import Choice
from sam2.evaluation.scores import ObjectScore
from sam2.video_frames import open_frames
from sam2.video_state import FrameMasks


def shown(frame: int, ids: list[int], ious: list[float], logits: list[float]) -> FrameMasks:
    return FrameMasks(frame, ids, torch.zeros(len(ids), 1, 2, 2), torch.tensor(ious), torch.tensor(logits))


def test_what_is_heard_is_kept_by_object_and_frame():
    answers = Answers({1: "000", 2: "001"})
    answers.hear("00000", shown(0, [1], [0.5], [2.0]), {})
    answers.hear(
        "00004", shown(4, [1, 2], [float("nan"), 0.25], [-1.0, float("nan")]), {1: Choice(0.25, 0.5)}
    )
    assert answers.heard == {
        "000": {
            "frame": ["00000", "00004"],
            "iou": [0.5, None],
            "object_logit": [2.0, -1.0],
            "chosen_iou": [None, 0.25],
            "best_iou": [None, 0.5],
        },
        "001": {
            "frame": ["00004"],
            "iou": [0.25],
            "object_logit": [None],
            "chosen_iou": [None],
            "best_iou": [None],
        },
    }


def test_the_prompts_frame_and_absent_objects_say_nothing_about_masks():
    heard = {
        "v": {
            "7": {
                "frame": ["0", "1", "2", "3"],
                "iou": [0.0, 0.9, 0.7, 0.2],
                "object_logit": [-9, 3, 1, -2],
                "chosen_iou": [0.5, 0.8, None, None],
                "best_iou": [0.75, 0.9, None, None],
            }
        }
    }
    score = ObjectScore(
        "v",
        7,
        50.0,
        50.0,
        ("0", "1", "2", "3"),
        per_frame={"J": np.array([1.0, 0.8, 0.0, 1.0])},
        visible=(True, True, False, False),
    )
    known = known_of_itself([score], heard)
    assert known["calibration"]["frames"] == 1
    assert known["calibration"]["iou_mae"] == pytest.approx(10.0)
    assert known["visibility"]["ghost_rate"] == 50.0 and known["visibility"]["miss_rate"] == 0.0
    choice = {name: value for name, value in known["calibration"].items() if "cho" in name or "best" in name}
    assert choice == {
        "chosen_iou": 80, "best_iou": 90, "choice_gap": pytest.approx(10), "choices": 1,
        "click_chosen_iou": 50, "click_best_iou": 75, "click_choice_gap": 25, "click_choices": 1,
    }  # fmt: skip
    for key in ("chosen_iou", "best_iou"):
        del heard["v"]["7"][key]  # as an earlier version wrote it
    assert known_of_itself([score], heard)["calibration"]["choices"] == 0


def test_reading_frames_is_not_counted_as_the_models_time():
    frames = TimedFrames(open_frames(np.zeros((2, 8, 8, 3), np.uint8), 8))
    answers = Answers({1: "1"})

    def following():
        for t in range(2):
            assert frames[t].shape == (3, 8, 8)
            frames.seconds += 0.5  # as if reading had taken longer than everything
            time.sleep(0.01)
            yield shown(t, [1], [0.5], [1.0])

    steps = following()
    assert [answers.timed(steps, frames).frame for _ in range(2)] == [0, 1]
    assert answers.timed(steps, frames) is None
    assert len(answers.model_ms) == 2 and max(answers.model_ms) < -400
    assert frames.size == (8, 8) and len(frames) == 2


def test_speed_is_over_all_videos():
    one = {"frames": 10, "seconds": 2.0, "model_ms": [100.0] * 9 + [200.0], "peak_memory_gb": 1.0}
    two = {"frames": 30, "seconds": 2.0, "model_ms": [100.0], "peak_memory_gb": 3.0}
    held = [0, 250_000, 0, 0, 750_000]
    nothing = [None] * 5
    two["memory"] = {"frame": [32, 36, 40, 44, 48], "state": held, "process": nothing, "device": nothing}
    numbers = speed([one, two])
    slope = (-8 * 0 - 4 * 0.25 + 8 * 0.75) / (64 + 16 + 16 + 64)
    assert numbers["state_growth_mb"] == pytest.approx(100 * slope) and numbers["growth_videos"] == 1
    assert (numbers["fps"], numbers["frames"], numbers["peak_memory_gb"]) == (10.0, 40, 3.0)
    assert numbers["model_fps"] == pytest.approx(1000 * 11 / 1200, abs=1e-3)
    assert numbers["p50_ms"] == 100.0 and 100 < numbers["p95_ms"] < 200
