"""Results in the shapes that the published tools write, so that what reads theirs reads ours."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence

from sam2.evaluation.score import Evaluation
from sam2.evaluation.scores import Numbers, ObjectScore

Files = dict[str, str]  # contents by name

GLOBAL, PER_SEQUENCE = "global_results.csv", "per-sequence_results.csv"


def official_files(found: Evaluation) -> Files:
    """The files of the protocol's tool, contents by name; of YouTube-VOS, whose tool is not public, a like table."""
    return _WRITERS.get(found.protocol.name, _plain)(found)


def file_names(protocol: str) -> tuple[str, ...]:
    """The names that `official_files` will use."""
    return _NAMES.get(protocol, (GLOBAL, PER_SEQUENCE))


def _davis(found: Evaluation) -> Files:
    columns = ("J&F", "J", "J_recall", "J_decay", "F", "F_recall", "F_decay")
    heads = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
    names = [f"{o.sequence}_{o.object_id}" for o in found.objects]
    return {
        GLOBAL: _csv(heads, [_fractions(found.totals, columns)]),
        PER_SEQUENCE: _per_sequence(names, found.objects, ("J", "F")),
    }


def _lvos(found: Evaluation) -> Files:
    columns = ("J&F", "J", "J_seen", "J_unseen", "F", "F_seen", "F_unseen", "V", "V_seen", "V_unseen")
    heads = [name.replace("_", "-") + "-Mean" for name in columns]
    places: dict[str, int] = {}
    names = []
    for o in found.objects:  # the tool counts objects, whatever their ids
        places[o.sequence] = places.get(o.sequence, 0) + 1
        names.append(f"{o.sequence}_{places[o.sequence]}")
    return {
        GLOBAL: _csv(heads, [_fractions(found.totals, columns)]),
        PER_SEQUENCE: _per_sequence(names, found.objects, ("J", "F", "V")),
    }


def _plain(found: Evaluation) -> Files:
    names = [f"{o.sequence}_{o.object_id}" for o in found.objects]
    return {
        GLOBAL: _csv(list(found.totals), [_fractions(found.totals, list(found.totals))]),
        PER_SEQUENCE: _per_sequence(names, found.objects, ("J", "F")),
    }


def _per_sequence(names: Sequence[str], objects: Sequence[ObjectScore], columns: Sequence[str]) -> str:
    rows = [[name, *_fractions(o.numbers(), columns)] for name, o in zip(names, objects, strict=True)]
    return _csv(["Sequence", *(f"{column}-Mean" for column in columns)], rows)


def _fractions(numbers: Numbers, columns: Sequence[str]) -> list[str]:
    """Three decimals between 0 and 1; nothing for what has no value."""
    values = [numbers.get(column) for column in columns]
    return ["" if v is None or math.isnan(v) else f"{v / 100:.3f}" for v in values]


def _csv(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue()


def _vos_benchmark(found: Evaluation) -> Files:
    """The padded table of vos-benchmark and sav_evaluator, in percent."""
    width = max(len("Global score"), *(len(o.sequence) for o in found.objects))
    jf, j, f = (found.totals[name] for name in ("J&F", "J", "F"))
    lines = [
        f"{'sequence':<{width}},obj,  J&F,    J,    F",
        f"{'Global score':<{width}},   , {jf:.1f}, {j:.1f}, {f:.1f}",
    ]
    lines += [
        f"{o.sequence:<{width}},{o.object_id:03}, {o.jf:>4.1f}, {o.j:>4.1f}, {o.f:>4.1f}"
        for o in found.objects
    ]
    return {"results.csv": "\n".join(lines) + "\n"}


def _mosev2(found: Evaluation) -> Files:
    """`scores.txt` and `metrics.json` of MOSEv2, where J&F_new and F_new are what is called J&F_dot and F_dot here."""
    totals = _mose_numbers(found.totals)
    order = ("J&F_new", "J", "F_new", "disappear_J&F_new", "reappear_J&F_new", "F", "J&F")
    lines = [f"{name}: {'nan' if totals[name] is None else totals[name]}" for name in order]
    brief = ",".join("nan" if totals[name] is None else f"{totals[name]:.1f}" for name in order)
    metrics = {f"{o.sequence}_{o.object_id}": _mose_numbers(o.numbers()) for o in found.objects}
    return {
        "scores.txt": "\n".join([*lines, f"Copy-Paste: {brief}"]) + "\n",
        "metrics.json": json.dumps(metrics, indent=4) + "\n",
    }


def _mose_numbers(numbers: Numbers) -> Numbers:
    def both(part: str) -> float | None:
        j, f = numbers.get(f"{part}_J"), numbers.get(f"{part}_F_dot")
        return None if j is None or f is None else (j + f) / 2

    found = {
        "J&F_new": numbers["J&F_dot"],
        "J": numbers["J"],
        "F_new": numbers["F_dot"],
        "disappear_J&F_new": both("disappear"),
        "reappear_J&F_new": both("reappear"),
        "F": numbers["F"],
        "J&F": numbers["J&F"],
    }
    return {name: None if value is None else round(value, 2) for name, value in found.items()}


_WRITERS: dict[str, Callable[[Evaluation], Files]] = {
    "davis2017": _davis,
    "lvos": _lvos,
    "vos": _vos_benchmark,
    "sav": _vos_benchmark,
    "mosev2": _mosev2,
}
_NAMES = {"vos": ("results.csv",), "sav": ("results.csv",), "mosev2": ("scores.txt", "metrics.json")}
