"""The order of imports: only downwards, and so never in a circle."""

import pytest

from lib import floors, provenance


def test_every_import_goes_down_so_there_is_no_circle():
    assert floors.faults() == []


def test_every_module_stands_on_a_floor():
    assert all(0 <= floors.floor_of(name) < len(floors.FLOORS) for name in floors.all_modules())


def test_every_name_on_a_floor_is_a_module():
    listed = {name for members in floors.FLOORS for name in members if not name.endswith(".*")}
    assert listed <= set(floors.all_modules())


def test_no_name_stands_on_two_floors():
    listed = [name for members in floors.FLOORS for name in members]
    assert len(set(listed)) == len(listed)


@pytest.fixture
def planted(monkeypatch):
    """Plants an import into the graph: (importer, imported)."""
    real = provenance.direct_imports

    def plant(importer: str, imported: str) -> None:
        monkeypatch.setattr(
            provenance, "direct_imports", lambda name: real(name) | ({imported} if name == importer else set())
        )

    return plant


def test_an_import_upwards_is_found(planted):
    planted("lib.files", "lib.training")
    below, above = floors.floor_of("files"), floors.floor_of("training")
    assert floors.faults() == [f"lib.files (floor {below}) imports lib.training (floor {above})"]


def test_an_import_on_the_same_floor_is_found(planted):
    assert floors.floor_of("losses") == floors.floor_of("metrics")
    planted("lib.losses", "lib.metrics")
    assert len(floors.faults()) == 1


@pytest.mark.parametrize(
    ("importer", "imported"),
    [("busi", "hc18"), ("own", "busi"), ("phantom", "hc18"), ("lgg", "busi"), ("phantom_volumes", "lgg")],
)
def test_a_data_set_that_imports_another_is_found(planted, importer, imported):
    planted(f"lib.datasets.{importer}", f"lib.datasets.{imported}")
    assert len(floors.faults()) == 1


def test_a_folders_own_members_are_below_it():
    assert floors.floor_of("datasets") > floors.floor_of("datasets.hc18")
    assert floors.floor_of("models") > floors.floor_of("models.unet")
    assert floors.floor_of("figures") > floors.floor_of("figures.charts")


def test_a_found_fault_stands_at_the_end_of_the_drawing(planted):
    planted("lib.files", "lib.training")
    assert floors.drawing().splitlines()[-1] == floors.faults()[0]


def test_the_drawing_lists_every_module():
    listed = {line.split()[0] for line in floors.drawing().splitlines() if line.startswith("  ")}
    assert listed == set(floors.all_modules())


def test_a_module_on_no_floor_is_named_with_what_to_do():
    with pytest.raises(ValueError, match=r"lib\.wanderer is on no floor; add it to FLOORS in lib/floors\.py"):
        floors.floor_of("wanderer")
