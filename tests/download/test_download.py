"""Data sets fetched from a server on this machine: whole, checked, counted, and left alone when they are there."""

import json
import shutil
import signal
import zipfile
from pathlib import Path

import pooch
import pytest
import yaml

from lib import datasets
from lib.__main__ import main
from lib.download import download, http, sources, unpacking
from lib.study import files
from tests import builders, builders_brain
from tests.builders_web import Page, serving
from tests.conftest import python

SHARED = files.ROOT.parent / "shared" / "data"
TABLE = "training_set_pixel_size_and_HC.csv"
NAMES = ("hc18", "lgg", "brain_structures", "ultrasound_fetus", "busi", "landmarks")


def zipped(folder: Path, path: Path, inside: str = "") -> Path:
    """All files of a folder as a zip file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in sorted(folder.rglob("*")):
            if each.is_file():
                archive.write(each, inside + each.relative_to(folder).as_posix())
    return path


def one_file(path: Path, name: str, **changes: object) -> dict:
    """An entry of `files` that knows everything of a file."""
    hashes = {kind: pooch.file_hash(str(path), kind) for kind in ("md5", "sha256")}
    return {"name": name, "url": f"{name}/content", "size": path.stat().st_size} | hashes | changes


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """HC18 in small as its publisher gives it: a zip of the images, and a table."""
    folder = tmp_path_factory.mktemp("published")
    drawn = builders.heads(5)
    builders.write_hc18(folder / "hc18", drawn)
    shutil.move(folder / "hc18" / TABLE, folder / TABLE)
    zipped(folder / "hc18", folder / "training_set.zip")
    return folder


class World:
    """A root for data, a server, and a sources.yaml with hc18 on it."""

    def __init__(self, root, site, published, write):
        self.root, self.site, self.published, self.write = root, site, published, write
        self.said, self.shown, self.asked_when_said = [], [], []

    def download(self, *urls, name="hc18"):
        del self.said[:], self.shown[:], self.asked_when_said[:]

        def say(text):
            self.said.append(text)
            self.asked_when_said.append(len(self.site.asked))

        ready = download.download(name, self.root, urls, say, self.shown.append)
        return ready, "\n".join(self.said)

    def change(self, **changes):
        self.write(self.source | changes)

    def file(self, place, **changes):
        """Changes what is known of one file."""
        self.source["files"][place] |= changes
        self.write(self.source)

    def archives(self):
        return self.root / ".downloads" / "hc18"

    def left(self):
        """What lies in the root, lock files left out."""
        return sorted(path.name for path in self.root.iterdir() if path.suffix != ".lock")


@pytest.fixture
def world(tmp_path, monkeypatch, published):
    monkeypatch.setattr(http, "WAITS_S", (0, 0, 0))
    monkeypatch.setattr(http, "CHUNK_BYTES", 4096)  # the files are small
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    path = tmp_path / "sources.yaml"
    monkeypatch.setattr(download, "SOURCES", path)
    with serving() as site:
        made = World(
            tmp_path / "raw", site, published, lambda source: path.write_text(yaml.safe_dump({"hc18": source}))
        )
        made.source = {
            "title": "Heads",
            "record": "https://doi.org/10.1/heads",
            "licence": "CC BY-NC 4.0",
            "citation": "hc18",
            "login": None,
            "base": f"{site.address}/files/",
            "files": [one_file(published / name, name) for name in ("training_set.zip", TABLE)],
            "also_named": [],
            "leave_out": [],
            "nested": [],
            "limits": {"download_bytes": 10_000_000, "members": 100, "unpacked_bytes": 10_000_000},
            "expected": {"cases": 5, "subjects": 4, "rows": {TABLE: 5}, "sure": True},
            "notes": "Drawn.",
        }
        made.change()
        for name in ("training_set.zip", TABLE):
            site.pages[f"/files/{name}/content"] = Page((published / name).read_bytes())
        yield made


def test_a_data_set_is_fetched_unpacked_counted_and_recorded(world):
    ready, text = world.download()
    assert ready
    target = world.root / "hc18"
    assert {case.name for case in datasets.DATASETS["hc18"].find_cases(target, [])[0]} == {
        head.name for head in builders.heads(5)
    }
    assert text.splitlines()[-2] == f"{target}: 5 rows in {TABLE}, 5 cases, 4 subjects; 11 files"
    assert world.left() == [".downloads", "hc18"]
    assert sorted(path.name for path in world.archives().iterdir()) == ["training_set.zip", TABLE]
    record = json.loads((target / "download.json").read_text())
    assert record["counts"] == {"cases": 5, "subjects": 4, TABLE: 5}
    assert record["licence"] == "CC BY-NC 4.0"
    assert len(record["files"]) == 11
    assert record["files"][TABLE] == files.sha256(world.published / TABLE)
    fetched = record["fetched"][0]
    assert fetched == {
        "name": "training_set.zip",
        "url": f"{world.site.address}/files/training_set.zip/content",
        "bytes": (world.published / "training_set.zip").stat().st_size,
        "sha256": files.sha256(world.published / "training_set.zip"),
        "checked": "sha256 and md5 as registered",
    }


def test_the_licence_is_said_before_anything_is_asked_for(world):
    world.download()
    place = next(
        place for place, text in enumerate(world.said) if "licence: CC BY-NC 4.0; not for commercial use" in text
    )
    assert world.asked_when_said[place] == 0
    assert len(world.site.asked) == 2
    assert f"to {world.root / 'hc18'}" in world.said[place]


def test_a_data_set_that_is_there_is_verified_and_not_fetched_again(world):
    world.download()
    before = len(world.site.asked)
    ready, text = world.download()
    assert ready
    assert text == f"{world.root / 'hc18'}: is there, nothing fetched; all 11 files have the hashes of download.json"
    assert len(world.site.asked) == before


def test_what_changed_since_is_named(world):
    world.download()
    target = world.root / "hc18"
    (target / TABLE).write_bytes(b"other")
    (target / "training_set" / "000_HC.png").unlink()
    (target / "training_set" / "more.png").write_bytes(b"more")
    (target / ".DS_Store").write_bytes(b"of a file manager")
    with pytest.raises(ValueError, match="since it was unpacked; remove the folder to have it unpacked again") as error:
        world.download()
    assert f"1 changed: {TABLE}; 1 missing: training_set/000_HC.png; 1 added: training_set/more.png since" in str(
        error.value
    )
    assert (target / TABLE).read_bytes() == b"other"


def test_a_folder_that_was_removed_is_unpacked_again_without_fetching(world):
    world.download()
    before = len(world.site.asked)
    shutil.rmtree(world.root / "hc18")
    _, text = world.download()
    assert f"{world.archives() / 'training_set.zip'}: is there, not fetched" in text
    assert len(world.site.asked) == before
    assert (world.root / "hc18" / "download.json").is_file()


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_file_with_another_hash_is_refused(world, kind):
    length = {"sha256": 64, "md5": 32}[kind]
    world.file(0, **{kind: "0" * length})
    with pytest.raises(ValueError, match=rf"(?i)training_set\.zip.*{'0' * length}"):
        world.download()
    assert not (world.root / "hc18").exists()


def test_a_file_without_a_known_hash_is_fetched_and_called_unverified(world):
    world.file(0, md5=None, sha256=None, size=None)
    _, text = world.download()
    sha256 = files.sha256(world.published / "training_set.zip")
    assert f"sha256 {sha256}, not verified against the publisher, no checksum is known" in text
    record = json.loads((world.root / "hc18" / "download.json").read_text())
    assert record["fetched"][0]["checked"] == "not verified against the publisher, no checksum is known"
    assert "2 files, size not published" in text


def test_a_size_that_is_not_the_registered_one_is_refused(world):
    world.file(0, size=17)
    with pytest.raises(ValueError, match=r"the server announces \d+ bytes; expected 17 bytes"):
        world.download()
    assert world.left() == [".downloads"]


def test_a_download_that_broke_off_goes_on_in_the_next_call(world):
    page = world.site.pages["/files/training_set.zip/content"]
    page.breaks = [10_000, 0, 0, 0]
    assert len(page.body) > 10_000
    with pytest.raises(ValueError, match=r"8\.2 kB kept, to go on with by the same command"):
        world.download()
    assert world.left() == [".downloads"]
    world.download()
    assert "bytes=8192-" in [asked for _, asked in world.site.asked]
    assert (world.root / "hc18" / "download.json").is_file()
    assert sorted(path.name for path in world.archives().iterdir()) == ["training_set.zip", TABLE]


def test_archives_that_were_put_there_by_hand_are_used(world):
    world.archives().mkdir(parents=True)
    for name in ("training_set.zip", TABLE):
        shutil.copy(world.published / name, world.archives())
    world.download()
    assert world.site.asked == []
    assert (world.root / "hc18" / "download.json").is_file()


def test_a_wrong_archive_that_was_put_there_by_hand_is_named_and_left(world):
    world.archives().mkdir(parents=True)
    (world.archives() / "training_set.zip").write_bytes(b"half")
    with pytest.raises(
        ValueError, match=r"training_set\.zip: sha256 \w{64}; expected \w{64}; remove it to fetch it again"
    ):
        world.download()
    assert (world.archives() / "training_set.zip").read_bytes() == b"half"
    assert world.site.asked == []


LOGIN = {"site": "Kaggle", "steps": ["Open the page and sign in.", "Move archive.zip to {folder}/"]}


@pytest.fixture
def guarded(world):
    """A data set of one zip on a site that wants a login."""
    whole = world.published / "whole"
    if not whole.exists():
        shutil.copytree(world.published / "hc18", whole)
        shutil.copy(world.published / TABLE, whole)
    path = zipped(whole, world.published / "archive.zip")
    world.source["files"] = [one_file(path, "heads.zip", url=None, size=None, md5=None, sha256=None)]
    world.change(login=LOGIN, also_named=["archive.zip"])
    return world


def test_a_login_is_asked_for_with_every_step_and_nothing_is_fetched(guarded):
    ready, text = guarded.download()
    assert not ready
    assert text.splitlines() == [
        "Heads, https://doi.org/10.1/heads",
        "licence: CC BY-NC 4.0; not for commercial use; cite it (key hc18 in reports/template/references.bib)",
        "note: Drawn.",
        "Kaggle gives it only after a login, so nothing was fetched:",
        "  1. Open the page and sign in.",
        f"  2. Move archive.zip to {guarded.archives()}/",
        "Then, in the project's folder: python -m lib download hc18",
        "With an address that needs no login: python -m lib download hc18 --url <address of the zip>",
    ]
    assert guarded.archives().is_dir()
    assert guarded.site.asked == []
    assert not (guarded.root / "hc18").exists()


@pytest.mark.parametrize("name", ["heads.zip", "archive.zip"])
def test_after_the_login_the_archive_is_unpacked_under_either_name(guarded, name):
    guarded.download()
    shutil.copy(guarded.published / "archive.zip", guarded.archives() / name)
    ready, text = guarded.download()
    assert ready
    assert "5 cases, 4 subjects" in text


def test_an_address_given_by_hand_needs_no_login(guarded):
    guarded.site.pages["/mirror/x.zip"] = Page((guarded.published / "archive.zip").read_bytes())
    ready, text = guarded.download(f"{guarded.site.address}/mirror/x.zip")
    assert ready
    assert f"heads.zip from {guarded.site.address}/mirror/x.zip" in text


def test_addresses_given_by_hand_take_the_place_of_the_registered_ones(world):
    for number, name in enumerate(("training_set.zip", TABLE)):
        world.site.pages[f"/{number}"] = world.site.pages.pop(f"/files/{name}/content")
    world.download(f"{world.site.address}/0", f"{world.site.address}/1")
    assert [path for path, _ in world.site.asked] == ["/0", "/1"]


def test_a_folder_given_by_hand_holds_all_files_by_name(world):
    for name in ("training_set.zip", TABLE):
        world.site.pages[f"/mirror/{name}"] = world.site.pages.pop(f"/files/{name}/content")
    world.download(f"{world.site.address}/mirror/")
    assert [path for path, _ in world.site.asked] == ["/mirror/training_set.zip", f"/mirror/{TABLE}"]


def test_a_mirror_is_checked_like_the_publisher(world):
    for name in ("training_set.zip", TABLE):
        world.site.pages[f"/mirror/{name}"] = Page((world.published / TABLE).read_bytes())
    with pytest.raises(ValueError, match=r"announces \d+ bytes; expected \d+ bytes"):
        world.download(f"{world.site.address}/mirror/")


def test_too_few_addresses_are_refused_with_the_names_of_the_files(world):
    with pytest.raises(ValueError, match=rf"--url: 1 addresses for 2 files; .*ends with /: training_set\.zip, {TABLE}"):
        world.download(f"{world.site.address}/0")
    assert world.site.asked == []


def test_other_counts_than_expected_are_refused_and_nothing_is_kept(world):
    world.change(expected={"cases": 999, "subjects": 4, "rows": {}, "sure": True})
    with pytest.raises(ValueError, match=r"hc18: not kept: 5 cases; expected 999"):
        world.download()
    assert world.left() == [".downloads"]


def test_other_counts_than_reported_ones_are_a_warning(world):
    world.change(expected={"cases": 999, "subjects": None, "rows": {}, "sure": False})
    _, text = world.download()
    assert "warning: 5 cases; expected 999 (a count that others report)" in text
    assert (world.root / "hc18" / "download.json").is_file()


def test_a_table_of_other_length_is_refused(world):
    world.change(expected={"cases": None, "subjects": None, "rows": {TABLE: 6}, "sure": True})
    with pytest.raises(ValueError, match=f"not kept: 5 rows in {TABLE}; expected 6"):
        world.download()


def test_a_missing_table_is_named(world):
    world.change(expected={"cases": None, "subjects": None, "rows": {"absent.csv": 6}, "sure": True})
    with pytest.raises(ValueError, match=r"absent\.csv: missing"):
        world.download()
    assert world.left() == [".downloads"]


def test_another_layout_than_the_readers_is_refused_and_nothing_is_kept(world, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.png").write_bytes(b"one")
    path = zipped(tmp_path / "other", tmp_path / "training_set.zip")
    world.file(0, **one_file(path, "training_set.zip"))
    world.site.pages["/files/training_set.zip/content"] = Page(path.read_bytes())
    with pytest.raises(ValueError, match="expected HC18's layout"):
        world.download()
    assert world.left() == [".downloads"]


def test_a_hostile_archive_leaves_nothing(world, tmp_path):
    path = tmp_path / "training_set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("training_set/000_HC.png", b"one")
        archive.writestr("../../outside.png", b"two")
    world.file(0, **one_file(path, "training_set.zip"))
    world.site.pages["/files/training_set.zip/content"] = Page(path.read_bytes())
    with pytest.raises(ValueError, match=r"member '\.\./\.\./outside\.png' is named by a path with \.\."):
        world.download()
    assert world.left() == [".downloads"]
    assert not (tmp_path / "outside.png").exists()


def test_an_archive_that_swells_after_a_sound_one_leaves_nothing(world, tmp_path):
    path = tmp_path / "training_set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("training_set/000_HC.png", bytes(9_000_000))
    world.file(0, **one_file(path, "training_set.zip"))
    world.site.pages["/files/training_set.zip/content"] = Page(path.read_bytes())
    with pytest.raises(ValueError, match="a zip bomb"):
        world.download()
    assert world.left() == [".downloads"]


def test_a_file_that_an_archive_holds_as_well_is_refused(world, tmp_path):
    shutil.copytree(world.published / "hc18", tmp_path / "whole")
    shutil.copy(world.published / TABLE, tmp_path / "whole")
    path = zipped(tmp_path / "whole", tmp_path / "training_set.zip")
    world.file(0, **one_file(path, "training_set.zip"))
    world.site.pages["/files/training_set.zip/content"] = Page(path.read_bytes())
    with pytest.raises(ValueError, match=f"an archive holds a file {TABLE} as well; expected each name once"):
        world.download()


KILLED = """
import os, signal, sys
from pathlib import Path
from lib.download import download, unpacking
real = unpacking._copy
written = []
def copy(stream, file, most):
    if len(written) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    written.append(file.name)
    return real(stream, file, most)
unpacking._copy = copy
download.SOURCES = Path(sys.argv[1])
download.download("hc18", Path(sys.argv[2]), [], print, print)
"""


def test_a_killed_unpacking_is_never_taken_for_whole_and_begun_again(world):
    world.archives().mkdir(parents=True)
    for name in ("training_set.zip", TABLE):
        shutil.copy(world.published / name, world.archives())
    run = python(files.ROOT, "-c", KILLED, str(download.SOURCES), str(world.root))
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert not (world.root / "hc18").exists()
    assert len(list((world.root / ".writing-hc18").rglob("*.png"))) == 5  # the last of them without a byte
    world.download()
    assert world.left() == [".downloads", "hc18"]
    assert len(list((world.root / "hc18" / "training_set").iterdir())) == 10


def test_a_folder_that_came_by_another_way_is_verified_by_counting(world):
    shutil.copytree(world.published / "hc18", world.root / "hc18")
    shutil.copy(world.published / TABLE, world.root / "hc18")
    _, text = world.download()
    counts = f"5 rows in {TABLE}, 5 cases, 4 subjects"
    assert text == f"{world.root / 'hc18'}: is there, nothing fetched; {counts}, verified by counting"
    assert world.site.asked == []


def test_a_folder_in_part_is_left_alone_and_both_numbers_are_named(world):
    shutil.copytree(world.published / "hc18", world.root / "hc18")
    shutil.copy(world.published / TABLE, world.root / "hc18")
    for path in (world.root / "hc18" / "training_set").glob("000_*"):
        path.unlink()
    with pytest.raises(
        ValueError, match=r"3 cases; expected 5; 3 subjects; expected 4; no download\.json lies there, so it"
    ):
        world.download()
    assert (world.root / "hc18" / TABLE).is_file()
    assert world.site.asked == []


def test_a_folder_of_something_else_is_left_alone(world):
    (world.root / "hc18").mkdir(parents=True)
    (world.root / "hc18" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="left alone; move it away to fetch the whole"):
        world.download()
    assert (world.root / "hc18" / "thesis.txt").read_text() == "mine"
    assert world.site.asked == []


def test_a_link_to_nothing_is_not_followed(world, tmp_path):
    world.root.mkdir()
    (world.root / "hc18").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match="hc18: no folder, or a link to none; remove it to fetch the data set"):
        world.download()
    assert world.site.asked == []


def test_a_data_set_without_a_reader_is_never_said_to_be_counted(world, monkeypatch):
    monkeypatch.delitem(datasets.DATASETS, "hc18")
    with pytest.raises(ValueError, match="uncounted cases; expected 5; uncounted subjects; expected 4"):
        world.download()


def test_an_unknown_name_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(
        ValueError, match=r"busy: no data set of sources\.yaml; there are: hc18, lgg, .*; nearest: busi"
    ):
        download.download("busy", tmp_path / "raw", [], print, print)
    assert not (tmp_path / "raw").exists()


def test_the_command_prints_and_gives_status_0(world, capsys):
    assert main(["download", "hc18", "--to", str(world.root)]) == 0
    printed = capsys.readouterr().out
    assert "licence: CC BY-NC 4.0" in printed
    assert "5 cases, 4 subjects; 11 files" in printed


def test_the_command_gives_status_1_where_a_login_is_needed_and_2_for_a_fault(guarded, capsys):
    assert main(["download", "hc18", "--to", str(guarded.root)]) == 1
    assert "  1. Open the page and sign in." in capsys.readouterr().out
    assert main(["download", "hc81", "--to", str(guarded.root)]) == 2
    assert "nearest: hc18" in capsys.readouterr().err
    assert main(["download", "hc18", "--to", str(guarded.root), "--url", "ftp://127.0.0.1/a.zip"]) == 2
    assert "expected an address that begins with http:// or https://" in capsys.readouterr().err


# The sources themselves


@pytest.fixture(scope="module")
def registered():
    return sources.read_sources(download.SOURCES)


def test_all_published_data_sets_have_a_source(registered):
    assert tuple(registered) == NAMES
    published = {name for name, each in datasets.DATASETS.items() if each.made is None}
    assert published <= set(registered)


def test_the_registry_and_the_sources_say_the_same(registered):
    for name in registered.keys() & datasets.DATASETS.keys():
        assert registered[name].citation == datasets.DATASETS[name].citation
        assert registered[name].licence == datasets.DATASETS[name].licence


def test_every_address_is_safe_and_every_login_tells_where_the_file_goes(registered):
    for name, source in registered.items():
        assert source.record.startswith("https://"), name
        for url in sources.addresses(source, []):
            assert url is None or url.startswith("https://"), name
        if source.login:
            assert any("{folder}" in step for step in source.login.steps), name
            assert any(source.record in step or "https://" in step for step in source.login.steps), name


def test_what_is_expected_can_be_counted_and_fits_its_limits(registered):
    for name, source in registered.items():
        assert set(source.expected.rows) <= {file.name for file in source.files}, name
        assert name in datasets.DATASETS or source.expected.rows, name
        assert all((file.size or 0) <= source.limits.download_bytes for file in source.files), name


def test_the_published_counts_are_expected(registered):
    counts = {name: source.expected.cases for name, source in registered.items()}
    assert counts == {
        "hc18": 999,
        "lgg": 110,
        "brain_structures": 3832,
        "ultrasound_fetus": 999,
        "busi": 780,
        "landmarks": None,
    }
    assert registered["hc18"].expected.subjects == 806


@pytest.mark.parametrize(
    "name",
    ["Trans-thalamic-Segmentation.zip", "Trans-ventricular-segmentation-mask.zip", "Test-Dataset-PASCAL.zip"],
)
def test_the_exports_of_brain_structures_that_are_read_are_unpacked(registered, name):
    assert unpacking._fits(name, registered["brain_structures"].nested)
    assert not unpacking._fits("Trans-thalamic-Cityscapes.zip", registered["brain_structures"].nested)


def test_the_second_copy_in_the_zip_of_lgg_is_left_out(registered):
    patterns = registered["lgg"].leave_out
    assert unpacking._fits("lgg-mri-segmentation/kaggle_3m/TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_1.tif", patterns)
    assert not unpacking._fits("kaggle_3m/TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_1.tif", patterns)


def test_every_fault_of_a_source_is_named_at_once(world):
    world.source["files"].append(world.source["files"][0] | {"url": "ftp://x/y"})
    world.source["files"][1] |= {"size": 0, "md5": "xyz", "name": "../x"}
    del world.source["citation"]
    world.change(limit=3)
    with pytest.raises(ValueError, match="5 faults") as error:
        world.download()
    for words in (
        "hc18.citation",
        "hc18.files.1.size = 0",
        "hc18.files.1.md5 = 'xyz'",
        "files.1.name = '../x'",
        "limit = 3",
    ):
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"login": LOGIN}, "expected an address, or a login with steps, and not both"),
        ({"base": None}, "expected an address with http or https, or a base"),
        ({"also_named": ["archive.zip"]}, r"also_named = \['archive\.zip'\]   not allowed for 2 files"),
    ],
)
def test_keys_that_do_not_go_together_are_named(world, changes, words):
    world.change(**changes)
    with pytest.raises(ValueError, match=words):
        world.download()


def test_a_file_given_twice_is_named(world):
    world.source["files"].append(world.source["files"][0])
    world.change()
    with pytest.raises(ValueError, match=r"hc18\.files   training_set\.zip is given twice; expected each name once"):
        world.download()


def test_a_missing_sources_file_is_named(world):
    download.SOURCES.unlink()
    with pytest.raises(ValueError, match=r"sources\.yaml: missing; it says where each data set comes from"):
        world.download()


def test_zips_in_zips_of_brain_structures_come_out_as_the_reader_wants_them(tmp_path):
    """Four zips as published: each has a folder of its name, which holds images, a table, and exports as zips."""
    hand = tmp_path / "raw" / ".downloads" / "brain_structures"
    hand.mkdir(parents=True)
    for group in builders_brain.ALL:
        folder = builders_brain.write_group(tmp_path / "published", group)
        zipped(folder / group.export, folder / f"{group.export}.zip")
        shutil.rmtree(folder / group.export)
        zipped(folder, hand / f"{group.name}.zip", f"{group.name}/")
    said = []
    assert download.download("brain_structures", tmp_path / "raw", [], said.append, print)
    assert "warning: 9 cases; expected 3832 (a count that others report)" in said[-1]
    target = tmp_path / "raw" / "brain_structures"
    assert (target / "Trans-ventricular" / "Trans-ventricular-segmentation-mask" / "SegmentationClass").is_dir()
    assert list(target.rglob("*.zip")) == []


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there: published data are not part of the project")
def test_the_tables_at_hand_have_the_registered_hashes_sizes_and_rows(registered):
    known = [file for file in registered["landmarks"].files if file.sha256]
    assert len(known) == 7
    for file in known:
        path = SHARED / "landmarks" / file.name
        assert (files.sha256(path), path.stat().st_size) == (file.sha256, file.size)
        assert download.count_rows(path) == registered["landmarks"].expected.rows[file.name]


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there: published data are not part of the project")
def test_a_part_of_hc18_is_told_from_the_whole(tmp_path):
    (tmp_path / "hc18").symlink_to(SHARED / "hc18")
    with pytest.raises(ValueError, match="hc18: 640 cases; expected 999; 501 subjects; expected 806"):
        download.download("hc18", tmp_path, [], print, print)
