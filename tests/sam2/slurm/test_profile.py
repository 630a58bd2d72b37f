from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sam2.slurm.profile import Cluster, Container, check_option
from sam2.training.typed import ConfigError, from_mapping

PROFILES = sorted((Path(__file__).parents[3] / "configs" / "cluster").glob("*.yaml"))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_shipped_profile_is_valid(path: Path) -> None:
    from_mapping(Cluster, yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("option", ["--gpus-per-task=1", "--gpus-per-task 1", "--gpus-per-ta=1"])
def test_gpus_by_task_are_refused_with_the_reason(option: str) -> None:
    with pytest.raises(ValueError, match=r"--gpus-per-task|hides from every task"):
        Cluster(sbatch=(option,))


@pytest.mark.parametrize("option", ["--ntasks=4", "--ntasks 4", "-n 4", "-n4"])
def test_a_number_of_tasks_alone_is_refused_with_the_reason(option: str) -> None:
    with pytest.raises(ValueError, match="alone lets SLURM place tasks unevenly"):
        Cluster(sbatch=(option,))


@pytest.mark.parametrize("option", ["-N2", "--nodes=2", "--output=x", "-t 10", "--array=1-4", "--no-requeue"])
def test_options_that_the_launcher_writes_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=r"cluster\.sbatch: "):
        check_option(option)


@pytest.mark.parametrize(
    "option", ["--exclusive", "--mem-per-cpu=4G", "-C a100", "--gres-flags=x", "--comment=a b"]
)
def test_other_options_are_taken(option: str) -> None:
    assert Cluster(sbatch=(option,)).sbatch == (option,)


@pytest.mark.parametrize("option", ["exclusive", "--", "#--x", "--a;b", ""])
def test_what_is_no_option_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match="cluster.sbatch"):
        Cluster(sbatch=(option,))


def test_a_time_that_yaml_has_taken_for_a_number_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"cluster.time is 86400.*in quotes"):
        from_mapping(Cluster, yaml.safe_load("time: 24:00:00"))
    for time in ("24:00:00", "2-12:00:00", "7-00", "90:00"):
        assert Cluster(time=time).time == time


@pytest.mark.parametrize("field", ["account", "partition", "constraint", "mail_user", "python", "interface"])
def test_a_value_of_several_lines_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=rf"cluster\.{field}.*one line"):
        Cluster(**{field: "a\n#SBATCH --nodes=99"})


def test_lines_in_lists_and_variables_are_checked_too() -> None:
    for given in ({"setup": ("a\nb",)}, {"modules": ("",)}, {"env": {"A": "b\nc"}}):
        with pytest.raises(ValueError, match="one line of text"):
            Cluster(**given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no name of a variable"):
        Cluster(env={"A B": "c"})
    assert Cluster(env={"EMPTY": ""}).env == {"EMPTY": ""}


def test_only_one_environment_can_be_active() -> None:
    with pytest.raises(ValueError, match="set one of them"):
        Cluster(venv=Path("/v"), container=Container("pyxis", "image"))


@pytest.mark.parametrize(
    ("form", "kind", "option"),
    [
        ("gpus-per-node", None, "--gpus-per-node=4"),
        ("gpus-per-node", "h100", "--gpus-per-node=h100:4"),
        ("gres", None, "--gres=gpu:4"),
        ("gres", "a100", "--gres=gpu:a100:4"),
        ("none", None, None),
    ],
)
def test_gpus_are_asked_for_in_the_clusters_form(form: str, kind: str | None, option: str | None) -> None:
    assert Cluster(gpu_request=form, gpu_type=kind).gpus(4) == option  # type: ignore[arg-type]


@pytest.mark.parametrize(("mem", "is_good"), [("120G", True), ("0", True), ("12 GB", False), ("all", False)])
def test_memory_has_the_form_that_slurm_reads(mem: str, is_good: bool) -> None:
    if is_good:
        assert Cluster(mem=mem).mem == mem
    else:
        with pytest.raises(ValueError, match="cluster.mem"):
            Cluster(mem=mem)
