import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from data.augment import AugmentConfig
from data.clip import ClipBatch, DataError
from data.config import DataConfig, DatasetConfig, Stage
from data.held_out import HeldOutVideo
from data.module import ClipDataModule
from data.raw import RawBatch
from data.sample import SamplingConfig
from tests.data.shards import DAMAGES, image_shards, numbered_videos, rewrite, to_shards

QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "use_distributed_sampler": False,
    "max_epochs": -1,
    "num_sanity_val_steps": 0,
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Ten videos and seven images."""
    root = tmp_path_factory.mktemp("shards")
    numbered_videos(root / "sav", 10)
    to_shards(root / "sav", root / "videos", shard_bytes=20_000)
    image_shards(root / "png", 7, root / "images")
    return root


def module(shards, directory=None, seed=1, **changes):
    settings = {"root": shards / "videos", "frames": 2, "batch": 2, "workers": 0, **changes}
    return ClipDataModule(DataConfig(**settings), image_size=32, seed=seed, directory=directory)


def both(shards, batch=2):
    return {
        "root": None,
        "datasets": (
            DatasetConfig(shards / "videos", weight=1.0, batch=batch),
            DatasetConfig(shards / "images", weight=1.0, batch=2 * batch),
        ),
    }


def take(data, count):
    return [batch for batch, _ in zip(data.train_dataloader(), range(count), strict=False)]


def fingerprint(batch):
    parts = (batch.frames, batch.masks, batch.video_of_object, batch.object_seeds)
    return batch.step, batch.sources, [int(part.long().sum()) for part in parts]


class Recorder(pl.LightningModule):
    """Learns nothing of use; remembers what it was given. Fails where a machine would be killed."""

    def __init__(self, fails_at=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.fails_at = fails_at
        self.seen, self.tracked = [], []

    def training_step(self, batch, batch_idx):
        assert isinstance(batch, ClipBatch)
        if batch_idx == self.fails_at:
            raise RuntimeError("killed")
        self.seen.append(fingerprint(batch))
        return ((self.weight - batch.frames.float().mean((0, 1, 3, 4)) / 255) ** 2).sum()

    def validation_step(self, batch, batch_idx):
        assert isinstance(batch, HeldOutVideo)
        self.tracked.append(batch.key)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.1)


class SaveEvery(pl.Callback):
    def __init__(self, path, every):
        self.path, self.every = path, every

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step % self.every == 0:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_batches_do_not_depend_on_the_number_of_workers(shards, workers):
    alone = take(module(shards, **both(shards)), 7)
    helped = take(module(shards, workers=workers, **both(shards)), 7)
    for one, other in zip(alone, helped, strict=True):
        assert one.sources == other.sources and one.step == other.step
        for name in ("frames", "masks", "video_of_object", "object_seeds"):
            assert torch.equal(getattr(one, name), getattr(other, name))
    assert [batch.step for batch in alone] == list(range(7))


def test_video_and_image_steps_have_their_own_batch_size_length_and_cap(shards):
    batches = take(module(shards, frames=3, max_objects=1, **both(shards)), 30)
    videos = [batch for batch in batches if 'clip "v' in batch.sources[0]]
    images = [batch for batch in batches if 'clip "i' in batch.sources[0]]
    assert len(videos) > 5 and len(images) > 5
    assert {batch.frames.shape for batch in videos} == {(3, 2, 3, 32, 32)}
    assert {batch.frames.shape for batch in images} == {(1, 4, 3, 32, 32)}
    assert {batch.masks.shape[1] for batch in videos} == {2}
    assert {batch.masks.shape[1] for batch in images} == {8}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("limit", [None, 4])
def test_a_killed_run_goes_on_with_exactly_the_next_batch(shards, tmp_path, workers, limit):
    def run(data, recorder, resume=None):
        save = SaveEvery(tmp_path / "last.ckpt", 3)
        trainer = pl.Trainer(
            **QUIET, max_steps=11, limit_train_batches=limit, callbacks=[save], log_every_n_steps=1
        )
        trainer.fit(recorder, datamodule=data, ckpt_path=resume, weights_only=True)
        return recorder

    whole = run(module(shards, workers=workers), Recorder())
    assert [step for step, *_ in whole.seen] == list(range(11))
    with pytest.raises(RuntimeError, match="killed"):
        run(module(shards, workers=workers), Recorder(fails_at=8 if limit is None else 3))
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["ClipDataModule"]["consumed"]
    assert saved == (6 if limit is None else 3)
    again = run(module(shards, workers=workers), Recorder(), tmp_path / "last.ckpt")
    assert again.seen == whole.seen[saved:]
    assert torch.equal(again.weight, whole.weight)


def test_batches_made_ahead_or_accumulated_are_not_counted_twice(shards, tmp_path):
    data = module(shards, workers=2, prefetch=4)
    trainer = pl.Trainer(**QUIET, max_steps=2, accumulate_grad_batches=3)
    trainer.fit(Recorder(), datamodule=data)
    assert data.consumed == 6
    assert data.state_dict()["consumed"] == 6


def test_a_checkpoint_of_other_data_is_refused(shards):
    state = json.loads(
        json.dumps(module(shards).state_dict())
    )  # plain values, so it can be read without pickle
    module(shards).load_state_dict(state)
    with pytest.raises(DataError, match="seed was 1, is 2"):
        module(shards, seed=2).load_state_dict(state)
    with pytest.raises(DataError, match="index of data set 0 was"):
        module(shards, root=shards / "images").load_state_dict(state)


def test_without_a_trainer_a_loop_can_start_anywhere(shards):
    whole = [fingerprint(batch) for batch in take(module(shards), 6)]
    data = module(shards)
    data.consumed = 4
    assert [fingerprint(batch) for batch in take(data, 2)] == whole[4:]
    assert data.consumed == 4


def test_held_out_videos_are_what_lightning_validates_on(shards):
    data, recorder = module(shards, val_root=shards / "videos"), Recorder()
    pl.Trainer(**QUIET).validate(recorder, datamodule=data, verbose=False)
    assert recorder.tracked == [f"v{k:02d}" for k in range(10)]
    assert module(shards).held_out() is None
    assert list(module(shards).val_dataloader()) == []


def test_a_rank_may_have_no_video_to_evaluate(shards, monkeypatch):
    data = module(shards, val_root=shards / "videos")
    monkeypatch.setattr(ClipDataModule, "rank", 11)
    monkeypatch.setattr(ClipDataModule, "world", 12)
    recorder = Recorder()
    trainer = pl.Trainer(**QUIET, max_steps=2, val_check_interval=1)
    trainer.fit(recorder, datamodule=data)
    assert len(recorder.seen) == 2 and recorder.tracked == []


def test_bad_samples_are_listed_and_training_goes_on_until_there_are_too_many(tmp_path):
    numbered_videos(tmp_path / "sav", 6)
    to_shards(tmp_path / "sav", tmp_path / "videos")
    rewrite(tmp_path / "videos", "v02", DAMAGES["truncated mp4"][0])
    directory = tmp_path / "run" / "log"
    skipped = [batch.skipped for batch in take(module(tmp_path, directory, workers=2), 9)]
    assert sum(skipped) == 3  # three epochs
    rows = [json.loads(line) for line in (directory / "quarantine-rank0.jsonl").read_text().splitlines()]
    assert [(row["key"], row["member"], row["shard"]) for row in rows] == [("v02", "mp4", "000002.tar")]
    rewrite(tmp_path / "videos", "v04", DAMAGES["rle of another size"][0])
    with pytest.raises(DataError, match=r"^2 bad samples among 6.*max_bad_fraction=0\.01 allows 1"):
        take(module(tmp_path, directory, workers=2), 9)


def test_a_bad_sample_is_warned_of_once_and_counted(tmp_path, caplog):
    numbered_videos(tmp_path / "sav", 6)
    to_shards(tmp_path / "sav", tmp_path / "videos")
    rewrite(tmp_path / "videos", "v02", DAMAGES["empty mp4"][0])
    data = module(tmp_path, tmp_path / "run", workers=1)
    assert data.bad_samples == 0
    take(data, 9)  # three epochs
    assert data.bad_samples == 1
    (record,) = [r for r in caplog.records if r.name == "data.quarantine"]
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        f'bad sample 1 of at most 1: data set {tmp_path / "videos"}, 000002.tar, clip "v02", mp4: is empty (0 bytes); '
        "convert or download the shard again; another sample takes its place"
    )
    again = module(tmp_path, tmp_path / "run")
    take(again, 1)
    assert again.bad_samples == 1


def test_what_goes_wrong_in_a_worker_reaches_the_user_in_its_own_words(tmp_path):
    numbered_videos(tmp_path / "sav", 3)
    to_shards(tmp_path / "sav", tmp_path / "videos")
    for key in ("v00", "v01", "v02"):
        rewrite(tmp_path / "videos", key, DAMAGES["header only"][0])
    data = module(tmp_path, workers=2, max_bad_fraction=1.0)
    with pytest.raises(DataError, match=r"^data set .*videos: 3 samples one after the other.*holds a header"):
        take(data, 1)


def test_clips_longer_than_the_videos_are_refused_before_anything_is_read(shards, monkeypatch):
    monkeypatch.setattr("data.read.read_masks", None)
    message = (
        r"^data\.frames=9, but only 0 of 10 videos in .*videos have 9 annotated frames \(longest: 6\); "
        r"lower data\.frames to 6 or less$"
    )
    for fraction in (0.0, 0.01, 1.0):
        data = module(shards, frames=9, max_bad_fraction=fraction)
        with pytest.raises(DataError, match=message):
            _ = data.plan
    with pytest.raises(DataError, match=message.replace(r"data\.frames", "frames of .*videos")):
        parts = (DatasetConfig(shards / "images"), DatasetConfig(shards / "videos", frames=9))
        module(shards, root=None, datasets=parts).train_dataloader()


@pytest.mark.parametrize("start_method", ["constructor", "iteration"])
def test_more_workers_than_cores_is_said_once_and_by_us(shards, caplog, recwarn, monkeypatch, start_method):
    monkeypatch.setattr("torch._utils.cpu_count", lambda: 1)
    monkeypatch.setattr("data.module._cores", lambda: 1)
    data = module(shards, workers=2)
    for _ in range(2):
        loader = data.train_dataloader()
        if start_method == "iteration":
            next(iter(loader))
    assert not [w for w in recwarn if "DataLoader" in str(w.message)]
    (record,) = [r for r in caplog.records if r.name == "data.module"]
    assert record.getMessage().startswith("data.workers=2, but this process may run on 1 core: ")
    caplog.clear()
    module(shards, workers=1).train_dataloader()
    assert not caplog.records


def test_a_module_without_data_says_which_setting_is_missing():
    with pytest.raises(DataError, match=r"set data\.root or data\.datasets"):
        ClipDataModule(DataConfig(), 32, 0).train_dataloader()


def test_images_and_videos_in_one_folder_are_refused(shards, monkeypatch):
    mixed = module(shards)
    half = np.arange(10) % 2 == 0
    monkeypatch.setattr(type(mixed.indexes[0]), "is_image", half)
    with pytest.raises(DataError, match="holds images and videos"):
        mixed.train_dataloader()
    with pytest.raises(DataError, match="holds images, frames must be 1, not 4"):
        monkeypatch.undo()
        datasets = (DatasetConfig(shards / "images", frames=4),)
        module(shards, root=None, datasets=datasets).train_dataloader()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"frames": 0}, "frames is 0; it must be 1 or more"),
        ({"workers": -1}, "workers is -1"),
        ({"max_bad_fraction": 2.0}, "max_bad_fraction is 2.0"),
        ({"datasets": (DatasetConfig("x"),)}, "root and datasets are both set"),
        ({"root": None, "datasets": (DatasetConfig("x", batch=0),)}, "batch of x is 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(shards, bad, message):
    with pytest.raises(DataError, match=message):
        module(shards, **bad)


def test_every_setting_has_a_plain_type():
    config = DataConfig(sampling=SamplingConfig(), augment=AugmentConfig())
    assert config == DataConfig()
    assert hash(config) == hash(DataConfig())


LOOP = """
import signal
import sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born deaf to it
from data.module import ClipDataModule, DataConfig
config = DataConfig(root=Path(sys.argv[1]), frames=2, batch=2, workers=2)
for batch in ClipDataModule(config, 32, 1).train_dataloader():
    print(batch.step, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_worker_outlives_the_training_process(shards, number):
    command = [sys.executable, "-c", LOOP, str(shards / "videos")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert [process.stdout.readline().strip() for _ in range(3)] == ["0", "1", "2"]
    process.send_signal(number)
    process.communicate(timeout=30)  # returns when the last holder of the pipe, a worker maybe, is gone
    assert process.returncode != 0


def test_workers_end_with_the_run_that_an_exception_ends(shards):
    data, trainer = module(shards, workers=1), pl.Trainer(**{**QUIET, "max_steps": 5})
    others, working = set(multiprocessing.active_children()), []

    class Stop(Exception):
        pass

    class Stopper(Recorder):
        def training_step(self, batch, batch_idx):
            working.extend(set(multiprocessing.active_children()) - others)
            raise Stop

    with pytest.raises(Stop) as kept:  # as long as the traceback is kept, so is all that it refers to
        trainer.fit(Stopper(), datamodule=data)
    assert len(working) == 1 and not working[0].is_alive(), kept


class Looker(Recorder):
    """Remembers all of what training saw."""

    def training_step(self, batch, batch_idx):
        self.seen.append(batch)
        return self.weight.sum()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", [{}, {"images": True}])
def test_frames_finished_on_the_device_are_those_that_workers_finish(shards, workers, kind):
    parts = both(shards) if kind else {}
    seen = []
    for where in ("worker", "device"):
        looker = Looker()
        trainer = pl.Trainer(**{**QUIET, "max_steps": 5})
        trainer.fit(looker, datamodule=module(shards, warp_on=where, workers=workers, **parts))
        seen.append(looker.seen)
    for one, other in zip(*seen, strict=True):
        assert isinstance(other, ClipBatch) and one.sources == other.sources
        assert torch.equal(one.frames, other.frames) and torch.equal(one.masks, other.masks)
    assert len({batch.frames.shape for batch in seen[0]}) == (2 if kind else 1)


def test_auto_leaves_frames_to_workers_where_there_is_no_gpu(shards):
    (batch,) = take(module(shards), 1)
    assert isinstance(batch, ClipBatch) and batch.frames.shape == (2, 2, 3, 32, 32)
    (raw,) = take(module(shards, warp_on="device"), 1)
    assert isinstance(raw, RawBatch) and raw.rest.masks.shape == batch.masks.shape
    assert raw.frames[0].pixels.shape == (2, 32, 64, 3)
    with pytest.raises(DataError, match="warp_on is 'gpu'; choose auto, worker or device"):
        module(shards, warp_on="gpu")


def test_a_batch_never_has_more_objects_than_it_may(shards):
    parts = {"root": shards / "images", "batch": 3, "image_max_objects": 2}
    free = take(module(shards, **parts), 6)
    tight = take(module(shards, batch_max_objects=4, **parts), 6)
    assert [batch.masks.shape[1] for batch in free] == [6] * 6
    assert [batch.masks.shape[1] for batch in tight] == [4] * 6
    for one, other in zip(free, tight, strict=True):
        assert torch.equal(one.frames, other.frames)  # the same samples and changes
        assert set(other.video_of_object.tolist()) == {0, 1, 2}  # none without an object
    with pytest.raises(DataError, match="batch_max_objects is 2; it must be 3 or more"):
        module(shards, batch_max_objects=2, **parts)


def test_shards_are_read_in_windows_and_each_sample_comes_once(shards):
    data = module(shards, shuffle="shards", shuffle_window=2, batch=1)
    assert data.plan.datasets[0].blocks.shard_sizes == tuple(np.bincount(data.indexes[0].columns.shard))
    names = [batch.sources[0].partition(", frame")[0] for batch in take(data, 10)]
    assert len(set(names)) == 10
    in_shards = list(dict.fromkeys(name.partition(",")[0] for name in names))
    first_two = [name for name in names if name.partition(",")[0] in in_shards[:2]]
    assert names[: len(first_two)] == first_two


def test_a_checkpoint_of_two_processes_continues_on_one_if_that_is_allowed(shards):
    two = module(shards, batch=2)
    state = {"consumed": 3, "plan": two.plan.describe(2)}
    with pytest.raises(DataError, match=r"made by 2 processes, now there are 1; .*data\.resume=elastic"):
        module(shards, batch=4).load_state_dict(state)
    one = module(shards, batch=4, resume="elastic")
    one.load_state_dict(state)
    (batch,) = take(one, 1)
    assert batch.step == 3
    names = {one.indexes[0][job.index].key for rank in (0, 1) for job in two.plan.jobs(3, rank, 2)}
    assert {source.split('"')[1] for source in batch.sources} == names


def test_a_stage_limits_strides(shards):
    sampling = SamplingConfig(stride_max=3)
    stage = Stage(until=8, frames=2, stride_max=1)
    spans = {}
    for name, curriculum in (("free", ()), ("tight", (stage,))):
        data = module(shards, sampling=sampling, curriculum=curriculum)
        sources = [source for batch in take(data, 8) for source in batch.sources]
        spans[name] = {
            int(b) - int(a) for a, b in (re.search(r"frames (\d+) to (\d+)", s).groups() for s in sources)
        }
    assert spans["tight"] == {1} and spans["free"] == {1, 2, 3}
    with pytest.raises(DataError, match="stride_max=1 is below sampling.stride_min=2"):
        module(shards, sampling=SamplingConfig(2, 3), curriculum=(stage,))


@pytest.mark.usefixtures("within_ten_seconds")
def test_a_worker_killed_by_the_system_ends_the_run_with_the_cause(shards):
    loader = module(shards, workers=1, prefetch=1).train_dataloader()
    batches = iter(loader)
    assert next(batches).step == 0
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(DataError, match=r"DataLoader worker .*killed.*lower data\.workers"):
        for _ in batches:
            pass


def test_bad_samples_of_an_earlier_run_can_be_left_out(shards, tmp_path, caplog):
    caplog.set_level("INFO", "data")
    first, second = (module(shards, frames=2).indexes[0][i] for i in (2, 7))
    earlier = tmp_path / "runs" / "one" / "log"
    earlier.mkdir(parents=True)
    row = {"dataset": "/elsewhere/videos", "index": 0, "member": "mp4", "error": "cut off", "step": 4}
    lines = [row | {"shard": s.shard, "key": s.key} for s in (first, second)]
    lines.append(row | {"dataset": "/elsewhere/other", "shard": first.shard, "key": "v00"})
    (earlier / "quarantine-rank0.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = module(shards, batch=1, exclude=(tmp_path / "runs" / "one",))
    assert data.plan.datasets[0].size == 8
    assert "data.exclude: 2 of 10 samples of" in caplog.text
    keys = {batch.sources[0].split('"')[1] for batch in take(data, 8)}
    everything = {data.indexes[0][i].key for i in range(10)}
    assert keys == everything - {first.key, second.key}
    assert data.plan.datasets[0].fingerprint != module(shards).plan.datasets[0].fingerprint
    windows = module(
        shards, batch=1, exclude=(tmp_path / "runs" / "one",), shuffle="shards", shuffle_window=1
    )
    assert {batch.sources[0].split('"')[1] for batch in take(windows, 8)} == keys


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: not a line of a quarantine list"),
        ('{"dataset": 1, "shard": "a", "key": "b"}', "must be strings"),
        (None, "expects a quarantine-.*or a run directory"),
    ],
)
def test_a_list_that_is_none_is_refused(shards, tmp_path, text, message):
    if text is not None:
        (tmp_path / "quarantine-rank0.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        module(shards, exclude=(tmp_path,)).train_dataloader()


@pytest.mark.usefixtures("within_ten_seconds")
def test_a_shard_deleted_while_training_runs_is_replaced_and_listed(tmp_path):
    numbered_videos(tmp_path / "sav", 12, frames=4)
    to_shards(tmp_path / "sav", tmp_path / "out")
    config = DataConfig(root=tmp_path / "out", frames=2, workers=0, max_bad_fraction=0.5)
    data = ClipDataModule(config, 32, 1, directory=tmp_path / "log")
    batches = iter(data.train_dataloader())
    first = next(batches).sources[0].partition(",")[0]
    gone = next(path for path in sorted((tmp_path / "out").glob("*.tar")) if path.name != first)
    gone.unlink()
    seen = [next(batches) for _ in range(12)]
    (listed,) = map(json.loads, (tmp_path / "log" / "quarantine-rank0.jsonl").read_text().splitlines())
    assert listed["shard"] == gone.name and "cannot be opened (No such file" in listed["error"]
    assert sum(batch.skipped for batch in seen) == 1


@pytest.mark.parametrize("where", ["worker", "device"])
def test_what_waiting_batches_take_is_said_and_is_what_they_take(shards, caplog, where):
    caplog.set_level("INFO", "data")
    data = module(shards, warp_on=where, workers=2, prefetch=3)
    data.train_dataloader()
    alone = module(shards, warp_on=where)
    for batch in take(alone, 4):
        if where == "device":
            pixels, masks = sum(f.pixels.nbytes for f in batch.frames), batch.rest.masks.nbytes
        else:
            pixels, masks = batch.frames.nbytes, batch.masks.nbytes
        assert pixels + masks <= alone.batch_bytes() < 1.6 * (pixels + masks)
    megabytes = data.batch_bytes() / 1e6
    assert f"2 workers, each up to 3 batches of {megabytes:.1f} MB ahead" in caplog.text
    assert f"{6 * megabytes:.1f} MB of batches a process" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("where", ["worker", "device"])
def test_memory_stays_flat_over_two_thousand_clips(shards, where):
    """A loader of a process of its own, so that nothing else moves: 400 clips to warm up, then 2,000."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from data.config import DataConfig\n"
        "from data.module import ClipDataModule\n"
        "def resident():\n"
        "    pages = Path('/proc/self/statm').read_text().split()[1]\n"
        "    return int(pages) * 4096 / 1e6\n"
        "config = DataConfig(root=Path(sys.argv[1]), frames=4, batch=2, workers=0, warp_on=sys.argv[2])\n"
        "batches = ClipDataModule(config, 64, 1).train_dataloader().batches\n"
        "for step in range(200):\n"
        "    batches[step]\n"
        "before = resident()\n"
        "for step in range(200, 1200):\n"
        "    batches[step]\n"
        "print(resident() - before)\n"
    )
    command = [sys.executable, "-c", code, str(shards / "videos"), where]
    grown = float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)
    assert grown < 10, f"{grown:.1f} MB more after 2,000 clips"


@pytest.mark.parametrize(("device", "kind"), [("cuda", RawBatch), ("cpu", ClipBatch)])
def test_auto_asks_the_trainer_for_its_device_though_the_plan_was_made_before(shards, device, kind):
    data = module(shards)
    assert data.plan.steps_per_epoch(1) == 5  # as a run asks before it has a trainer
    progress = SimpleNamespace(total=SimpleNamespace(processed=0))
    data.trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device(device)),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
        global_rank=0,
        world_size=1,
    )
    assert isinstance(data.train_dataloader().batches[0].batch, kind)
