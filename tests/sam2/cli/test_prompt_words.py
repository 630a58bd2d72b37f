"""Prompts as they are typed: which object and frame each of them belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2.cli.predict_options import PredictError, PredictOptions, parse
from sam2.cli.prompt_words import FramePrompt


def read(line: str) -> PredictOptions:
    return parse(["clip.mp4", "--out", "out", *line.split()])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--point 3,4", [FramePrompt(1, 0, ((3, 4),), (1,))]),
        ("--point 3,4,+ --point 5.5,6,-", [FramePrompt(1, 0, ((3, 4), (5.5, 6)), (1, 0))]),
        (
            "--point 1,1 --object 2 --point 2,2 --frame 7 --point 3,3 --object 1 --point 4,4,-",
            [
                FramePrompt(1, 0, ((1, 1),), (1,)),
                FramePrompt(2, 0, ((2, 2),), (1,)),
                FramePrompt(2, 7, ((3, 3),), (1,)),
                FramePrompt(1, 7, ((4, 4),), (0,)),
            ],
        ),
        (
            "--object 2 --box 1,2,3,4 --object 1 --mask a.png --object 2 --point 2,3,-",
            [FramePrompt(2, 0, ((2, 3),), (0,), (1, 2, 3, 4)), FramePrompt(1, 0, mask=Path("a.png"))],
        ),
        # behind all prompts, and the only one of its kind: there is nothing else that it could mean
        (
            "--point 1,1 --box 0,0,9,9 --object 3 --frame 2",
            [FramePrompt(3, 2, ((1, 1),), (1,), (0, 0, 9, 9))],
        ),
        ("--frame=2 --point=-5,3 --point -6,3", [FramePrompt(1, 2, ((-5, 3), (-6, 3)), (1, 1))]),
    ],
)
def test_object_and_frame_hold_for_the_prompts_that_follow(line: str, expected: list[FramePrompt]) -> None:
    assert list(read(line).prompts) == expected


def test_words_between_the_prompts_do_not_disturb_their_order() -> None:
    shuffled = parse(
        "--object 2 --point 1,1 --rle clip.mp4 --frame 3 --size 64 --point 2,2 --out out --force".split()
    )
    assert shuffled.prompts == read("--object 2 --point 1,1 --frame 3 --point 2,2").prompts
    assert (shuffled.video, shuffled.size, shuffled.rle, shuffled.force) == (Path("clip.mp4"), 64, True, True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "no prompt: say where an object is"),
        ("--object 2", "no prompt"),
        ("--point 10", "--point 10: expected x,y"),
        ("--point 10;20", "--point 10;20: expected x,y"),
        ("--point 10,20,x", "--point 10,20,x: expected x,y"),
        ("--point nan,20", "--point nan,20: expected x,y"),
        ("--point ,", "--point ,: expected x,y"),
        ("--box 1,2,3", "--box 1,2,3: expected x1,y1,x2,y2"),
        ("--box 0,0,9,9 --box 1,1,5,5", "object 1 on frame 0 has a box already"),
        ("--point 1,1 --mask a.png", "a mask stands alone"),
        ("--mask a.png --box 0,0,9,9", "a mask stands alone"),
        ("--mask a.png --mask b.png", "a mask stands alone"),
        ("--object 0 --point 1,1", "--object 0: expected a whole number, 1 or above"),
        ("--object cat --point 1,1", "--object cat: expected a whole number"),
        ("--frame -1 --point 1,1", "--frame -1: expected a whole number, 0 or above"),
        ("--object 1 --point 1,1 --object 2", "--object 2 is followed by no prompt"),
        ("--frame 1 --frame 2 --point 1,1", "--frame 1 is followed by no prompt"),
        (
            "--object 256 --point 1,1",
            "--object 256: palette images hold ids up to 255; use smaller ones, or --rle",
        ),
        ("--point 1,1 --size 100", "--size 100: expected a positive multiple of 32"),
        ("--point 1,1 --max-frames 0", "--max-frames 0: expected 1 or more"),
        ("--point 1,1 --fps -2", "--fps -2: expected"),
        ("--point 1,1 --reverse --both", "not allowed with argument --reverse"),
        ("--pont 1,1", "unrecognized arguments: --pont 1,1; see sam2 predict --help"),
    ],
)
def test_words_that_make_no_sense_are_named(line: str, message: str) -> None:
    with pytest.raises(PredictError) as caught:
        read(line)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_ids_beyond_a_palette_are_for_run_lengths() -> None:
    assert not read("--object 256 --point 1,1 --rle").fits_palette
    assert read("--object 255 --point 1,1").fits_palette
