"""Whose a folder of shards is: the same conversion goes on, any other is refused or, when asked, replaces it whole."""

import json
import re
from pathlib import Path

import pytest

from data.clip import DataError
from data.encode import EncodeOptions
from data.index import ShardIndex
from data.sources import load_source
from data.write import ConvertOptions, convert
from tests.data.sav_folder import SavFolder


class Stop(Exception):
    pass


def to_shards(source, out, media="proxy", stop_after=None, shard_bytes=1, **options):
    """One clip a shard; stops as if it was killed when `stop_after` clips are done."""

    def stop(done, total):
        if done == stop_after:
            raise Stop

    encode = EncodeOptions(media=media, preset="ultrafast")
    return convert(load_source("sav", source), out, ConvertOptions(encode, shard_bytes, **options), stop)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None


def keys(folder):
    index = ShardIndex.load(folder)
    return [index[i].key for i in range(len(index))]


@pytest.fixture
def out(sav, tmp_path):
    """Three clips, converted."""
    for name in "abc":
        sav.add(name, frames=3)
    to_shards(sav.root, tmp_path / "out")
    return tmp_path / "out"


def other_videos(folder, names="abc"):
    """Clips of the same names that are longer."""
    folder.mkdir(exist_ok=True)
    for name in names:
        SavFolder(folder).add(name, frames=4)
    return folder


def test_a_finished_conversion_stays_as_it_is(sav, out):
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert to_shards(sav.root, out).clips == 3
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")} == before


def test_a_conversion_of_another_folder_is_refused_and_both_are_named(sav, out, tmp_path):
    other, before = other_videos(tmp_path / "other"), contents(out)
    message = (
        rf"{out}: holds .* source\.root={sav.root}; asked for source\.root={other}; .*folder, .*--overwrite"
    )
    with pytest.raises(DataError, match=message):
        to_shards(other, out)
    assert contents(out) == before


def test_other_settings_are_refused_and_named(sav, out):
    before = contents(out)
    with pytest.raises(DataError, match=r"options\.media=proxy; asked for options\.media=jpeg"):
        to_shards(sav.root, out, media="jpeg")
    assert contents(out) == before


def rewrite_in_place(root):
    other_videos(root, "b")


def change_one_mask(root):
    found = json.loads((root / "b_manual.json").read_text())
    found["masklet"][1] = found["masklet"][0]
    (root / "b_manual.json").write_text(json.dumps(found))


def remove_one(root):
    for path in root.glob("b*"):
        path.unlink()


def damage_one(root):
    (root / "b_manual.json").write_text("{")


def lose_one_video(root):
    (root / "b.mp4").unlink()


def add_one_before(root):
    SavFolder(root).add("aa", frames=3)


def add_one_after(root):
    SavFolder(root).add("z", frames=3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (rewrite_in_place, r'clip "b" was made from something else than .*b\.mp4 is now'),
        (change_one_mask, r'clip "b" was made from something else than .*b\.mp4 is now'),
        (remove_one, 'clip "b" cannot be read from the source any more'),
        (damage_one, 'clip "b" cannot be read from the source any more'),
        (lose_one_video, 'clip "b" cannot be read from the source any more'),
        (add_one_before, 'clip "aa" of the source is not in them'),
        (add_one_after, 'clip "z" of the source is not in them'),
    ],
)
def test_a_source_that_changed_is_refused_or_replaces_everything(sav, out, tmp_path, change, reason):
    change(sav.root)
    before = contents(out)
    with pytest.raises(
        DataError, match=rf"{out}: holds shards of .*as it was before: {reason}; .*--overwrite"
    ):
        to_shards(sav.root, out)
    assert contents(out) == before
    report = to_shards(sav.root, out, overwrite=True)
    assert report == to_shards(sav.root, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_an_interrupted_conversion_does_not_go_on_with_a_source_that_changed(sav, tmp_path):
    for name in "bcd":
        sav.add(name, frames=3)
    out = tmp_path / "out"
    with pytest.raises(Stop):
        to_shards(sav.root, out, stop_after=2)
    before = contents(out)
    assert sorted(before) == ["000000.tar", "000001.tar", "convert.json"]
    sav.add("a", frames=3)  # comes first now: what is added must not stand between what is there
    with pytest.raises(DataError, match='clip "a" of the source is not in them'):
        to_shards(sav.root, out)
    assert contents(out) == before
    for path in sav.root.glob("a*"):
        path.unlink()
    sav.add("e", frames=3)  # comes last: nothing that is there would be different
    to_shards(sav.root, out)
    to_shards(sav.root, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_overwrite_replaces_shards_index_and_note_and_leaves_other_files(sav, out, tmp_path):
    (out / "README").write_text("mine")
    other = other_videos(tmp_path / "other", "xy")
    report = to_shards(other, out, overwrite=True)
    assert (report.clips, keys(out)) == (2, ["x", "y"])
    assert sorted(contents(out)) == ["000000.tar", "000001.tar", "README", "convert.json", "index.npz"]
    assert json.loads((out / "convert.json").read_text())["source"]["root"] == str(other)


def test_overwrite_goes_on_with_an_interrupted_conversion_of_the_same(sav, tmp_path):
    for name in "abc":
        sav.add(name, frames=3)
    with pytest.raises(Stop):
        to_shards(sav.root, tmp_path / "out", stop_after=2)
    first = (tmp_path / "out" / "000000.tar").stat().st_mtime_ns
    to_shards(sav.root, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "000000.tar").stat().st_mtime_ns == first


def test_wherever_a_replacement_is_cut_short_the_folder_never_holds_two_sources(
    sav, out, tmp_path, monkeypatch
):
    other = other_videos(tmp_path / "other", "xyz")
    whole = contents(out)
    removed, unlink = [], Path.unlink

    for last in range(6):  # index, three shards, note, and then nothing is removed any more

        def cut(path, *args, last=last, **more):
            if len(removed) == last:
                raise Stop
            removed.append(path.name)
            unlink(path, *args, **more)

        removed.clear()
        monkeypatch.setattr(Path, "unlink", cut)
        with pytest.raises(Stop):
            to_shards(other, out, overwrite=True, stop_after=2)
        monkeypatch.undo()
        held = contents(out)
        if any(name.endswith(".tar") for name in held):
            sources = {raw for name, raw in held.items() if name.endswith(".tar")}
            assert sources <= {raw for name, raw in whole.items() if name.endswith(".tar")} or last > 4
            if last:
                with pytest.raises(DataError, match=r"index\.npz: missing"):
                    ShardIndex.load(out)
                assert "report" not in json.loads(held["convert.json"])
        for name in held:
            unlink(out / name)
        for name, raw in whole.items():
            (out / name).write_bytes(raw)
    # and what was cut short can be completed, by either of the two
    to_shards(sav.root, out)
    assert contents(out) == whole


def test_a_replacement_that_finds_no_clip_removes_nothing(out, tmp_path):
    other, before = other_videos(tmp_path / "other", "x"), contents(out)
    (other / "x.mp4").write_bytes(b"")
    with pytest.raises(DataError, match="no clip could be converted"):
        to_shards(other, out, overwrite=True)
    assert contents(out) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_tars_that_no_conversion_wrote_are_left_alone(sav, out, overwrite):
    for foreign in ("000003.tar", "mine.tar"):
        (out / foreign).write_bytes(b"something else" * 100)
        with pytest.raises(DataError, match=rf"{foreign}: not written by a conversion"):
            to_shards(sav.root, out, media="jpeg", overwrite=overwrite)
        (out / foreign).unlink()
    (out / "convert.json").write_text("[]")
    with pytest.raises(DataError, match=r"convert\.json: holds a list, not a note"):
        to_shards(sav.root, out, overwrite=overwrite)
    (out / "convert.json").unlink()
    before = contents(out)
    with pytest.raises(DataError, match=r"holds 000000\.tar, which no conversion noted"):
        to_shards(sav.root, out, overwrite=overwrite)
    assert contents(out) == before


def test_a_missing_or_cut_off_shard_can_only_be_replaced_with_all_others(sav, out):
    whole = contents(out)
    (out / "000001.tar").write_bytes(whole["000001.tar"][:700])
    with pytest.raises(DataError, match=r"000001\.tar: the tar is cut off"):
        to_shards(sav.root, out)
    to_shards(sav.root, out, overwrite=True)
    assert contents(out) == whole
    (out / "000001.tar").unlink()
    with pytest.raises(DataError, match=r"000001\.tar is missing"):
        to_shards(sav.root, out)


def test_shards_that_do_not_say_what_they_were_made_from_are_not_trusted(sav, tmp_path, monkeypatch):
    sav.add("a", frames=3)
    with monkeypatch.context() as earlier_version:
        earlier_version.setattr("data.write.origin_of", lambda video: "")
        to_shards(sav.root, tmp_path / "out")
    with pytest.raises(DataError, match='meta.json of clip "a" does not say what it was made from'):
        to_shards(sav.root, tmp_path / "out")


@pytest.mark.parametrize("out", [".", "inside", "inside/deeper", "..", "link", "link/inside"])
def test_shards_are_never_written_into_around_or_over_the_source(sav, tmp_path, out):
    sav.add("a", frames=3)
    (tmp_path / "link").symlink_to(sav.root)
    where = tmp_path / out if out.startswith("link") else sav.root / out
    before = contents(sav.root)
    with pytest.raises(
        DataError, match=rf"(is the source itself|lies inside|holds the source).* .*such as {sav.root}-shards"
    ):
        to_shards(sav.root, where)
    with pytest.raises(
        DataError, match=rf"(is the source itself|lies inside|holds the source).* .*such as {sav.root}-shards"
    ):
        to_shards(tmp_path / "link", where, overwrite=True)
    assert contents(sav.root) == before


def test_nothing_to_convert_is_an_error_and_leaves_nothing(sav, tmp_path):
    with pytest.raises(DataError, match="found nothing"):
        to_shards(sav.root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    sav.add("a", frames=3)
    (sav.root / "a.mp4").write_bytes(b"")
    with pytest.raises(DataError, match=r"no clip could be converted; the first problem: .*a\.mp4"):
        to_shards(sav.root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_conversion_killed_before_its_first_shard_can_start_again(sav, tmp_path):
    sav.add("a", frames=3).add("b", frames=3)
    with pytest.raises(Stop):
        to_shards(sav.root, tmp_path / "out", stop_after=1, shard_bytes=1 << 30)
    (tmp_path / "out" / ".000000.tar.tmp").write_bytes(b"half")  # kill -9 leaves it
    to_shards(sav.root, tmp_path / "out", shard_bytes=1 << 30)
    assert keys(tmp_path / "out") == ["a", "b"]
    assert re.fullmatch(r"000000\.tar convert\.json index\.npz", " ".join(sorted(contents(tmp_path / "out"))))
