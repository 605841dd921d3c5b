import pytest

from lib.study import system_files


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, True) for name in (".DS_Store", "._a.png", ".Trash-1000", ".~lock.cases.csv#", ".ipynb_checkpoints")),
        *(
            (name, True)
            for name in ("Thumbs.db", "THUMBS.DB", "desktop.ini", "$RECYCLE.BIN", "System Volume Information")
        ),
        *((name, True) for name in ("@eaDir", "#recycle", "__MACOSX", "lost+found", "Icon\r", "~$cases.xlsx")),
        *((name, True) for name in ("@__thumb", "a.png@SynoEAStream", "a.png:AFP_AfpInfo", "Photothumb.db")),
        *(
            (name, False)
            for name in ("icon.png", "thumbs.png", "a~1.png", "@a.png", "#1.png", "recycle", "$1.png", "~a")
        ),
    ],
)
def test_names_of_systems_and_programs_are_told_from_those_of_data(name, expected):
    assert system_files.is_system(name) == expected


def test_a_tree_is_walked_without_the_system_s_folders(tmp_path):
    for name in ("b/c.png", "a.png", "b/@eaDir/c.png/thumb.jpg", "b/._c.png", "lost+found/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [[path.relative_to(tmp_path).as_posix() for path in paths] for paths in system_files.walk(tmp_path)]
    assert found == [["a.png", "b/c.png"], ["b/._c.png", "b/@eaDir", "lost+found"]]
    assert [path.name for path in system_files.visible(tmp_path)] == ["a.png", "b"]
    assert system_files.walk(tmp_path / "missing") == ([], [])


def test_links_to_folders_are_followed_without_end_and_each_one_shows_where_it_leads(tmp_path):
    for name in ("data/a.png", "store/one/b.png", "store/two/b.png", "store/two/.DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    links = {"data/images": "store/two", "data/up": ".", "data/self": "data", "data/none": "missing"}
    links |= {"store/one/two": "store/two", "store/two/one": "store/one", "data/again": "store/two"}
    for name, target in links.items():
        (tmp_path / name).symlink_to(tmp_path / target)
    found = [
        [path.relative_to(tmp_path / "data").as_posix() for path in part]
        for part in system_files.walk(tmp_path / "data")
    ]
    both = [[f"{name}/b.png", f"{name}/one/b.png"] for name in ("again", "images")]
    assert found == [["a.png", *both[0], *both[1]], ["again/.DS_Store", "images/.DS_Store"]]
