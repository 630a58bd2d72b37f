import pytest

from tests.data.sav_folder import SavFolder


@pytest.fixture
def sav(tmp_path):
    """An empty folder to fill with clips in SA-V's layout."""
    root = tmp_path / "sav"
    root.mkdir()
    return SavFolder(root)
