import json

import pytest

from data.clip import DataError
from data.quarantine import BadSample, Quarantine, SampleError, allowed_bad, open_index
from tests.data.shards import numbered_videos, to_shards


def bad(index, dataset="videos"):
    return BadSample(
        dataset, index, "000000.tar", f"v{index:02d}", "mp4", f"000000.tar, clip {index}: broken", 7
    )


@pytest.mark.parametrize(
    ("seen", "samples", "fraction", "allowed"),
    [
        (10, 50_000, 0.01, 10),  # the start of a large run
        (5_000, 50_000, 0.01, 50),
        (10**7, 50_000, 0.01, 500),  # many epochs later
        (10**7, 12, 0.01, 1),  # a tiny data set
        (10, 300, 0.01, 3),
        (10, 300, 0.0, 0),
        (10, 300, 1.0, 300),
    ],
)
def test_so_many_bad_samples_are_allowed(seen, samples, fraction, allowed):
    assert allowed_bad(seen, samples, fraction) == allowed


def test_one_bad_sample_of_a_tiny_data_set_is_listed_once_and_lets_the_run_go_on(tmp_path):
    quarantine = Quarantine(tmp_path, rank=3, samples=12, max_bad_fraction=0.01)
    for epoch in range(50):
        quarantine.add([bad(4)], seen=12 * (epoch + 1))
    lines = (tmp_path / "quarantine-rank3.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["v04"]
    assert json.loads(lines[0]) == bad(4).__dict__
    with pytest.raises(
        DataError, match=r"2 bad samples among 12 \(listed in .*rank3\.jsonl\).*clip 5: broken"
    ):
        quarantine.add([bad(4), bad(5)], seen=700)


def test_the_same_number_in_two_data_sets_is_two_samples():
    quarantine = Quarantine(None, 0, 1000, 0.01)
    quarantine.add([bad(1), bad(1, "images"), bad(1)], seen=10)
    assert len(quarantine) == 2


def test_a_large_run_stops_above_the_fraction():
    quarantine = Quarantine(None, 0, 100_000, 0.01)
    quarantine.add(map(bad, range(10)), seen=20)
    with pytest.raises(DataError, match="11 bad samples among 20, data.max_bad_fraction=0.01 allows 10"):
        quarantine.add([bad(10)], seen=20)


def test_no_bad_sample_is_allowed_where_none_is():
    with pytest.raises(DataError, match="allows 0"):
        Quarantine(None, 0, 100, 0.0).add([bad(1)], seen=1)


def test_a_resumed_run_knows_what_was_found_before_it_was_killed(tmp_path):
    Quarantine(tmp_path, 0, 12, 0.01).add([bad(4)], seen=1)
    path = tmp_path / "quarantine-rank0.jsonl"
    path.write_text(path.read_text() + '{"dataset": "vid')  # killed while it wrote
    again = Quarantine(tmp_path, 0, 12, 0.01)
    again.add([bad(4)], seen=2)
    assert len(again) == 1
    with pytest.raises(DataError, match="2 bad samples"):
        again.add([bad(6)], seen=3)
    assert [json.loads(line)["index"] for line in path.read_text().splitlines()] == [4, 6]


def test_a_list_of_something_else_is_refused(tmp_path):
    (tmp_path / "quarantine-rank0.jsonl").write_text('{"name": 1}\n')
    with pytest.raises(DataError, match=r"quarantine-rank0\.jsonl: not a list of bad samples"):
        Quarantine(tmp_path, 0, 12, 0.01)


def test_an_error_says_where_only_once():
    inner = SampleError("is empty", "a.tar", "v1", "mp4")
    assert str(SampleError(str(inner), "a.tar", "v1", "mp4")) == 'a.tar, clip "v1", mp4: is empty'


@pytest.mark.usefixtures("within_ten_seconds")
def test_a_shard_damaged_since_it_was_indexed_is_let_pass_if_it_holds_few_samples(tmp_path, caplog):
    numbered_videos(tmp_path / "sav", 4, frames=2)
    out = tmp_path / "out"
    index = to_shards(tmp_path / "sav", out)
    assert open_index(out, 0.01).fingerprint == index.fingerprint
    (out / "000001.tar").write_bytes(b"cut")
    assert open_index(out, 0.01).fingerprint == index.fingerprint  # so the plan of the run stays what it was
    assert "1 of 4 samples will be replaced" in caplog.text and "000001.tar has 3 bytes" in caplog.text
    with pytest.raises(DataError, match="000001.tar has 3 bytes"):
        open_index(out, 0.0)
    (out / "000002.tar").unlink()
    with pytest.raises(DataError, match="000001.tar has 3 bytes"):
        open_index(out, 0.01)
    assert open_index(out, 0.5).fingerprint == index.fingerprint


def test_a_shard_that_is_not_indexed_is_never_let_pass(tmp_path):
    numbered_videos(tmp_path / "sav", 2, frames=2)
    out = tmp_path / "out"
    to_shards(tmp_path / "sav", out)
    (out / "000009.tar").write_bytes((out / "000001.tar").read_bytes())
    with pytest.raises(DataError, match="000009.tar"):
        open_index(out, 1.0)
    (out / "index.npz").unlink()
    with pytest.raises(DataError, match="index.npz: missing"):
        open_index(out, 1.0)
