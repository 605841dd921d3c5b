"""Data sets fetched from a server on this machine: whole, checked, counted, and left alone when they are there."""

import json
import shutil
import signal
import sys
import threading
import time
import zipfile
from contextlib import nullcontext
from pathlib import Path
from subprocess import Popen

import pooch
import pytest
import yaml

from lib import datasets
from lib.__main__ import main
from lib.download import download, http, sources, unpacking
from lib.study import files
from tests import builders, builders_brain
from tests.builders_web import Page, serving
from tests.conftest import environment

SHARED = files.ROOT.parent / "shared" / "data"
ZIP, TABLE = "training_set.zip", "training_set_pixel_size_and_HC.csv"
NEEDS_SHARED = pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED}: published data are not part of the project")
LOGIN = ["Open the page and sign in.", "Move archive.zip to {folder}/"]


def zipped(folder: Path, path: Path, inside: str = "") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in sorted(file for file in folder.rglob("*") if file.is_file()):
            archive.write(each, inside + each.relative_to(folder).as_posix())


def one_file(path: Path, name: str) -> dict:
    """An entry of `files` that knows everything of a file."""
    hashes = [f"{kind}:{pooch.file_hash(str(path), kind)}" for kind in ("md5", "sha256")]
    return {"name": name, "url": f"{name}/content", "size": path.stat().st_size, "hashes": hashes}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """HC18 in small as its publisher gives it, a zip of the images and a table; and all of it as one zip."""
    folder = tmp_path_factory.mktemp("published")
    builders.write_hc18(folder / "hc18", builders.heads(5))
    zipped(folder / "hc18", folder / "archive.zip")
    shutil.move(folder / "hc18" / TABLE, folder / TABLE)
    zipped(folder / "hc18", folder / ZIP)
    return folder


class World:
    """A root for data, a server, and a sources.yaml with hc18 on it."""

    def __init__(self, folder, site, published):
        self.root, self.site, self.published, self.path = folder / "raw", site, published, folder / "sources.yaml"
        self.archives, self.target = self.root / ".downloads" / "hc18", self.root / "hc18"

    def download(self, *urls):
        """Whether it is ready, and what was said."""
        said = []
        ready = download.download("hc18", self.root, urls, said.append)
        return ready, "\n".join(said)

    def change(self, **changes):
        self.source |= changes
        self.path.write_text(yaml.safe_dump({"hc18": self.source}))

    def file(self, **changes):
        """Changes what is known of the zip file."""
        self.source["files"][0] |= changes
        self.change()

    def serve(self, content):
        """Another zip file, of mapped names and bytes, with its own hash."""
        path = self.path.with_name("other.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, body in content.items():
                archive.writestr(name, body)
        self.file(**one_file(path, ZIP))
        self.site.pages[f"/files/{ZIP}/content"] = Page(path.read_bytes())

    def left(self):
        """What lies in the root, lock files left out."""
        return sorted(path.name for path in self.root.iterdir() if path.suffix not in (".lock", ".json"))


@pytest.fixture
def world(tmp_path, monkeypatch, published):
    monkeypatch.setattr(http, "WAITS_S", (0, 0, 0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as site:
        made = World(tmp_path, site, published)
        monkeypatch.setattr(download, "SOURCES", made.path)
        about = {
            "title": "Heads",
            "record": "https://doi.org/10.1/heads",
            "licence": "CC BY-NC 4.0",
            "citation": "hc18",
        }
        limits = {"most_download_bytes": 10_000_000, "most_members": 100, "most_bytes": 10_000_000}
        expected = {"cases": 5, "subjects": 4, f"rows of {TABLE}": 5}
        made.source = about | limits | {"login": [], "leave_out": [], "nested": [], "notes": "Drawn."}
        made.source |= {"base": f"{site.address}/files/", "expected": expected, "counts_published": True}
        made.source["files"] = [one_file(published / name, name) for name in (ZIP, TABLE)]
        made.change()
        for name in (ZIP, TABLE):
            site.pages[f"/files/{name}/content"] = Page((published / name).read_bytes())
        yield made


@pytest.fixture
def guarded(world):
    """A data set of one zip on a site that wants a login."""
    world.change(login=LOGIN, files=[{"name": "heads.zip", "url": None, "size": None, "hashes": []}])
    return world


def test_a_data_set_is_fetched_unpacked_counted_and_recorded_after_its_licence_was_said(world):
    said = []
    assert download.download("hc18", world.root, [], lambda text: said.append((text, len(world.site.asked))))
    assert "licence: CC BY-NC 4.0; not for commercial use" in said[0][0]
    assert f"files: 2, size 0.03 MB, to {world.target}" in said[0][0]
    assert (said[0][1], len(world.site.asked)) == (0, 2)
    cases, _ = datasets.DATASETS["hc18"].find_cases(world.target, [])
    assert {case.name for case in cases} == {head.name for head in builders.heads(5)}
    counts = f"5 rows of {TABLE}, 5 cases, 4 subjects"
    assert said[-1][0].splitlines()[0] == f"{world.target}: {counts}; 11 files"
    assert world.left() == [".downloads", "hc18"]
    assert sorted(path.name for path in world.archives.iterdir()) == [ZIP, TABLE]
    record = json.loads((world.target / "download.json").read_text())
    assert (record["counts"], record["licence"], len(record["files"])) == (counts, "CC BY-NC 4.0", 11)
    assert record["files"][TABLE] == files.sha256(world.published / TABLE)
    assert record["fetched"][0] == {
        "name": ZIP,
        "url": f"{world.site.address}/files/{ZIP}/content",
        "bytes": (world.published / ZIP).stat().st_size,
        "sha256": files.sha256(world.published / ZIP),
        "checked": "as registered",
    }


def test_a_data_set_that_is_there_is_verified_and_what_changed_is_named(world):
    world.download()
    there = f"{world.target}: is there, nothing fetched; all 11 files have the hashes of download.json"
    assert world.download() == (True, there)
    (world.target / TABLE).write_bytes(b"other")
    (world.target / "training_set" / "000_HC.png").unlink()
    (world.target / "training_set" / "more.png").write_bytes(b"more")
    (world.target / ".DS_Store").write_bytes(b"of a file manager")
    names = f"training_set/000_HC.png, training_set/more.png, {TABLE}"
    with pytest.raises(ValueError, match=f"3 files changed, missing or added since .*: {names}; remove the folder"):
        world.download()
    assert (world.target / TABLE).read_bytes() == b"other"
    shutil.rmtree(world.target)  # and then it is unpacked again without fetching
    assert f"{world.archives / ZIP}: is there, not fetched" in world.download()[1]
    assert len(world.site.asked) == 2
    assert (world.target / "download.json").is_file()


@pytest.mark.parametrize("known", ["sha256:" + "0" * 64, "md5:" + "0" * 32])
def test_a_file_with_another_hash_is_refused_and_not_kept_but_one_put_by_hand_is(world, known):
    world.file(hashes=[known])
    for kept in ([], [TABLE, ZIP]):
        with pytest.raises(ValueError, match=rf"{ZIP}: \d+ bytes, (sha256|md5):\w+; expected \d+ bytes, {known}"):
            world.download()
        assert sorted(path.name for path in world.archives.iterdir()) == sorted(kept)
        assert world.left() == [".downloads"]
        for name in (ZIP, TABLE):
            shutil.copy(world.published / name, world.archives)
    asked = list(world.site.asked)
    world.file(hashes=[])
    (world.archives / ZIP).write_bytes(b"half")
    with pytest.raises(ValueError, match=rf"{ZIP}: 4 bytes; expected \d+ bytes; if it was put into .*hc18"):
        world.download()
    assert (world.archives / ZIP).read_bytes() == b"half"
    assert world.site.asked == asked


def test_a_file_without_a_known_hash_is_fetched_and_called_unverified(world):
    world.file(hashes=[], size=None)
    _, text = world.download()
    unverified = "not verified against the publisher, no checksum is known"
    assert f"sha256 {files.sha256(world.published / ZIP)}, {unverified}" in text
    assert "files: 2, size not published" in text
    assert json.loads((world.target / "download.json").read_text())["fetched"][0]["checked"] == unverified


def test_a_login_is_asked_for_with_every_step_and_an_address_given_by_hand_needs_none(guarded):
    ready, text = guarded.download()
    assert not ready
    assert "not for commercial use" in text
    assert f"  1. Open the page and sign in.\n  2. Move archive.zip to {guarded.archives}/\n" in text
    assert "python -m lib download hc18 --url <address of the zip>" in text
    assert (guarded.archives.is_dir(), guarded.site.asked, guarded.target.exists()) == (True, [], False)
    guarded.site.pages["/mirror/x.zip"] = Page((guarded.published / "archive.zip").read_bytes())
    ready, text = guarded.download(f"{guarded.site.address}/mirror/x.zip")
    assert ready
    assert f"heads.zip from {guarded.site.address}/mirror/x.zip" in text


@pytest.mark.parametrize("name", ["heads.zip", "archive (1).zip"])
def test_after_the_login_the_archive_is_unpacked_under_any_name(guarded, name):
    guarded.download()
    shutil.copy(guarded.published / "archive.zip", guarded.archives / name)
    assert "5 cases, 4 subjects" in guarded.download()[1]
    shutil.rmtree(guarded.target)
    (guarded.archives / "more.zip").touch()
    with pytest.raises(ValueError, match=r"more\.zip'\]; expected one zip") if name != "heads.zip" else nullcontext():
        guarded.download()


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        (["/0", "/1"], ["/0", "/1"]),
        (["/mirror/"], [f"/mirror/{ZIP}", f"/mirror/{TABLE}"]),
        (["/0"], rf"--url: 1 addresses for 2 files; .*ends with /: {ZIP}, {TABLE}"),
        (["/changed/"], r"announces \d+ bytes; expected \d+ to \d+"),
    ],
)
def test_addresses_given_by_hand_take_the_place_of_the_registered_ones_and_are_checked_alike(world, given, asked):
    world.site.pages[f"/changed/{ZIP}"] = Page((world.published / TABLE).read_bytes())
    addresses = [world.site.address + place for place in given]
    if isinstance(asked, str):
        with pytest.raises(ValueError, match=asked):
            world.download(*addresses)
    else:
        for place, name in zip(asked, (ZIP, TABLE)):
            world.site.pages[place] = world.site.pages.pop(f"/files/{name}/content")
        world.download(*addresses)
        assert world.site.asked == asked


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ({"cases": 999, "subjects": 4}, "hc18: 5 cases; expected 999$"),
        ({f"rows of {TABLE}": 6}, f"hc18: 5 rows of {TABLE}; expected 6$"),
        ({"rows of absent.csv": 6}, r"absent\.csv: cannot be read as a table: .*No such file"),
    ],
)
def test_other_counts_than_published_are_refused_and_nothing_is_kept(world, expected, words):
    world.change(expected=expected)
    with pytest.raises(ValueError, match=words):
        world.download()
    assert world.left() == [".downloads"]


def test_other_counts_than_reported_ones_are_a_warning_and_without_a_reader_none_is_made(world, monkeypatch):
    world.change(expected={"cases": 999}, counts_published=False)
    assert "warning: 5 cases; expected 999 (a count that others report)" in world.download()[1]
    assert (world.target / "download.json").is_file()
    shutil.rmtree(world.target)
    world.change(expected={"cases": 5, "subjects": 4}, counts_published=True)
    monkeypatch.delitem(datasets.DATASETS, "hc18")
    with pytest.raises(ValueError, match="uncounted cases; expected 5; uncounted subjects; expected 4"):
        world.download()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a.png": b"one"}, "expected HC18's layout"),
        ({"training_set/000_HC.png": b"one", "../../outside.png": b"two"}, r"is named with a path with \.\."),
        ({"training_set/000_HC.png": bytes(9_000_000)}, "a zip bomb"),
        ({TABLE: b"x"}, f"{TABLE}: an archive holds a file of this name as well; expected each name once"),
    ],
)
def test_an_archive_of_something_else_leaves_nothing(world, tmp_path, content, words):
    world.serve(content)
    with pytest.raises(ValueError, match=words):
        world.download()
    assert world.left() == [".downloads"]
    assert list(tmp_path.rglob("outside.png")) == []


COMMAND = """
import os, signal, sys, zipfile
from pathlib import Path
from lib.download import download, unpacking
download.SOURCES = Path(sys.argv[1])
opened = zipfile.ZipFile.open
def stop(archive, member):
    if member.filename == "training_set/001_HC.png":
        os.kill(os.getpid(), signal.SIGKILL)
    return opened(archive, member)
zipfile.ZipFile.open = stop
download.download("hc18", Path(sys.argv[2]), [], print)
"""


@pytest.mark.parametrize("during", ["transfer", "unpacking"])
def test_a_killed_download_is_never_taken_for_whole_and_begun_anew(world, during):
    page = world.site.pages[f"/files/{ZIP}/content"]
    if during == "transfer":
        page.breaks, page.hang = [len(page.body) // 2], threading.Event()
    arguments = [sys.executable, "-c", COMMAND, str(world.path), str(world.root)]
    running, deadline = Popen(arguments, cwd=files.ROOT, env=environment(files.ROOT)), time.monotonic() + 60
    while during == "transfer" and not world.site.sent and time.monotonic() < deadline:
        time.sleep(0.01)
    if during == "transfer":
        assert any(world.archives.glob(".writing-*"))
        running.send_signal(signal.SIGKILL)
    assert running.wait(60) == -signal.SIGKILL
    assert not world.target.exists()
    assert (world.archives / ZIP).exists() == (during == "unpacking")
    assert bool(list((world.root / ".writing-hc18").rglob("*.png"))) == (during == "unpacking")
    world.download()
    assert world.left() == [".downloads", "hc18"]
    assert sorted(path.name for path in world.archives.iterdir()) == [ZIP, TABLE]
    assert len(list((world.target / "training_set").iterdir())) == 10


def remove(*patterns):
    return lambda folder: [path.unlink() for pattern in patterns for path in folder.rglob(pattern)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda at: None, ""),
        (remove("000_HC.png"), "left alone; move it away to fetch the whole"),
        (remove("000_*"), "3 cases; expected 5; 3 subjects; expected 4; no down"),
        (remove("*HC*.png"), "left alone; move it away to fetch the whole"),
        (lambda at: (at.rename(at.with_name("away")), at.symlink_to("gone")), "no folder, or a link to none; remove"),
    ],
)
def test_a_folder_that_came_by_another_way_is_verified_by_counting_and_left_alone(world, change, words):
    shutil.copytree(world.published / "hc18", world.target)
    shutil.copy(world.published / TABLE, world.target)
    change(world.target)
    before = sorted(world.root.rglob("*.*g"))
    if words:
        with pytest.raises(ValueError, match=f"{world.target}: .*{words}"):
            world.download()
    else:
        found = f"is there, nothing fetched; 5 rows of {TABLE}, 5 cases, 4 subjects, verified by counting"
        assert world.download() == (True, f"{world.target}: {found}")
    assert (sorted(world.root.rglob("*.*g")), world.site.asked) == (before, [])


def test_the_command_gives_status_0_and_1_where_a_login_is_needed_and_2_for_a_fault(world, capsys):
    assert main(["download", "hc18", "--to", str(world.root)]) == 0
    assert "5 cases, 4 subjects; 11 files" in capsys.readouterr().out
    shutil.rmtree(world.root)
    world.change(login=LOGIN, files=[{"name": "heads.zip", "url": None, "size": None, "hashes": []}])
    assert main(["download", "hc18", "--to", str(world.root)]) == 1
    assert "  1. Open the page and sign in." in capsys.readouterr().out
    assert main(["download", "hc81", "--to", str(world.root / "none")]) == 2
    assert "hc81: no data set of sources.yaml; there are: hc18; nearest: hc18" in capsys.readouterr().err
    assert not (world.root / "none").exists()
    assert main(["download", "hc18", "--to", str(world.root), "--url", "ftp://127.0.0.1/a.zip"]) == 2
    assert "expected an address that begins with http:// or https://" in capsys.readouterr().err
    world.path.unlink()
    assert main(["download", "hc18"]) == 2
    assert "sources.yaml: missing; it says where each data set comes from" in capsys.readouterr().err


@pytest.fixture(scope="module")
def registered():
    return sources.read_sources(files.ROOT / "data" / "sources.yaml")


def test_every_published_data_set_has_a_source_of_the_same_citation_and_licence(registered):
    published = {name: each for name, each in datasets.DATASETS.items() if each.made is None}
    assert registered.keys() == {*published, "landmarks"}
    for name, dataset in published.items():
        assert (registered[name].citation, registered[name].licence) == (dataset.citation, dataset.licence)


def test_every_address_is_safe_and_what_is_expected_can_be_counted_and_fits_its_limits(registered):
    for name, source in registered.items():
        assert all(url is None or url.startswith("https://") for url in sources.addresses(source, [])), name
        assert not source.login or any("{folder}" in step for step in source.login), name
        tables = {what.removeprefix("rows of ") for what in source.expected} - {"cases", "subjects"}
        assert tables <= {file.name for file in source.files}, name
        assert tables or name in datasets.DATASETS, name
        assert all((file.size or 0) <= source.most_download_bytes for file in source.files), name


def test_the_published_numbers_of_cases_are_expected(registered):
    cases = {"hc18": 999, "lgg": 110, "brain_structures": 3832, "ultrasound_fetus": 999, "busi": 780, "landmarks": None}
    assert {name: source.expected.get("cases") for name, source in registered.items()} == cases
    assert registered["hc18"].expected["subjects"] == 806


def test_the_exports_that_are_read_are_unpacked_and_the_second_copy_of_lgg_is_not(registered):
    for name, is_unpacked in {"Test-PASCAL.zip": True, "Trans-thalamic-Cityscapes.zip": False}.items():
        assert unpacking._fits(name, registered["brain_structures"].nested) == is_unpacked
    for path, is_left_out in {"lgg-mri-segmentation/kaggle_3m/T/1.tif": True, "kaggle_3m/T/1.tif": False}.items():
        assert unpacking._fits(path, registered["lgg"].leave_out) == is_left_out


def without_much(source):
    source["files"][1] |= {"size": 0, "hashes": ["crc:1"], "name": "../x"}
    del source["citation"]
    source["limit"] = 3


FAULTS = [
    "5 faults",
    "citation   Field",
    "files.1.size = 0",
    "hashes.0 = 'crc:1'",
    "files.1.name = '../x'",
    "limit = 3",
]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_much, FAULTS),
        (lambda s: s.update(login=LOGIN), ["expected an address, or steps of a login, and not both"]),
        (lambda s: s.update(base=None), ["expected an address with http or https, or a base"]),
        (lambda s: s["files"].append(s["files"][0]), ["hc18.files   training_set.zip is given twice"]),
        *(
            (lambda s, name=name: s["files"][0].update(name=name), [f"files.{name}   of this kind of archive nothing"])
            for name in ("a.tar", "a.tar.GZ", "a.tgz", "a.rar")
        ),
    ],
)
def test_every_fault_of_a_source_is_named_before_anything_is_fetched(world, change, words):
    change(world.source)
    world.change()
    with pytest.raises(ValueError, match="fault") as error:
        world.download()
    assert [each for each in words if each not in str(error.value)] == []
    assert world.site.asked == []


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
    assert download.download("brain_structures", tmp_path / "raw", [], said.append)
    assert "warning: 9 cases; expected 3832 (a count that others report)" in said[-1]
    target = tmp_path / "raw" / "brain_structures"
    assert (target / "Trans-ventricular" / "Trans-ventricular-segmentation-mask" / "SegmentationClass").is_dir()
    assert list(target.rglob("*.zip")) == []


@NEEDS_SHARED
def test_the_tables_at_hand_are_the_registered_ones_and_a_part_of_hc18_is_told_from_the_whole(registered, tmp_path):
    known = [file for file in registered["landmarks"].files if file.hashes]
    assert len(known) == 7
    for file in known:
        path = SHARED / "landmarks" / file.name
        download.check(path, file)
        assert download.count_rows(path) == registered["landmarks"].expected[f"rows of {file.name}"]
    (tmp_path / "hc18").symlink_to(SHARED / "hc18")
    with pytest.raises(ValueError, match="hc18: 640 cases; expected 999; 501 subjects; expected 806"):
        download.download("hc18", tmp_path, [], print)
