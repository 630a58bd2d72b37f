"""Pictures that arrive by themselves: nothing lost or dropped unnoticed, every end and failure told, no thread left."""

from __future__ import annotations

import gc
import http.server
import socket
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial

import av
import numpy as np
import pytest

import sam2.source_address
from sam2.source_address import Address, address_of
from sam2.streaming_source import SourceError, _Queue, open_source
from tests.sam2.numbered_videos import HEIGHT, WIDTH, number_in, write_video

FRAMES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    write_video(folder / "video.mp4", frames=FRAMES, g="10", container_movflags="faststart")
    write_video(folder / "video.ts", frames=FRAMES, g="10")
    return folder


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert wait_until(lambda: not set(threading.enumerate()) - before), threading.enumerate()


def wait_until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files; of those that are asked for as `?cut`, the first half, for all that it announces."""

    def log_message(self, *args):
        pass

    def copyfile(self, source, outputfile):
        raw = source.read()
        try:
            outputfile.write(raw[: len(raw) // 2] if "?cut" in self.path else raw)
        except ConnectionError:
            pass  # the reader has seen enough


@contextmanager
def served(folder):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def endless(monkeypatch):
    """A camera that never stops: FFmpeg's test pattern, as fast as it is read."""
    pattern = Address("camera 0", f"testsrc=size={WIDTH}x{HEIGHT}:rate=25", True, "lavfi")
    monkeypatch.setattr(sam2.source_address, "_camera", lambda number: pattern)


@pytest.mark.parametrize("name", ["video.mp4", "video.ts"])
def test_a_file_gives_every_picture_with_number_and_time(folder, name):
    with open_source(folder / name) as source:
        frames = list(source)
    assert source.when_full == "block" and source.dropped == source.damaged == 0
    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert [number_in(frame.image) for frame in frames] == list(range(FRAMES))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(FRAMES) / 24, atol=1e-3)
    assert frames[0].image.shape == (HEIGHT, WIDTH, 3) and frames[0].image.dtype == np.uint8


def test_a_rotated_file_comes_upright(tmp_path):
    with open_source(write_video(tmp_path / "v.mp4", frames=3, rotation=90)) as source:
        assert [number_in(frame.image) for frame in source] == [0, 1, 2]


@pytest.mark.parametrize("name", ["video.mp4", "video.ts"])
def test_a_stream_is_read_over_http(folder, name):
    with served(folder) as url, open_source(f"{url}/{name}", when_full="block") as source:
        assert [number_in(frame.image) for frame in source] == list(range(FRAMES))


def test_what_is_dropped_for_a_slow_reader_is_counted(folder):
    with served(folder) as url, open_source(f"{url}/video.ts", queue=3) as source:
        assert source.when_full == "drop_oldest"
        received = [next(source)]
        assert wait_until(lambda: source._queue._has_ended)
        received += source
    numbers = [number_in(frame.image) for frame in received]
    assert numbers == [frame.index for frame in received], "a number tells how many were left out before"
    assert numbers[-3:] == [FRAMES - 3, FRAMES - 2, FRAMES - 1], "the newest are kept"
    assert source.dropped + len(received) == FRAMES and source.dropped >= FRAMES - 5


def test_block_loses_nothing_however_slow_the_reader(folder):
    with open_source(folder / "video.mp4", queue=1, when_full="block") as source:
        numbers = []
        for frame in source:
            numbers.append(number_in(frame.image))
            time.sleep(0.002)
    assert numbers == list(range(FRAMES)) and source.dropped == 0


@pytest.mark.parametrize("when_full", ["block", "drop_oldest"])
def test_closing_ends_an_endless_source(endless, when_full):
    with open_source(0, when_full=when_full) as source:
        frame = next(source)
        assert frame.image.shape == (HEIGHT, WIDTH, 3)
        assert frame.time_s == pytest.approx(frame.index / 25)
        source.close()
        assert list(source) == []


def test_a_reader_that_fails_closes_the_source(endless):
    with pytest.raises(KeyError), open_source(0):
        raise KeyError


def test_a_source_that_is_forgotten_ends(endless):
    source = open_source(0, when_full="block")
    next(source)
    thread = source._thread
    del source
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def test_closing_ends_the_wait_for_a_picture():
    waiting = _Queue(1, "block")
    found = []
    reader = threading.Thread(target=lambda: found.append(waiting.get()))
    reader.start()
    waiting.close()
    reader.join(5)
    assert found == [None]


def test_a_source_that_never_answers_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/video.ts"
        with pytest.raises(SourceError, match=rf"{url}: cannot be opened \(silent for too long"):
            open_source(url, timeout_s=0.3)


def test_a_stream_that_falls_silent_is_an_error(folder):
    raw = (folder / "video.ts").read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(9999)
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n" + raw)
                done.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/video.ts"
        numbers = []
        try:
            with (
                pytest.raises(SourceError, match=r"video\.ts: broke off \(silent for too long"),
                open_source(url, timeout_s=0.5, when_full="block", options={"probesize": "4096"}) as source,
            ):
                for frame in source:
                    numbers.append(number_in(frame.image))
        finally:
            done.set()
            thread.join()
    assert numbers == list(range(len(numbers))) and len(numbers) > FRAMES // 2, "what came before is not lost"


def test_a_broken_stream_is_one_error_after_what_came_before(folder):
    with served(folder) as url, open_source(f"{url}/video.ts?cut", when_full="block") as source:
        numbers = []
        with pytest.raises(SourceError, match=r"video\.ts\?\*\*\*: broke off") as caught:
            for frame in source:
                numbers.append(number_in(frame.image))
        assert "\n" not in str(caught.value)
        with pytest.raises(SourceError):
            next(source)
    assert len(numbers) >= 5 and numbers == sorted(numbers)


def test_a_file_that_is_cut_off_says_so(folder, tmp_path):
    raw = (folder / "video.mp4").read_bytes()
    with av.open(str(folder / "video.mp4")) as container:
        whole = sorted(packet.pos for packet in container.demux(video=0) if packet.size)[20]
    (tmp_path / "cut.mp4").write_bytes(raw[:whole])
    with (
        pytest.raises(SourceError, match=r"cut\.mp4: cut off after 20 of 40 frames"),
        open_source(tmp_path / "cut.mp4") as source,
    ):
        list(source)


def test_a_live_source_survives_what_ends_a_file(folder, tmp_path):
    raw = bytearray((folder / "video.mp4").read_bytes())
    with av.open(str(folder / "video.mp4")) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][12]
    raw[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    (tmp_path / "torn.mp4").write_bytes(raw)
    with (
        pytest.raises(SourceError, match=r"torn\.mp4: damaged or cut off near frame 1"),
        open_source(tmp_path / "torn.mp4") as file,
    ):
        list(file)
    with served(tmp_path) as url, open_source(f"{url}/torn.mp4", when_full="block") as source:
        assert len(list(source)) == FRAMES - 1 and source.damaged == 1


BAD = {
    "missing.mp4": "no such file",
    "folder": "is a folder",
    "text.mp4": "cannot be opened",
    "list.m3u8": "cannot be opened",
    "http://127.0.0.1:9/video.mp4": "cannot be opened",
    "nonsense://host/x": "cannot be opened",
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_opened_is_named(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.mp4").write_text("no video\n" * 99)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nvideo.ts\n")
    with pytest.raises(SourceError, match=BAD[name]) as caught:
        open_source(name if "://" in name else tmp_path / name, timeout_s=2)
    assert name in str(caught.value)


def test_no_password_is_told():
    url = "rtsp://anna:sec@ret@127.0.0.1:9/door?token=hidden"
    with pytest.raises(SourceError, match=r"rtsp://\*\*\*@127\.0\.0\.1:9/door\?\*\*\*: ") as caught:
        open_source(url, timeout_s=2)
    assert not {"anna", "sec", "ret@", "hidden"} & set(str(caught.value).split()) and "hidden" not in str(
        caught.value
    )


def test_digits_are_a_camera_unless_a_file_has_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=r"camera 97: "):
        address_of("97")
    (tmp_path / "97").write_bytes(b"")
    assert address_of("97").file == str(tmp_path / "97")


def test_a_camera_that_is_not_there_is_an_error():
    with pytest.raises(SourceError, match=r"camera 97: "):
        open_source(97)


@pytest.mark.parametrize(("system", "format"), [("darwin", "avfoundation"), ("linux", "v4l2")])
def test_cameras_are_asked_for_as_the_system_has_them(monkeypatch, system, format):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(sam2.source_address.Path, "exists", lambda path: True)
    address = address_of(3)
    assert (address.format, address.is_live) == (format, True) and "3" in address.file


def test_a_windows_camera_is_found_by_its_number(monkeypatch):
    import av.device

    listed = [
        av.device.DeviceInfo("mic", "Microphone", False, ["audio"]),
        av.device.DeviceInfo("cam", "Camera", True, ["video"]),
    ]
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(av.device, "enumerate_input_devices", lambda name: listed)
    assert address_of(0) == Address("camera 0", "video=cam", True, "dshow")
    with pytest.raises(SourceError, match="camera 1: there is no such camera; found Camera"):
        address_of(1)


def test_senseless_arguments_are_refused(folder):
    for wrong in ({"queue": 0}, {"when_full": "drop"}, {"timeout_s": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            open_source(folder / "video.mp4", **wrong)
    for wrong in (None, True, 1.5):
        with pytest.raises(TypeError, match="expected a path, a URL or a camera's number"):
            open_source(wrong)
