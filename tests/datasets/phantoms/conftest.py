import pytest

from tests.datasets.phantoms import builders


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Folder with one phantom per writer."""
    root = tmp_path_factory.mktemp("phantoms")
    for name, (write, subjects, _) in builders.WRITERS.items():
        (root / name).mkdir()
        write(root / name, subjects, builders.SEED)
    return root
