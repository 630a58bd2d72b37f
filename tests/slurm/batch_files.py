"""Batch files of the renderer's whose training is a few lines of Python."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from sam2.slurm.profile import Cluster as Profile
from sam2.slurm.render import RUN_DIR, Job, pattern, quoted, render

ROOT = Path(__file__).parents[2]
# ends as the word says on the first start, and well on the next ones
TRAIN = """
import json, os, signal, sys, time
from pathlib import Path
run = Path(next(word[9:-1] for word in sys.argv if word.startswith("run_dir=")))
start, how = int(os.environ.get("SLURM_RESTART_COUNT", 0)), sys.argv[1]
(run / "checkpoints").mkdir(exist_ok=True)
(run / "checkpoints" / "step.txt").write_text(f"{start if how != 'stuck' else 0}")
if how == "until asked":
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    (run / f"began-{start}").touch()
    while not asked:
        time.sleep(0.05)
    sys.exit(85)
if how == "stuck" or (how == "interrupted" and start == 0):
    sys.exit(85)
(run / "run.json").write_text(json.dumps({"finished": {"step": 1}}, indent=1))
"""


def pretended(folder: Path, how: str, **changed: object) -> Path:
    """A batch file of the renderer's whose training is `TRAIN`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.py").write_text(TRAIN)
    code = (f"run_dir={quoted(folder / 'run')}", f"python={quoted(sys.executable)}", f"code={quoted(folder)}")
    path = ("export PYTHONPATH=" + quoted(ROOT),)
    job = Job(
        about=("pretended",),
        name="pretended",
        cluster=Profile(env={"MASTER_ADDR": "127.0.0.1"}, time="00:10:00"),
        nodes=1,
        tasks=1,
        wants_gpus=False,
        cpus=1,
        log=f"{pattern(folder)}/log.txt",
        places=(*code, *path),
        arguments=f"{quoted(how)} {RUN_DIR}",
        preflight=False,
    )
    script = folder / "job.sbatch"
    script.write_text(render(dataclasses.replace(job, **changed)))  # type: ignore[arg-type]
    return script
