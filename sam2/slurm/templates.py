"""The committed batch files `slurm/*.sbatch`, for people without the launcher on their login node.

They come out of the same renderer as what the launcher submits; a test keeps them equal. After a change here or in
render.py: `python -m sam2.slurm.templates slurm`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from sam2.slurm.profile import Cluster
from sam2.slurm.render import RUN_DIR, Job, render

_CLUSTER = Cluster()
_VARIABLES = (
    "",
    "  RUN_DIR    the run directory; by default a new one in runs/",
    "  PYTHON     the interpreter of your environment; by default python",
    "  SAM2_HOME  the checkout with train.py; by default where sbatch was called",
    "",
    "Adapt the lines with #SBATCH to your cluster, or give options to sbatch: they win.",
    "Written by `python -m sam2.slurm.templates slurm`; slurm/README.md explains it.",
)
_SHAPE = 'trainer.nodes="$SLURM_JOB_NUM_NODES" trainer.devices="$SLURM_NTASKS_PER_NODE"'


def templates() -> Mapping[str, str]:
    """Names of the files and their texts."""
    return {
        "single_node.sbatch": _single(
            1, "Train on one node: one process for each of its GPUs.", "single_node"
        ),
        "multi_node.sbatch": _single(
            2, "Train on several nodes: one process for each GPU of each.", "multi_node"
        ),
        "array.sbatch": _array(),
        "evaluation_array.sbatch": _evaluation(),
        "train_then_evaluate.sbatch": _chain(),
    }


def _single(nodes: int, title: str, name: str) -> str:
    usage = f"sbatch slurm/{name}.sbatch recipes/finetune_video.yaml data.root=/path/to/shards"
    return render(_training((title, "", f"  {usage}"), nodes, _guard(usage), _here("slurm-$SLURM_JOB_ID")))


def _training(
    title: tuple[str, ...], nodes: int, guard: list[str], places: list[str], array: str | None = None
) -> Job:
    return Job(
        about=(*title, *_VARIABLES),
        name="sam2-train",
        cluster=_CLUSTER,
        nodes=nodes,
        tasks=8,
        wants_gpus=True,
        cpus=12,
        log="slurm-%A_%a.txt" if array else "slurm-%j.txt",
        places=(*guard, *places),
        arguments=f'"$@" {RUN_DIR} {_SHAPE}',
        array=array,
    )


def _array() -> str:
    usage = "sbatch --array=0-3 slurm/array.sbatch members.txt recipes/finetune_video.yaml data.root=/path/to/shards"
    title = (
        "Train the members of a sweep, each in a run directory of its own. Member K takes the settings in line K (from",
        "0) of a file, such as `optim.lr=1e-4 seed=1`, besides those that are given to all.",
        "",
        f"  {usage}",
    )
    places = [
        "# the settings of this member, divided at spaces",
        "members=$1; shift",
        'read -r -a own <<< "$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" "$members")"',
        'set -- "$@" ${own[@]+"${own[@]}"}',
    ]
    here = _here("array-$SLURM_ARRAY_JOB_ID/$SLURM_ARRAY_TASK_ID", per_member=True)
    return render(_training(title, 1, _guard(usage), [*here, *places], "0-3"))


def _evaluation() -> str:
    usage = (
        "sbatch slurm/evaluation_array.sbatch recipes/eval_davis2017.yaml checkpoint=FILE root=/path/to/DAVIS"
    )
    return render(
        Job(
            about=(
                "Evaluate in shares: each member of the array takes some of the videos, the last to end scores all.",
                "",
                f"  {usage}",
                *(text for text in _VARIABLES if "RUN_DIR" not in text),
            ),
            name="sam2-evaluate",
            cluster=_CLUSTER,
            nodes=1,
            tasks=1,
            wants_gpus=True,
            cpus=8,
            log="slurm-%A_%a.txt",
            places=(*_guard(usage), *_here("evaluation-$SLURM_ARRAY_JOB_ID")),
            arguments='"$@" share="$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"',
            array="1-8",
            is_training=False,
        )
    )


def _chain() -> str:
    usage = "bash slurm/train_then_evaluate.sbatch RECIPE [key=value ...] -- EVALUATION [key=value ...]"
    title = (
        "Train, then evaluate what came out, if that went well. Run by bash on the login node it submits two jobs:",
        "itself, and evaluation_array.sbatch, which lies beside it and is told checkpoint=RUN_DIR, to begin after it.",
        "",
        f"  {usage}",
        "  bash slurm/train_then_evaluate.sbatch recipes/finetune_video.yaml data.root=/path/to/shards \\",
        "      -- recipes/eval_davis2017.yaml root=/path/to/DAVIS",
        "",
        "Options for sbatch (--name=value) stand before the two recipes, each before that of its job:",
        "",
        "  bash slurm/train_then_evaluate.sbatch --time=04:00:00 RECIPE ... -- --array=1-2 EVALUATION ...",
    )
    return render(
        _training(title, 1, [*_SUBMIT_BOTH.splitlines(), *_guard(usage)], _here("slurm-$SLURM_JOB_ID"))
    )


def _guard(usage: str) -> list[str]:
    return [
        'if [ -z "${SLURM_JOB_ID:-}" ]; then',
        f'    echo "this is for SLURM: {usage}; without SLURM: python train.py RECIPE" >&2',
        "    exit 2",
        "fi",
    ]


def _here(name: str, per_member: bool = False) -> list[str]:
    """Where things are, if the user does not say."""
    return [
        'cd "$SLURM_SUBMIT_DIR"',
        "# fixed when the job is submitted: a requeued job has the same id and finds its run again",
        f"run_dir=${{RUN_DIR:-runs/{name}}}" if not per_member else f"run_dir=${{RUN_DIR:-runs}}/{name}",
        "case $run_dir in /*) ;; *) run_dir=$PWD/$run_dir ;; esac",
        "python=${PYTHON:-python}",
        "code=${SAM2_HOME:-$SLURM_SUBMIT_DIR}",
    ]


_SUBMIT_BOTH = r"""if [ -z "${SLURM_JOB_ID:-}" ] && [ $# -gt 0 ]; then
    # options for sbatch: before the recipe those of the training, behind -- those of the evaluation
    options=() train=() others=()
    while [[ ${1:-} == --?* ]]; do options+=("$1"); shift; done
    while [ $# -gt 0 ] && [ "$1" != -- ]; do train+=("$1"); shift; done
    [ $# -eq 0 ] || shift
    while [[ ${1:-} == --?* ]]; do others+=("$1"); shift; done
    if [ $# -eq 0 ] || [ ${#train[@]} -eq 0 ]; then
        echo "a recipe, -- and the recipe of an evaluation are needed: bash $0 RECIPE ... -- EVALUATION ..." >&2
        exit 2
    fi
    if [[ ${train[0]} == -* || $1 == -* ]]; then
        echo "a recipe begins with a dash; options for sbatch are written --name=value here" >&2
        exit 2
    fi
    export RUN_DIR=${RUN_DIR:-$PWD/runs/chain-$(date +%Y%m%d-%H%M%S)-$$}
    id=$(sbatch --parsable ${options[@]+"${options[@]}"} "$0" "${train[@]}")
    id=${id%%;*}
    evaluation=$(dirname "$0")/evaluation_array.sbatch
    next=$(sbatch --parsable --dependency="afterok:$id" --kill-on-invalid-dep=yes \
        ${others[@]+"${others[@]}"} "$evaluation" "$@" "checkpoint='${RUN_DIR//\'/\\\'}'")
    echo "job $id trains in $RUN_DIR; job ${next%%;*} evaluates it if that goes well"
    exit 0
fi"""


def main() -> None:
    """Write all templates into the folder that is named."""
    for name, text in templates().items():
        (Path(sys.argv[1]) / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
