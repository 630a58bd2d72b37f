"""The one renderer: a `Job` becomes the text of one batch file.

`python train.py ... launcher=slurm` writes it into the run directory, `slurm/*.sbatch` are committed copies for people
without the launcher (sam2/slurm/templates.py). A file begins with what differs (options, places), the rest is the same
for all; every value of a user's is quoted here.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from sam2.slurm.errors import BatchError
from sam2.slurm.profile import Cluster, line

# the setting of the run directory as Hydra reads it: in single quotes, which only a single quote can end
RUN_DIR = r'''"run_dir='${run_dir//\'/\\\'}'"'''
_EVALUATION_LEAD_S = 60  # SLURM may be as much earlier
# what needs no quotes in a line that begins with #SBATCH
_BARE = re.compile(r"[\w@%+=:,./()\[\]|&*-]+")


@dataclass(frozen=True)
class Job:
    """What to run, on how much of which cluster.

    Attributes:
        about: comment lines at the top.
        name: of the job.
        cluster: the profile.
        nodes: machines.
        tasks: processes on each of them, one for each GPU.
        wants_gpus: whether they need GPUs.
        cpus: cores of each process.
        log: where the job's output goes; `%j` and the like are replaced by SLURM.
        places: lines of shell that set `run_dir`, `python` and `code` and go where the run is at home.
        arguments: words of shell that the tasks get behind train.py.
        entry: words of shell that run it.
        mounts: words of shell that a container mounts.
        array: members of an array, such as `0-11%4`; None: one job.
        preflight: whether to see first that everything is in place.
        is_training: whether it trains, and not evaluates: then the tasks save when they are told to, and say in the run
            directory when they are done.
    """

    about: tuple[str, ...]
    name: str
    cluster: Cluster
    nodes: int
    tasks: int
    wants_gpus: bool
    cpus: int
    log: str
    places: tuple[str, ...]
    arguments: str
    entry: str = '"$code/train.py"'
    mounts: tuple[str, ...] = ()
    array: str | None = None
    preflight: bool = True
    is_training: bool = True


def render(job: Job) -> str:
    """The batch file.

    Raises:
        BatchError: a value cannot stand in one.
    """
    parts = (
        ["#!/bin/bash", *(f"# {_one_line(text)}".rstrip() for text in job.about)],
        _options(job),
        ["", "# Stop at the first command that fails; an unset variable is a failure.", "set -eu", ""],
        [*job.places],
        _environment(job),
        _beginning(job),
        _tasks(job),
        _rendezvous(job),
        _steps(job),
        _ending(job),
        [
            "",
            "# The job's exit code is the training's, or a failed run would count as completed.",
            "exit $rc",
        ],
    )
    return "\n".join(text for part in parts for text in part) + "\n"


def quoted(path: object) -> str:
    """A value as one word of shell."""
    return shlex.quote(str(path))


def pattern(path: object) -> str:
    """A path where SLURM would replace `%j` and the like; in this one it replaces nothing.

    Raises:
        BatchError: it cannot be written so.
    """
    text = str(path)
    if "\\" in text:
        raise BatchError(
            f"{text}: SLURM cannot write a log to a path with a backslash; choose another run_dir"
        )
    return text.replace("%", "%%")


def job_name(text: str) -> str:
    """A name for a job: one word."""
    return re.sub(r"[^\w.+-]+", "-", text) or "sam2"


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _options(job: Job) -> list[str]:
    """The lines for sbatch."""
    given = job.cluster
    gpus = given.gpus(job.tasks) if job.wants_gpus else None
    asked = {
        "account": given.account,
        "partition": given.partition,
        "qos": given.qos,
        "constraint": given.constraint,
        "exclude": given.exclude,
        "nodelist": given.nodelist,
        "reservation": given.reservation,
        "mem": given.mem,
        "mail-user": given.mail_user,
        "mail-type": given.mail_type if given.mail_user else None,
    }
    lines = [f"--job-name={_word(job.name)}", f"--nodes={job.nodes}", f"--ntasks-per-node={job.tasks}"]
    lines += [gpus] if gpus else []
    lines += [f"--cpus-per-task={job.cpus}", f"--time={given.time}"]
    lines += [f"--{name}={_word(value)}" for name, value in asked.items() if value is not None]
    lines += [f"--array={job.array}"] if job.array else []
    # a preemption or a dead node puts the job back into the queue, where it goes on as the same job
    lines += ["--requeue", "--open-mode=append"]
    # to the tasks (no B:), so long before the time limit: a training saves and ends with 85, an evaluation, which has
    # nothing to save, ends at once; the end of this file requeues both
    lead = given.signal_lead_s if job.is_training else min(given.signal_lead_s, _EVALUATION_LEAD_S)
    lines.append(f"--signal=USR1@{lead}")
    lines += [f"--output={_word(job.log)}", *given.sbatch]
    return [f"#SBATCH {option}" for option in lines]


def _word(value: str) -> str:
    """A value of an option in the form that sbatch takes apart: quoted where it is not plain."""
    try:
        line("an option of sbatch", value)
    except ValueError as error:
        raise BatchError(str(error)) from error
    if _BARE.fullmatch(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _environment(job: Job) -> list[str]:
    """Modules, environment and variables of the profile."""
    given = job.cluster
    variables = dict(given.env)
    if given.interface:
        variables |= {"NCCL_SOCKET_IFNAME": given.interface, "GLOO_SOCKET_IFNAME": given.interface}
    site = [*given.setup, *(f"module load {quoted(name)}" for name in given.modules)]
    if given.venv:
        site.append(f". {quoted(given.venv / 'bin' / 'activate')}")
    if given.conda:
        site += ['eval "$(conda shell.bash hook)"', f"conda activate {quoted(given.conda)}"]
    # scripts of modules and environments look at variables that are not set
    lines = ["", "# What this cluster needs.", "set +u", *site, "set -u"] if site else [""]
    lines += [f"export {name}={quoted(value)}" for name, value in variables.items()]
    threads = "1" if job.wants_gpus else "${SLURM_CPUS_PER_TASK:-1}"
    return [
        *lines,
        "# The code that was asked for, whatever else is installed.",
        'export PYTHONPATH="$code${PYTHONPATH:+:$PYTHONPATH}"',
        "# Threads of a process; torch would take all cores of the node for each of its tasks.",
        f"export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{threads}}}",
        "# Text at once, not when a buffer is full; stacks when a process crashes.",
        "export PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1",
    ]


def _beginning(job: Job) -> list[str]:
    return [
        "",
        "# A member of an array goes by two numbers: the job id of its last member is the array's own.",
        "job=$SLURM_JOB_ID",
        '[ -z "${SLURM_ARRAY_JOB_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID',
        "restart=${SLURM_RESTART_COUNT:-0}",
        'mkdir -p "$run_dir/job" "$run_dir/log"',
        "# A task that ends badly says here why.",
        'export SAM2_LAST_WORD="$run_dir/job/ended-$job-$restart"',
        'rm -f "$SAM2_LAST_WORD"',
        *([] if job.is_training else _DONE_VIDEOS),
        'echo "job $job, restart $restart, on $SLURM_JOB_NODELIST: $run_dir"',
    ]


_DONE_VIDEOS = [
    "# Which videos or images are done, a line each.",
    'export SAM2_DONE="$run_dir/job/done-$job.txt"',
    'touch "$SAM2_DONE"',
]


def _tasks(job: Job) -> list[str]:
    """The function that runs Python in every task."""
    options, inside = _container(job)
    label = " --label" if job.nodes * job.tasks > 1 else ""
    return [
        "",
        "# Python in every task. If one fails the others would wait for it: they are ended too. Since SLURM 22.05 srun",
        "# is not told the cores of a task, so they are given again.",
        "in_tasks() {",
        f'    srun --kill-on-bad-exit=1{label} --cpus-per-task="${{SLURM_CPUS_PER_TASK:-1}}" \\',
        *(f"        {' '.join(words)} \\" for words in (options, inside) if words),
        '        "$python" "$@"',
        "}",
    ]


def _container(job: Job) -> tuple[list[str], list[str]]:
    """What srun and every task are told of the container, in words of shell."""
    box = job.cluster.container
    if box is None:
        return [], []
    mounts = ['"$code"', '"$run_dir"', *job.mounts, *(quoted(mount) for mount in box.mounts)]
    options = [quoted(word) for word in box.options]
    if box.runtime == "pyxis":
        places = ",".join(f"{mount}:{mount}" if ":" not in mount else mount for mount in mounts)
        return [
            f"--container-image={quoted(box.image)}",
            f"--container-mounts={places}",
            '--container-workdir="$PWD"',
            *options,
        ], []
    gpus = ["--nv"] if job.wants_gpus else []
    return [], ["apptainer", "exec", *gpus, f"--bind {','.join(mounts)}", *options, quoted(box.image)]


def _rendezvous(job: Job) -> list[str]:
    """Where the tasks meet."""
    here = '"$python"' if job.cluster.container is None else "on_head"
    return [
        "",
        "# Where the tasks meet: on the first node, at a port that is free there now. One that is chosen when the job",
        "# is submitted may be taken by then.",
        *_on_head(job),
        'MASTER_ADDR=${MASTER_ADDR:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)}',
        f"MASTER_PORT=$({here} -P -m sam2.slurm.port)",
        "export MASTER_ADDR MASTER_PORT",
    ]


def _on_head(job: Job) -> list[str]:
    options, inside = _container(job)
    if not options and not inside:
        return []
    words = " ".join(["srun --nodes=1 --ntasks=1 --ntasks-per-node=1 --relative=0", *options, *inside])
    return ["on_head() {", f'    {words} "$python" "$@"', "}"]


def _steps(job: Job) -> list[str]:
    """What is run."""
    look = [
        "# Half a minute that saves hours: is all that the run needs there, on every node?",
        f'in_tasks -P -m sam2.slurm.preflight "$run_dir"{_patience(job)} || rc=$?',
    ]
    return [
        "",
        "rc=0",
        *(look if job.preflight else []),
        "if [ $rc -eq 0 ]; then",
        f"    in_tasks {job.entry} {job.arguments} || rc=$?",
        "fi",
    ]


def _patience(job: Job) -> str:
    """Tasks begin when their node has the image, which may take some of them minutes."""
    return "" if job.cluster.container is None else " --patience 300"


def _ending(job: Job) -> list[str]:
    """What an end means for the job: done, to be taken up again, or failed."""
    if job.is_training:
        parts = [_FIRST_WORD, _CASE, _ENDED_WELL, _INTERRUPTED, _AT_STEP, _AGAIN]
        hint = " or let it save more often (checkpoint.every_minutes)"
    else:
        parts, hint = [_CASE, _INTERRUPTED, _AFTER_PIECES, _AGAIN], ""
    text = "\n".join(part.strip("\n") for part in parts)
    text = text.replace("HINT", hint).replace("MAX_RESTARTS", str(job.cluster.max_restarts))
    return ["", *text.splitlines()]


_FIRST_WORD = r"""
# The first task that ends badly takes the others with it. srun answers with the highest code, which may be that of
# those it ended (143) or that missed another (88): then the word of the first one counts. 85 says that all was saved,
# whatever became of the others after that.
if [ $rc -ne 0 ] && [ -s "$SAM2_LAST_WORD" ]; then
    word=$(cat "$SAM2_LAST_WORD")
    if [ $rc -eq 143 ] || [ $rc -eq 88 ] || [ "$word" -eq 85 ]; then
        rc=$word
    fi
fi
"""
_CASE = "case $rc in"
_ENDED_WELL = r"""
0)
    # srun also answers 0 when a node died; SLURM then puts the job back into the queue by itself
    if ! grep -qs '"finished": {' "$run_dir/run.json"; then
        echo "srun ended well, but the run is not finished: did a node fail? $run_dir continues where it is" >&2
        rc=1
    fi
    ;;
"""
_INTERRUPTED = "85 | 138 | 140 | 143)"
_AT_STEP = r"""
    # 138 and 140 are USR1 and USR2 before Python could take them; 143 without a word of why: the tasks that srun ended
    # with the one that such a signal ended
    step=$(cat "$run_dir/checkpoints/step.txt" 2>/dev/null || echo none)
    at="at step $step"
"""
_AFTER_PIECES = r"""
    # USR1, USR2 and TERM end an evaluation at once; the videos or images that are done are kept
    step=$(wc -l < "$SAM2_DONE")
    at="after $step videos or images"
"""
_AGAIN = r"""
    history=$run_dir/job/restarts.txt
    touch "$history"
    earlier=$(grep "^$job " "$history" | cut -d ' ' -f 3 | tail -n 2 | tr '\n' ' ')
    state=$(scontrol show job --oneliner "$job" | sed -n 's/.* JobState=\([A-Z_]*\).*/\1/p')
    if [ "$state" != RUNNING ]; then
        echo "interrupted $at; the job is $state already and left to SLURM" >&2
    elif [ "$(grep -c "^$job " "$history")" -ge MAX_RESTARTS ]; then
        echo "interrupted $at and not requeued: it was MAX_RESTARTS times (cluster.max_restarts)" >&2
    elif [ "$earlier" = "$step $step " ]; then
        echo "interrupted $at and not requeued: two restarts in a row made no progress; give the job more" \
            "time (cluster.time)HINT" >&2
    else
        echo "$job $restart $step" >> "$history"
        echo "interrupted $at; back into the queue"
        scontrol requeue "$job" || echo "SLURM does not requeue this job; submit $run_dir again" >&2
    fi
    ;;
esac
"""
