import signal

import pytest

from tests.data.sav_folder import SavFolder


@pytest.fixture
def sav(tmp_path):
    """An empty folder to fill with clips in SA-V's layout."""
    root = tmp_path / "sav"
    root.mkdir()
    return SavFolder(root)


@pytest.fixture
def within_ten_seconds():
    """Whatever is wrong with the data, there is an answer in time: what hangs fails."""

    def late(*_):
        raise TimeoutError("no answer within 10 seconds")

    earlier = signal.signal(signal.SIGALRM, late)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, earlier)
