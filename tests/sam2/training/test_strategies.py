"""What the strategies of several processes leave to each process alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sam2.training.strategies import Averaging
from sam2.training.trainer_config import TrainerConfig


def test_a_held_out_video_is_no_matter_of_the_other_processes() -> None:
    """They may have fewer videos, or none: whoever waited for them in DDP's forward pass would wait for ever."""

    def talks_to_others(*_: Any) -> None:
        raise AssertionError("through DDP")

    strategy: Any = Averaging(TrainerConfig(max_steps=1), "gloo", 1.0)
    strategy._lightning_module = SimpleNamespace(validation_step=lambda video, number: (video, number))
    strategy.model = strategy._forward_redirection = talks_to_others
    assert strategy.validation_step("a video", 3) == ("a video", 3)
