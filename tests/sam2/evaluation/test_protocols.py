"""The protocols against the numbers of the published tools: per-frame values with ==, means to 1e-12."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2.evaluation.boundary import disk
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.meta import Meta, ObjectMeta, find_meta, read_meta
from sam2.evaluation.mose import sampled_disk
from sam2.evaluation.protocols import PROTOCOLS
from sam2.evaluation.score import Evaluation, evaluate
from sam2.evaluation.scores import ObjectScore
from sam2.evaluation.statistics import decay, decay_as_published, recall, runs, spread

GOLDEN = Path(__file__).parents[2] / "golden_eval"
VOS, SAV = GOLDEN / "vos", GOLDEN / "sav"
SEQUENCES = sorted(folder.name for folder in (VOS / "gt").iterdir())
DAVIS_CAN = [name for name in SEQUENCES if name != "f_late"]


@cache
def expected(name: str) -> Any:
    return json.loads((GOLDEN / "expected" / f"{name}.json").read_text())


@cache
def run(name: str, root: Path = VOS, sequences: tuple[str, ...] | None = None, **options: Any) -> Evaluation:
    return evaluate(PROTOCOLS[name](**options), root / "gt", root / "pred", sequences)


def by_name(found: Evaluation) -> dict[tuple[str, str], ObjectScore]:
    return {(o.sequence, str(o.object_id)): o for o in found.objects}


def close(found: float | None, wanted: float) -> None:
    """Percent against a fraction."""
    assert found is not None
    assert found / 100 == pytest.approx(wanted, rel=0, abs=1e-12)


# ------------------------------------------------------------------------------------------------ DAVIS 2017


def test_davis_as_published_has_every_value_of_the_tool_on_every_frame():
    objects = by_name(run("davis2017", sequences=tuple(DAVIS_CAN), as_published=True))
    seen = 0
    for sequence, wanted in expected("davis2017")["per_sequence"].items():
        if "error" in wanted:
            continue
        for n, i in enumerate(wanted["objects"]):
            found = objects.pop((sequence, str(i)))
            seen += 1
            assert list(found.frames) == wanted["frames"]
            for m in ("J", "F"):
                assert found.per_frame[m].tolist() == wanted[f"{m}_frame"][n]
                close(found.numbers()[m], wanted[m]["M"][n])
                close(found.extras[f"{m}_recall"], wanted[m]["R"][n])
                close(found.extras[f"{m}_decay"], wanted[m]["D"][n])
    assert seen and not objects


def test_davis_as_published_has_the_global_numbers_of_the_tool():
    totals = run("davis2017", sequences=tuple(DAVIS_CAN), as_published=True).totals
    for name, wanted in expected("davis2017")["global_"].items():
        ours = name.removesuffix("-Mean").replace("-Recall", "_recall").replace("-Decay", "_decay")
        close(totals[ours], wanted)


def test_davis_scores_only_objects_that_exist():
    found = run("davis2017", sequences=("g_sparse_ids",))
    assert [o.object_id for o in found.objects] == [2, 5]
    wanted = expected("davis2017")["per_sequence"]["g_sparse_ids"]["J"]["M"]
    close(found.totals["J"], (wanted[1] + wanted[4]) / 2)


@pytest.mark.parametrize("as_published", [False, True])
def test_davis_names_the_frame_with_an_id_that_the_first_frame_has_not(as_published: bool):
    with pytest.raises(EvaluationError, match=r"f_late.00005\.png: has id 2, .* has 1;.*--protocol vos"):
        run("davis2017", sequences=("f_late",), as_published=as_published)


@pytest.mark.parametrize("case", range(15))
def test_recall_and_decay_are_what_the_tool_computes_and_what_it_meant(case: int):
    wanted = expected("statistics")["statistics"][case]
    values = np.array(wanted["values"])
    assert recall(values) == wanted["R"]
    assert decay(values) == pytest.approx(wanted["D_without_uint8_wrap"], abs=1e-15)
    published = decay_as_published(values)
    assert math.isnan(published) if wanted["D_official"] is None else published == wanted["D_official"]


# ------------------------------------------------------------------------------------------------ vos, SA-V


@pytest.mark.parametrize("keep_ends", [False, True])
@pytest.mark.parametrize("name, golden", [("vos", "vos_benchmark"), ("sav", "sav_evaluator_vos_layout")])
def test_palette_folders_have_the_numbers_of_vos_benchmark_and_of_sav_evaluator(
    name: str, golden: str, keep_ends: bool
):
    check_percents(run(name, keep_ends=keep_ends), expected(golden)[f"skip_first_and_last={not keep_ends}"])


@pytest.mark.parametrize("keep_ends", [False, True])
def test_a_folder_an_object_has_the_numbers_of_sav_evaluator(keep_ends: bool):
    found = run("sav", SAV, keep_ends=keep_ends)
    check_percents(found, expected("sav_evaluator")[f"skip_first_and_last={not keep_ends}"])


def check_percents(found: Evaluation, wanted: Any) -> None:
    objects = by_name(found)
    for sequence, numbers in wanted["per_sequence"].items():
        for i in numbers["J"]:
            o = objects.pop((sequence, i))
            assert (o.j, o.f) == pytest.approx((numbers["J"][i], numbers["F"][i]), rel=0, abs=1e-10)
    assert not objects
    for name in ("J&F", "J", "F"):
        assert found.totals[name] == pytest.approx(wanted["global_"][name], rel=0, abs=1e-10)


def test_sav_counts_the_frames_that_the_tool_counts_with_its_values():
    objects = by_name(run("sav", SAV))
    for sequence, wanted in expected("sav_per_frame")["per_sequence"].items():
        for i, numbers in wanted.items():
            found = objects.pop((sequence, i))
            assert (len(found.frames), found.frames[0]) == (numbers["counted"], numbers["first_counted"])
            for m in ("J", "F"):
                assert found.per_frame[m].tolist() == numbers[m]
    assert not objects


# ------------------------------------------------------------------------------------------------ MOSEv2


@pytest.mark.parametrize("with_meta", [True, False])
def test_mosev2_has_every_value_of_the_tool(with_meta: bool):
    found = run("mosev2", meta=read_meta(VOS / "mose_meta.json") if with_meta else None)
    objects = by_name(found)
    for sequence, wanted in expected("mosev2")["per_sequence"].items():
        for i, numbers in wanted.items():
            o = objects.pop((sequence, i))
            ours = o.numbers()
            for m in ("J", "F", "F_dot"):
                assert o.per_frame[m].tolist() == numbers[f"{m}_frame"]
            for name, value in numbers.items():
                if name in ours and value is not None:
                    close(ours[name], value)
                elif name in ours:
                    assert ours[name] is None, (sequence, i, name)
    assert not objects
    for name, value in expected("mosev2")["global_"].items():
        close(found.totals[name], value)


def test_a_disk_of_a_whole_radius_is_the_common_disk_and_another_is_off_centre():
    assert sorted(sampled_disk(5.0)) == sorted(disk(5))
    mirrored = sorted((-dy, -last, -first) for dy, first, last in sampled_disk(7.84))
    assert mirrored != sorted(sampled_disk(7.84))


def test_a_disk_without_a_cell_is_its_first_cell_as_in_opencv():
    # cv2.dilate (5.0) moves a point by (1, 1) for an all-zero kernel of 2x2 and of 3x3 cells
    assert sampled_disk(0.4622) == sampled_disk(0.5375) == ((-1, -1, -1),)


def test_runs_leave_out_what_begins_with_the_video():
    away, back = runs(np.array([1, 0, 1, 1, 0], bool))
    assert away == [slice(2, 4)] and back == [slice(1, 2), slice(4, 5)]


# ------------------------------------------------------------------------------------------------ LVOS


def lvos_meta() -> Meta:
    """The golden's ranges, by the golden's own names of frames: frame i is 1 + 5 i there."""
    objects = {
        sequence: {
            int(i): ObjectMeta(
                None, *(int(about["frame_range"][key]) for key in ("start", "end", "frame_nums"))
            )
            for i, about in video["objects"].items()
        }
        for sequence, video in expected("lvos")["meta"].items()
    }
    return Meta(Path("meta.json"), objects)


@pytest.fixture(scope="module")
def lvos_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lvos")
    for path in VOS.glob("*/*/*.png"):
        side, sequence = path.parts[-3:-1]
        to = root / side / sequence / f"{1 + 5 * int(path.stem):08d}.png"
        to.parent.mkdir(parents=True, exist_ok=True)
        to.symlink_to(path)
    return root


@pytest.mark.parametrize("with_meta", [True, False])
def test_lvos_has_every_value_of_the_tool(lvos_tree: Path, with_meta: bool):
    wanted = expected("lvos")
    meta = lvos_meta() if with_meta else None
    found = run("lvos", lvos_tree, unseen=frozenset(wanted["unseen"]), meta=meta)
    places: dict[str, int] = {}
    for o in found.objects:
        numbers = wanted["per_sequence"][o.sequence][str(o.object_id)]
        places[o.sequence] = places.get(o.sequence, 0) + 1
        key = f"{o.sequence}_{places[o.sequence]}"  # the tool counts the objects
        for m in ("J", "F"):
            assert o.per_frame[m].tolist() == numbers[f"{m}_frame"]
            close(o.numbers()[m], wanted["per_object"][m][key])
        close(o.extras["V"], wanted["per_object"]["V"][key])
    assert len(found.objects) == len(wanted["per_object"]["J"])
    for name, value in wanted["global_"].items():
        close(found.totals[name], value)


def test_spread_rounds_the_variance_to_four_decimals():
    j = np.array([0.9, 0.8])
    assert spread(j, j) == math.sqrt(0.0025)


def test_v_of_all_objects_is_their_mean_and_as_published_that_of_the_last(lvos_tree: Path):
    unseen = frozenset(expected("lvos")["unseen"])
    values = [o.extras["V"] for o in run("lvos", lvos_tree, unseen=unseen).objects]
    assert run("lvos", lvos_tree, unseen=unseen).totals["V"] == pytest.approx(np.mean(values))  # type: ignore[arg-type]
    assert run("lvos", lvos_tree, unseen=unseen, as_published=True).totals["V"] == values[-1]


def test_lvos_stops_when_no_video_is_unseen_by_the_list(lvos_tree: Path):
    with pytest.raises(EvaluationError, match=r"no scored object is unseen .*such as nothing_here.*--unseen"):
        run("lvos", lvos_tree, unseen=frozenset({"nothing_here"}), meta=lvos_meta())


# ------------------------------------------------------------------------------------------------ YouTube-VOS


def test_ytvos_scores_each_object_after_its_first_frame_and_averages_four_numbers():
    meta = Meta(
        Path("m.json"), {s: {i: ObjectMeta("cat") for i in range(1, 256)} for s in ("a480_two", "f_late")}
    )
    meta.objects["f_late"][2] = ObjectMeta("dog")  # type: ignore[index]
    found = run("ytvos", sequences=("a480_two", "f_late"), meta=meta, unseen=frozenset({"dog"}))
    objects = by_name(found)
    assert len(objects["a480_two", "1"].frames) == 15
    assert objects["f_late", "2"].frames[0] == "00006" and objects["f_late", "2"].frames[-1] == "00013"
    raw = json.loads((GOLDEN / "per_frame_raw.json").read_text())["per_sequence"]["f_late"]["objects"]["2"]
    assert objects["f_late", "2"].per_frame["J"].tolist() == raw["J"][6:]
    seen = [o for key, o in objects.items() if key != ("f_late", "2")]
    four = [np.mean([o.j for o in seen]), np.mean([o.f for o in seen])]
    four += [objects["f_late", "2"].j, objects["f_late", "2"].f]
    assert found.totals["G"] == pytest.approx(np.mean(four), abs=1e-12)


# ------------------------------------------------------------------------------------------------ all


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_perfect_predictions_score_a_hundred(name: str):
    found = evaluate(PROTOCOLS[name](), VOS / "gt", VOS / "gt", ["d_odd", "i_pixels"])
    assert found.totals["J&F"] == 100


def test_any_number_of_workers_gives_the_same_numbers():
    def numbers(workers: int) -> Any:
        found = evaluate(
            PROTOCOLS["vos"](), VOS / "gt", VOS / "pred", ["a480_two", "d_odd", "i_pixels"], workers
        )
        per_frame = [{name: v.tolist() for name, v in o.per_frame.items()} for o in found.objects]
        return found.totals, found.frames_hash, [o.numbers() for o in found.objects], per_frame

    one = numbers(1)
    assert numbers(2) == one and numbers(3) == one


def test_the_hash_of_scored_frames_does_not_depend_on_the_predictions():
    one = run("sav", SAV)
    perfect = evaluate(PROTOCOLS["sav"](), SAV / "gt", SAV / "gt")
    assert one.frames_hash == perfect.frames_hash != run("vos").frames_hash


def test_the_golden_meta_is_found_beside_the_ground_truth():
    assert find_meta(VOS / "gt") == (VOS / "mose_meta.json").resolve()
