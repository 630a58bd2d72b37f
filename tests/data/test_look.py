import os

import pytest

from data.look import look


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], "nothing"),
        ([".hidden"], "nothing"),
        (["b.mp4", "a.mp4", "a_manual.json"], "videos (a.mp4, ...)"),
        (["sav_000/a.mp4"], "videos (sav_000/a.mp4)"),
        (["train/JPEGImages/", "train/Annotations/"], "JPEGImages/ and Annotations/ in train/ (frames and"),
        (["d.txt", "c.txt", "b/", "a.txt"], "a.txt, b/, c.txt, ..."),
    ],
)
def test_a_folder_is_told_by_what_is_in_it(tmp_path, entries, expected):
    for entry in entries:
        path = tmp_path / entry
        if entry.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(exist_ok=True)
            path.touch()
    assert look(tmp_path).startswith(expected)


def test_of_a_huge_folder_only_the_beginning_is_looked_at(tmp_path, monkeypatch):
    scanned = []
    whole = os.scandir

    class Spy:
        def __init__(self, path):
            self.entries = whole(path)

        def __enter__(self):
            return (scanned.append(entry) or entry for entry in self.entries)

        def __exit__(self, *_):
            self.entries.close()

    for k in range(1200):
        (tmp_path / f"{k}.txt").touch()
    monkeypatch.setattr(os, "scandir", Spy)
    look(tmp_path)
    assert len(scanned) <= 1000
