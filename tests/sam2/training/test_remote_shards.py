"""Videos of one's own that lie behind an address are evaluated as those of a folder."""

import numpy as np

from sam2.training.benchmark_job import _shards
from tests.data.servers import FileServer
from tests.data.shards import numbered_videos, to_shards


def test_an_address_and_a_folder_hold_the_same_videos_to_evaluate(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SLURM_TMPDIR", raising=False)
    numbered_videos(tmp_path / "sav", 2)
    to_shards(tmp_path / "sav", tmp_path / "videos")
    with FileServer(tmp_path / "videos").running() as server:
        local, remote = _shards(str(tmp_path / "videos"), 32), _shards(server.url, 32)
        for one, other in zip(local.videos, remote.videos, strict=True):
            assert one.name == other.name
            masks = [video.true_masks(3) for video in (one, other)]
            assert masks[0].keys() == masks[1].keys()
            assert all(np.array_equal(masks[0][k], masks[1][k]) for k in masks[0])
    assert not list((tmp_path / "cache").rglob("*.tar"))  # ranges alone were read
