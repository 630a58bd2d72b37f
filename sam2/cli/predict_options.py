"""The command line of `sam2 predict`: what may be said, and what is made of it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from sam2.cli.prompt_words import FramePrompt, PromptWordError, Word, gather
from sam2.palette import HIGHEST_ID

Direction = Literal["forward", "backward", "both"]

_DESCRIPTION = """\
Point at objects in a video, a folder of images or an image; get their masks on every frame.

--object and --frame hold for the prompts that follow them, until they are given again; prompts for one object on one
frame belong together. OUT then has masks/00000.png ... (palette images of object ids), overlay.mp4 and scores.json.
"""
_EXAMPLES = """\
Examples:
  sam2 predict clip.mp4 --point 210,350 --point 250,220,- --out out --checkpoint facebook/sam2.1-hiera-tiny
  sam2 predict clip.mp4 --object 1 --box 300,0,500,400 --object 2 --point 80,90 --frame 40 --point 95,90 --out out
  sam2 predict photo.jpg --box 300,0,500,400 --out out --checkpoint runs/finetune_video/001-3fa9c1/export/model.pt
"""
_WITH_NUMBERS = ("--point", "--box", "--object", "--frame", "--size", "--max-frames", "--fps")


class PredictError(ValueError):
    """What was asked cannot be done; one line that says why."""


@dataclass(frozen=True)
class PredictOptions:
    """A prediction as it was asked for.

    Attributes:
        video: file or folder.
        out: folder to fill.
        prompts: one for each object and frame.
        checkpoint: weight file, run directory or other folder, id or "random"; None: look for one.
        model: its name or configuration file; None: as the weights say.
        device: None: the GPU if there is one.
        size: side of the model's input in pixels; None: the model's own.
        policy: name of a memory policy.
        direction: where to follow the objects from the prompted frames.
        max_frames: how many frames to follow them in a direction; None: all.
        rle: also write run lengths.
        overlay: also write the video with the masks drawn over it.
        fps: of that video; None: the video's own.
        force: replace an earlier prediction in `out`.
    """

    video: Path
    out: Path
    prompts: tuple[FramePrompt, ...]
    checkpoint: str | None = None
    model: str | None = None
    device: str | None = None
    size: int | None = None
    policy: str = "reference"
    direction: Direction = "forward"
    max_frames: int | None = None
    rle: bool = False
    overlay: bool = True
    fps: float | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and (self.size < 32 or self.size % 32):
            raise PredictError(f"--size {self.size}: expected a positive multiple of 32, the trunk's stride")
        if self.max_frames is not None and self.max_frames < 1:
            raise PredictError(f"--max-frames {self.max_frames}: expected 1 or more")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise PredictError(f"--fps {self.fps:g}: expected a number of frames a second, above 0")
        if not self.fits_palette and not self.rle:
            raise PredictError(
                f"--object {max(self.object_ids)}: palette images hold ids up to {HIGHEST_ID}; use smaller ones, "
                "or --rle, which then takes their place"
            )

    @property
    def object_ids(self) -> list[int]:
        """In the order in which they were named."""
        return list(dict.fromkeys(prompt.object_id for prompt in self.prompts))

    @property
    def fits_palette(self) -> bool:
        """Whether a palette image can hold all ids."""
        return max(self.object_ids) <= HIGHEST_ID


def parse(argv: Sequence[str]) -> PredictOptions:
    """Read the words after `sam2 predict`.

    Raises:
        PredictError: words that cannot be meant.
        SystemExit: help was asked for, and printed.
    """
    given = vars(_parser().parse_args(_joined(argv)))
    try:
        prompts = gather(given.pop("words") or [])
    except PromptWordError as error:
        raise PredictError(str(error)) from error
    return PredictOptions(prompts=tuple(prompts), video=_path(given.pop("video")), **given)


def _path(video: str) -> Path:
    """Where the video is; as a path, a URL would lose a slash."""
    if "://" in video:
        raise PredictError(
            f"{video}: sam2 predict reads files and folders; download it first, or follow it as it comes with "
            "sam2.streaming and sam2.streaming_source"
        )
    return Path(video)


def _joined(argv: Sequence[str]) -> list[str]:
    """`--point -5,3` as `--point=-5,3`: argparse takes what starts with a minus for another option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in _WITH_NUMBERS and word[:1] == "-" and word[1:2].isdigit():
            word = f"{joined.pop()}={word}"
        joined.append(word)
    return joined


class _Parser(argparse.ArgumentParser):
    """Mistakes are raised."""

    def error(self, message: str) -> NoReturn:
        raise PredictError(f"{message}; see {self.prog} --help")


class _InOrder(argparse.Action):
    """Options of several kinds in one list: which stands before which matters."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        words = getattr(namespace, self.dest) or []
        setattr(namespace, self.dest, [*words, Word((option or "").lstrip("-"), values)])


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "sam2 predict",
        usage="%(prog)s VIDEO|FOLDER|IMAGE --out DIR (--point X,Y[,+|-] | --box X1,Y1,X2,Y2 | --mask FILE)... [...]",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "video",
        metavar="VIDEO|FOLDER|IMAGE",
        help="what to look at; images of a folder in the natural order of the names: 2 before 10",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="folder to fill, new or empty")
    replace = "replace an earlier prediction in DIR; other files there stay"
    add("--force", "--overwrite", action="store_true", help=replace)
    _add_prompts(parser)
    _add_model(parser)
    _add_result(parser)
    return parser


def _add_prompts(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("prompts, in pixels of the video, repeatable").add_argument
    for name, metavar, text in (
        ("--point", "X,Y[,+|-]", "a click on the object, or (-) beside it"),
        ("--box", "X1,Y1,X2,Y2", "a box around it: its left, top, right and bottom edge"),
        ("--mask", "FILE", "its pixels: an image of the frame's size, 0 outside of the object"),
        ("--object", "ID", "the object that the next prompts are for, 1 and above (default: 1)"),
        ("--frame", "N", "the frame that the next prompts are on, from 0 (default: 0)"),
    ):
        add(name, action=_InOrder, dest="words", metavar=metavar, help=text)


def _add_model(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("model").add_argument
    add(
        "--checkpoint",
        metavar="FILE|RUN|ID",
        help="weight file, run directory, id of a released model, or random (default: $SAM2_CHECKPOINT, or the "
        "only released file here or in ./checkpoints)",
    )
    add(
        "--model",
        metavar="NAME",
        help="its name, such as sam2.1_t, or YAML file, where the weights do not tell",
    )
    add(
        "--size",
        type=int,
        metavar="PX",
        help="side of the model's input, a multiple of 32 (default: the model's own)",
    )
    add("--device", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    add("--policy", default="reference", metavar="NAME", help="memory policy (default: %(default)s)")


def _add_result(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which frames, and what is written")
    add, ways = group.add_argument, group.add_mutually_exclusive_group()
    for name, value, text in (
        ("--reverse", "backward", "follow backwards, from the last prompted frame"),
        ("--both", "both", "follow forwards and backwards from the first prompted frame"),
    ):
        ways.add_argument(
            name, action="store_const", const=value, dest="direction", default="forward", help=text
        )
    add("--max-frames", type=int, metavar="N", help="follow for at most N frames in a direction")
    add("--rle", action="store_true", help="also write masks.json: COCO run lengths, objects may overlap")
    add("--no-overlay", action="store_false", dest="overlay", help="write no overlay.mp4")
    add("--fps", type=float, help="frames a second of the overlay (default: the video's own)")
