"""Run a model on a benchmark: masks of every video in the form that its tool or server expects, then the scores.

A video's masks appear all at once, so that a run that was killed goes on with the videos that are missing. Any number
of processes share the videos by a rule that depends on the list of videos alone; who finishes last scores them all,
with the code that scores any folder, so that the numbers do not depend on how the work was shared.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sam2.evaluation.answers import Answers, TimedFrames
from sam2.evaluation.benchmark import Video
from sam2.evaluation.choices import Choices
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.files import replacing, write_atomically
from sam2.evaluation.following import follow
from sam2.evaluation.label_maps import label_map, write_label_map
from sam2.evaluation.memory_growth import MemoryLog
from sam2.image_prompts import PromptError
from sam2.model.sam2 import SAM2
from sam2.palette import HIGHEST_ID
from sam2.peak_memory import memory_gb
from sam2.pictures import FramesError
from sam2.policies import REFERENCE, Policy
from sam2.video_session import VideoSession
from sam2.video_state import FrameMasks, Frames, SessionError, SessionOptions

MASKS, TRUTH, ANSWERS, SETTINGS, RESULTS = "masks", "truth", "answers", "run.json", "results.json"
_OVERWRITTEN = ".overwritten"
FILL_HOLE_AREA = 8  # of low-resolution pixels, as the released predictor fills them
Progress = Callable[[str, int, int], None]  # a video, its frames done, its frames in all


def share(videos: Sequence[Video], rank: int, world: int) -> list[Video]:
    """The videos of one of `world` processes: together they have each once, about as much work each.

    The longest goes first, to whom has least so far; of equals to the lowest rank.
    """
    if not 0 <= rank < world:
        raise ValueError(f"share {rank} of {world}: shares are numbered from 0")
    loads = [0] * world
    mine = []
    for video in sorted(videos, key=lambda video: (-video.weight, video.name)):
        least = loads.index(min(loads))
        loads[least] += video.weight
        if least == rank:
            mine.append(video)
    return mine


@dataclass(frozen=True)
class Follower:
    """How objects are followed.

    Attributes:
        model: in eval mode.
        prompt: how they are pointed at.
        policy: of the memory.
        dtype: of the model's arithmetic where it may be rounded; None: as its weights are.
        max_rows: objects that go through the model together; see `Tracker`.
    """

    model: SAM2
    prompt: str = "mask"
    policy: Policy = REFERENCE
    dtype: torch.dtype | None = None
    max_rows: int | None = None

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.no_mem_embed.device

    def session(self, frames: Frames) -> VideoSession:
        """For a video, without objects; nothing is kept that later frames cannot look at."""
        options = SessionOptions(fill_hole_area=FILL_HOLE_AREA, keep_past=False, max_rows=self.max_rows)
        return VideoSession(self.model, frames, options, self.policy)

    def arithmetic(self) -> AbstractContextManager[Any]:
        """In which the model runs."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)


class Predictions:
    """A folder of predictions: `masks/VIDEO/...`, `answers/VIDEO.json`, `run.json` and, at the end, `results.json`.

    Where the data are no folders of masks, the true ones are written to `truth/VIDEO/...`.

    Args:
        path: of the folder.
        videos: all that belong to it.
        other: names of folders and files that are made beside these.
    """

    def __init__(self, path: Path, videos: Sequence[Video], other: Sequence[str] = ()) -> None:
        self.path, self._videos = path, tuple(videos)
        self._made = (MASKS, TRUTH, ANSWERS, RESULTS, *other)

    @property
    def masks(self) -> Path:
        """Folder of the masks, one folder a video."""
        return self.path / MASKS

    @property
    def truth(self) -> Path:
        """Folder of the true masks, where the data have none."""
        return self.path / TRUTH

    def begin(
        self, settings: Mapping[str, Any], overwrite: bool = False, job: str | None = None, restart: int = 0
    ) -> None:
        """Make the folder this run's.

        Args:
            settings: what results depend on.
            overwrite: whether what is there goes.
            job: of the batch system that this process is in; None outside of one.
            restart: how often the job was taken up again: it overwrites once, and what it has made since stays.

        Raises:
            EvaluationError: it holds something else, or predictions made in another way.
        """
        note, overwritten = self.path / SETTINGS, self.path / _OVERWRITTEN
        wanted = json.loads(json.dumps(settings))
        is_done = restart > 0 and overwritten.is_file() and overwritten.read_text() == job
        if overwrite and note.is_file() and not is_done:
            for name in self._made:
                _remove(self.path / name)
            write_atomically(
                note, json.dumps(wanted, indent=1) + "\n"
            )  # last: who is killed here begins again
        # before the note is looked for: another process of this run may write it in between
        is_used = self.path.is_dir() and any(_is_content(path) for path in self.path.iterdir())
        if note.is_file():
            found = _read_json(note)
            for key in wanted.keys() | found.keys():
                if wanted.get(key) != found.get(key):
                    raise EvaluationError(
                        f"{self.path}: holds predictions with {key} {found.get(key)!r}, asked for is "
                        f"{wanted.get(key)!r}; choose another --out, or --overwrite these"
                    )
        elif is_used:
            raise EvaluationError(f"{self.path}: is not empty and has no {SETTINGS}; choose another --out")
        else:
            write_atomically(note, json.dumps(wanted, indent=1) + "\n")
        if overwrite and job is not None:
            write_atomically(overwritten, job)

    def missing(self, videos: Sequence[Video] | None = None) -> list[Video]:
        """Those of `videos` (by default all) that have no masks yet."""
        return [v for v in (self._videos if videos is None else videos) if not (self.masks / v.name).is_dir()]

    def predict(self, video: Video, follower: Follower, progress: Progress | None = None) -> None:
        """Follow a video's objects and write their masks, all at once.

        Raises:
            EvaluationError: the video or its prompts cannot be used; says why.
        """
        draft = self.masks / f".{video.name}.{os.getpid()}"
        shutil.rmtree(draft, ignore_errors=True)  # of a killed process that had this number
        draft.mkdir(parents=True)
        try:
            answers = _write_video(video, follower, draft, progress)
            write_atomically(self.path / ANSWERS / f"{video.name}.json", json.dumps(answers) + "\n")
            if video.write_truth is not None:
                video.write_truth(self.truth / video.name)
            draft.rename(self.masks / video.name)
        except (FramesError, PromptError, SessionError, ValueError) as error:
            raise EvaluationError(f"{video.name}: {error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def tidy(self) -> None:
        """Remove what killed processes left half done, once every video has its masks."""
        for video in self._videos:
            for draft in self.masks.glob(f".{glob.escape(video.name)}.*"):
                shutil.rmtree(draft, ignore_errors=True)

    def answers(self) -> dict[str, Any]:
        """What the model said beside the masks, by video: seconds, frames, scores."""
        return {v.name: _read_json(self.path / ANSWERS / f"{v.name}.json") for v in self._videos}

    def pack(self, folder: str, name: str) -> Path:
        """All masks as a zip file for a server, inside `folder` of it; equal masks give equal files."""
        path = self.path / name
        with replacing(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:
            for video in self._videos:
                for file in sorted((self.masks / video.name).rglob("*.png")):
                    inside = Path(folder) / file.relative_to(self.masks)
                    about = zipfile.ZipInfo(inside.as_posix(), (1980, 1, 1, 0, 0, 0))
                    about.external_attr = 0o644 << 16
                    archive.writestr(about, file.read_bytes())
        return path


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_content(path: Path) -> bool:
    """Whether it makes a folder somebody else's; what the batch system keeps there does not (sam2/slurm/folder.py)."""
    return not path.name.startswith(".") and path.name not in ("job", "log")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: cannot be read ({error}); remove the folder and run again") from error
    if not isinstance(content, dict):
        raise EvaluationError(f"{path}: expected a JSON object; remove the folder and run again")
    return content


def _write_video(video: Video, follower: Follower, folder: Path, progress: Progress | None) -> dict[str, Any]:
    """Masks to files; returns what the model said beside them."""
    starts, wanted = video.starts(), video.wanted()
    ids = [start.object_id for start in starts]
    if max(ids) > HIGHEST_ID:
        raise EvaluationError(
            f"{video.name}: has object {max(ids)}; palette images hold ids up to {HIGHEST_ID}"
        )
    frames = TimedFrames(video.open(follower.model.image_size))
    session = follower.session(frames)
    height, width = session.frames.size
    for start in starts:
        if start.mask.shape != (height, width):
            raise EvaluationError(
                f"{video.name}: its first mask of object {start.object_id} is {start.mask.shape[1]}x"
                f"{start.mask.shape[0]}, its frames are {width}x{height}; nothing is resized here"
            )
    answers = Answers(dict(video.folders or {i: str(i) for i in ids}))
    choices, log = Choices(session, video.true_masks), MemoryLog(max(start.frame for start in starts))
    began, aside, total = time.monotonic(), 0.0, len(session.frames)
    empty = torch.full((1, height, width), -1.0)
    for frame in range(min(start.frame for start in starts)):
        if frame in wanted:
            _write_frame(video, folder, wanted[frame], ids[:1], empty)
    with follower.arithmetic():
        following = follow(session, starts, follower.prompt)
        while (shown := answers.timed(following, frames)) is not None:
            paused = time.monotonic()  # what is measured here is no part of the model's work
            log.note(shown.frame, session)
            if shown.frame in wanted:
                answers.hear(wanted[shown.frame], shown, choices.judge(shown.frame))
            aside += time.monotonic() - paused
            if shown.frame in wanted:
                _write_frame(video, folder, wanted[shown.frame], _ids(shown), shown.logits[:, 0])
            if progress:
                progress(video.name, shown.frame + 1, total)
    return {
        "frames": total,
        "objects": len(ids),
        "size": [height, width],
        "seconds": round(time.monotonic() - began - aside, 3),
        "model_ms": answers.model_ms,
        "peak_memory_gb": round(memory_gb(), 3),
        "memory": log.samples,
        "heard": answers.heard,
    }


def _ids(shown: FrameMasks) -> list[int]:
    return [i for i in shown.object_ids if isinstance(i, int)]


def _write_frame(video: Video, folder: Path, name: str, ids: list[int], logits: Tensor) -> None:
    """The masks of a frame: one palette image where the surest object has a pixel, or an image for each object."""
    if video.folders is None:
        order = sorted(
            range(len(ids)), key=ids.__getitem__
        )  # of equally sure objects the lower id has the pixel
        write_label_map(folder / f"{name}.png", label_map(logits[order], [ids[k] for k in order]))
        return
    shown = dict(zip(ids, logits, strict=True))
    nothing = torch.full(logits.shape[1:], -1.0, device=logits.device)
    for i, object_folder in video.folders.items():
        write_label_map(folder / object_folder / f"{name}.png", label_map(shown.get(i, nothing)[None], [1]))
