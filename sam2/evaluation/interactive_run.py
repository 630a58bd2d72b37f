"""Interactive evaluation of all videos of a benchmark: a file a video, which are joined when all are there.

Each object is played alone. A video's file appears whole, so that a run that was killed goes on with the videos that
are missing, and any number of processes can share them; nothing in it depends on who made it, but its seconds.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from sam2.evaluation.benchmark import Video
from sam2.evaluation.benchmark_run import FILL_HOLE_AREA, Follower
from sam2.evaluation.boundary import Bools
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.files import write_atomically
from sam2.evaluation.following import Start
from sam2.evaluation.interactive import MODES, Played, Truth
from sam2.evaluation.interactive_way import Way
from sam2.evaluation.kinds import INTERACTIVE, interactive_means
from sam2.evaluation.label_files import read_ids, read_mask
from sam2.evaluation.scorecard import brackets, interval_as_json
from sam2.evaluation.scores import ObjectScore, mean_scores
from sam2.evaluation.session_predictor import SessionPredictor
from sam2.evaluation.uncertainty import Bootstrap, uncertainty
from sam2.image_prompts import PromptError
from sam2.pictures import FramesError
from sam2.video_session import VideoSession
from sam2.video_state import Frames, SessionError, SessionOptions

FOLDER = "interactive"
VERSION = 1


def play(
    video: Video, truth: Path, follower: Follower, way: Way, file: Path, progress: Callable[[int, int], None]
) -> None:
    """Play all objects of a video and write what came out.

    Args:
        video: whose frames and objects.
        truth: folder of all videos' true masks; not looked at where the video can write its own.
        follower: the model and its policy.
        way: mode and rules.
        file: to write.
        progress: called with objects done and objects in all.

    Raises:
        EvaluationError: frames or masks cannot be used; says why.
    """
    try:
        if video.write_truth is None:
            content = _play(video, truth / video.name, follower, way, progress)
        else:
            with tempfile.TemporaryDirectory() as folder:
                video.write_truth(Path(folder))
                content = _play(video, Path(folder), follower, way, progress)
    except (FramesError, PromptError, SessionError, ValueError) as error:
        raise EvaluationError(f"{video.name}: {error}") from error
    write_atomically(file, json.dumps(content) + "\n")


def _play(
    video: Video, truth: Path, follower: Follower, way: Way, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    began, wanted, starts = time.monotonic(), video.wanted(), video.starts()
    session = _session(way, follower, video.open(follower.model.image_size))
    predictor, rows = SessionPredictor(session), []
    for done, start in enumerate(starts):
        progress(done, len(starts))
        if start.mask.shape != session.frames.size:
            found, expected = (
                f"{width}x{height}" for height, width in (start.mask.shape, session.frames.size)
            )
            raise EvaluationError(
                f"the first mask of object {start.object_id} is {found}, the frames are {expected}; "
                "nothing is resized here"
            )
        with follower.arithmetic():
            played = MODES[way.mode](_truth(video, truth, start, wanted), predictor, way.rules)
        name = video.folders[start.object_id] if video.folders else start.object_id
        rows.append({"object": name, **_row(played, wanted)})
    return {
        "frames": len(session.frames),
        "seconds": round(time.monotonic() - began, 3),
        "objects": rows,
    }


def _truth(video: Video, folder: Path, start: Start, wanted: Mapping[int, str]) -> Truth:
    """An object's masks, each read when it is looked at."""
    own = folder / video.folders[start.object_id] if video.folders else folder

    def read(frame: int) -> Bools:
        path = own / f"{wanted[frame]}.png"
        mask: Bools = read_mask(path).astype(bool) if video.folders else read_ids(path) == start.object_id
        return mask

    frames = [
        frame for frame in sorted(wanted) if frame >= start.frame and (own / f"{wanted[frame]}.png").is_file()
    ]
    return Truth(frames, read)


def _row(played: Played, names: Mapping[int, str]) -> dict[str, Any]:
    return {
        "J_after": (100 * played.j).tolist(),
        "F_after": (100 * played.f).tolist(),
        "interactions": [
            {
                "frame": names[made.frame],
                "iou": made.iou,
                "clicks": [[click.x, click.y, int(click.is_positive)] for click in made.clicks],
            }
            for made in played.interactions
        ],
        "frames": [names[frame] for frame in played.frames],
    }


def _session(way: Way, follower: Follower, frames: Frames) -> VideoSession:
    """For a video, without objects."""
    options = SessionOptions(
        fill_hole_area=FILL_HOLE_AREA,
        add_all_frames_to_correct_as_cond=way.corrections == "prompted",
        max_rows=follower.max_rows,
        cached_features=max(2, len(frames) if len(frames) <= way.cached_frames else 0),
    )
    return VideoSession(follower.model, frames, options, follower.policy)


# ---------------------------------------------------------------------------------------------- all videos


def join(files: Mapping[str, Path], way: Way, how: Bootstrap) -> dict[str, Any]:
    """The content of the results file, of all videos' files.

    Args:
        files: of all videos, by name.
        way: mode and rules.
        how: level, number and seed of the draws for intervals.

    Raises:
        EvaluationError: a file is not as it was written.
    """
    rows, names, frames, seconds = [], [], 0, 0.0
    for video, path in files.items():
        try:
            content = json.loads(path.read_bytes())
            frames, seconds = frames + int(content["frames"]), seconds + float(content["seconds"])
            for row in content["objects"]:
                names += [f"{video}/{row['object']}/{frame}" for frame in row["frames"]]
                after = [(j + f) / 2 for j, f in zip(row["J_after"], row["F_after"], strict=True)]
                rows.append({"sequence": video, **row, "J&F_after": after, "frames": len(row["frames"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise EvaluationError(f"{path}: cannot be read ({error!r}); remove it and run again") from error
    objects = [_score(row) for row in rows]
    counts = range(1, way.rules.frames + 1)
    totals = mean_scores(objects, [_after(n) for n in counts])
    means = interactive_means(way.rules.frames)
    return {
        "format": INTERACTIVE.format,
        "protocol": f"interactive-{way.mode}",
        "protocol_version": VERSION,
        **{name: totals[name] for name in ("J&F", "J", "F")},
        "J&F_after": [totals[_after(n)] for n in counts],
        "interval": interval_as_json(uncertainty(objects, means, totals, how)),
        "sequences": len(files),
        "frames": len(names),
        "frames_sha256": hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest(),
        "objects": [
            {**o.numbers(), **row} for o, row in zip(map(_without_counts, objects), rows, strict=True)
        ],
        "speed": {"frames": frames, "seconds": round(seconds, 3)},
    }


def _after(count: int) -> str:
    return f"J&F@{count}"


def _score(row: Mapping[str, Any]) -> ObjectScore:
    """An object with its means over the numbers of interacted frames, and J&F after each number."""
    j, f, after = row["J_after"], row["F_after"], row["J&F_after"]
    extras = {_after(n): value for n, value in enumerate(after, 1)}
    return ObjectScore(row["sequence"], row["object"], sum(j) / len(j), sum(f) / len(f), (), extras)


def _without_counts(score: ObjectScore) -> ObjectScore:
    return replace(score, extras={})


def table(results: Mapping[str, Any], rows: int) -> Group:
    """For the terminal: J&F after each number of interacted frames, then the objects with the lowest means."""
    total = Table(show_header=False)
    total.add_column()
    total.add_column(justify="right")
    interval = results["interval"]
    for n, value in enumerate(results["J&F_after"], 1):
        total.add_row(f"J&F after {n}", f"{value:.1f} {brackets(interval[_after(n)])}".rstrip())
    for name in ("J&F", "J", "F"):
        total.add_row(f"{name}, mean", f"{results[name]:.1f} {brackets(interval[name])}".rstrip())
    each = Table()
    each.add_column("sequence")
    for name in ("object", "J&F", "after 1", f"after {len(results['J&F_after'])}", "interacted", "frames"):
        each.add_column(name, justify="right")
    for o in sorted(results["objects"], key=lambda o: float(o["J&F"]))[:rows]:
        numbers = (f"{value:.1f}" for value in (o["J&F"], o["J&F_after"][0], o["J&F_after"][-1]))
        each.add_row(o["sequence"], str(o["object"]), *numbers, str(len(o["interactions"])), str(o["frames"]))
    return Group(f"{results['protocol']}, percent", total, interval["remark"], each)
