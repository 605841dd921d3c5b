import copy
import json
import re
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
FIVE = ["citation   Field", "files.1.size = 0", "hashes.0 = 'crc:1'", "files.1.name = '../x'", "limit = 3"]


def zipped(folder: Path, path: Path, inside: str = "") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in sorted(file for file in folder.rglob("*") if file.is_file()):
            archive.write(each, inside + each.relative_to(folder).as_posix())


def one_file(path: Path, name: str) -> dict:
    """A complete entry of `files`."""
    hashes = [f"{kind}:{pooch.file_hash(str(path), kind)}" for kind in ("md5", "sha256")]
    return {"name": name, "url": f"{name}/content", "size": path.stat().st_size, "hashes": hashes}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A small HC18 as published, a zip of images and a table, and also as one zip."""
    folder = tmp_path_factory.mktemp("published")
    builders.write_hc18(folder / "hc18", builders.heads(5))
    zipped(folder / "hc18", folder / "archive.zip")
    shutil.move(folder / "hc18" / TABLE, folder / TABLE)
    zipped(folder / "hc18", folder / ZIP)
    return folder


class World:
    """A data root, a server, and a sources.yaml with hc18 on that server."""

    def __init__(self, folder, site, published):
        self.root, self.site, self.published, self.path = folder / "raw", site, published, folder / "sources.yaml"
        self.archives, self.target = self.root / ".downloads" / "hc18", self.root / "hc18"

    def download(self, *urls):
        """Whether the data are ready, and the log."""
        log = []
        ready = download.download("hc18", self.root, urls, log.append)
        return ready, "\n".join(log)

    def change(self, **changes):
        self.source |= changes
        self.path.write_text(yaml.safe_dump({"hc18": self.source}))

    def file(self, **changes):
        """Changes the entry of the zip file."""
        self.source["files"][0] |= changes
        self.change()

    def serve(self, content):
        """Serves another zip file, from a mapping of names to bytes, with its correct hash."""
        path = self.path.with_name("other.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, body in content.items():
                archive.writestr(name, body)
        self.file(**one_file(path, ZIP))
        self.site.pages[f"/files/{ZIP}/content"] = Page(path.read_bytes())

    def left(self):
        """Names in the root without lock files."""
        return sorted(path.name for path in self.root.iterdir() if path.suffix not in (".lock", ".json"))


@pytest.fixture
def world(tmp_path, monkeypatch, published):
    monkeypatch.setattr(http, "WAITS_S", (0, 0, 0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as site:
        made = World(tmp_path, site, published)
        monkeypatch.setattr(download, "SOURCES", made.path)
        made.source = {"title": "Heads", "record": "https://doi.org/10.1/heads", "licence": "CC BY-NC 4.0"}
        made.source |= {"citation": "hc18", "login": [], "leave_out": [], "nested": [], "notes": "Drawn."}
        known = {"short_name": "the heads", "published": "5 images", "seen_in": ["the files"]}
        made.source |= {"facts": dict.fromkeys(sources.Facts.model_fields) | known}
        made.source |= {"most_download_bytes": 10_000_000, "most_members": 100, "most_bytes": 10_000_000}
        expected = {"cases": 5, "subjects": 4, f"rows of {TABLE}": 5}
        made.source |= {"base": f"{site.address}/files/", "expected": expected, "counts_published": True}
        made.change(files=[one_file(published / name, name) for name in (ZIP, TABLE)])
        for name in (ZIP, TABLE):
            site.pages[f"/files/{name}/content"] = Page((published / name).read_bytes())
        yield made


@pytest.fixture
def guarded(world):
    """A data set of one zip on a site that requires a login."""
    world.change(login=LOGIN, files=[{"name": "heads.zip", "url": None, "size": None, "hashes": []}])
    return world


def test_a_data_set_is_downloaded_unpacked_counted_and_recorded_after_its_licence_is_logged(world):
    log = []
    assert download.download("hc18", world.root, [], lambda text: log.append((text, len(world.site.asked))))
    assert "licence: CC BY-NC 4.0; not for commercial use" in log[0][0]
    assert f"files: 2, size 0.03 MB, to {world.target}" in log[0][0]
    assert (log[0][1], len(world.site.asked)) == (0, 2)
    cases, _ = datasets.DATASETS["hc18"].find_cases(world.target, [])
    assert {case.name for case in cases} == {head.name for head in builders.heads(5)}
    counts = f"5 rows of {TABLE}, 5 cases, 4 subjects"
    assert log[-1][0].splitlines()[0] == f"{world.target}: {counts}; 11 files"
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


def test_an_existing_data_set_is_verified_and_changed_files_are_named(world):
    world.download()
    unchanged = f"{world.target}: exists, nothing downloaded; all 11 files match the hashes in download.json"
    assert world.download() == (True, unchanged)
    (world.target / TABLE).write_bytes(b"other")
    (world.target / "training_set" / "000_HC.png").unlink()
    (world.target / "training_set" / "more.png").write_bytes(b"more")
    (world.target / ".DS_Store").write_bytes(b"of a file manager")
    names = f"training_set/000_HC.png, training_set/more.png, {TABLE}"
    with pytest.raises(ValueError, match=f"3 files changed, missing or added since unpacking: {names}; remove"):
        world.download()
    assert (world.target / TABLE).read_bytes() == b"other"
    shutil.rmtree(world.target)  # then it is unpacked again without a download
    assert f"{world.archives / ZIP}: exists, not downloaded again" in world.download()[1]
    assert len(world.site.asked) == 2
    assert (world.target / "download.json").is_file()


@pytest.mark.parametrize("known", ["sha256:" + "0" * 64, "md5:" + "0" * 32])
def test_a_file_with_another_hash_is_refused_and_only_a_manually_saved_one_is_kept(world, known):
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
    with pytest.raises(ValueError, match=rf"{ZIP}: 4 bytes; expected \d+ bytes; if you saved it in .*hc18"):
        world.download()
    assert (world.archives / ZIP).read_bytes() == b"half"
    assert world.site.asked == asked


def test_a_file_without_a_known_hash_is_downloaded_and_reported_as_unverified(world):
    world.file(hashes=[], size=None)
    _, text = world.download()
    unverified = "not verified against the publisher, no checksum is known"
    assert f"sha256 {files.sha256(world.published / ZIP)}, {unverified}" in text
    assert "files: 2, size not published" in text
    assert json.loads((world.target / "download.json").read_text())["fetched"][0]["checked"] == unverified


def test_a_required_login_is_explained_step_by_step_and_another_address_needs_none(guarded):
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
def test_a_manually_saved_archive_is_unpacked_under_any_name(guarded, name):
    guarded.download()
    shutil.copy(guarded.published / "archive.zip", guarded.archives / name)
    assert "5 cases, 4 subjects" in guarded.download()[1]
    shutil.rmtree(guarded.target)
    (guarded.archives / "more.zip").touch()
    with pytest.raises(ValueError, match=r"more\.zip'\]; expected one zip") if name != "heads.zip" else nullcontext():
        guarded.download()


@pytest.mark.parametrize(
    ("urls", "asked"),
    [
        (["/0", "/1"], ["/0", "/1"]),
        (["/mirror/"], [f"/mirror/{ZIP}", f"/mirror/{TABLE}"]),
        (["/0"], rf"--url: 1 addresses for 2 files; .*ends with /: {ZIP}, {TABLE}"),
        (["/changed/"], r"announced \d+ bytes; expected \d+ to \d+"),
    ],
)
def test_addresses_from_the_command_line_replace_the_registered_ones_and_are_checked_alike(world, urls, asked):
    world.site.pages[f"/changed/{ZIP}"] = Page((world.published / TABLE).read_bytes())
    addresses = [world.site.address + path for path in urls]
    if isinstance(asked, str):
        with pytest.raises(ValueError, match=asked):
            world.download(*addresses)
    else:
        for path, name in zip(asked, (ZIP, TABLE)):
            world.site.pages[path] = world.site.pages.pop(f"/files/{name}/content")
        world.download(*addresses)
        assert world.site.asked == asked


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"cases": 999, "subjects": 4}, "hc18: 5 cases; expected 999$"),
        ({f"rows of {TABLE}": 6}, f"hc18: 5 rows of {TABLE}; expected 6$"),
        ({"cases": 5, "subjects": 4}, "uncounted cases; expected 5; uncounted subjects; expected 4"),
        ({"rows of absent.csv": 6}, r"absent\.csv: cannot be read as a table: .*No such file"),
    ],
)
def test_counts_that_differ_from_published_ones_are_refused_and_nothing_is_kept(world, expected, message, monkeypatch):
    if "uncounted" in message:  # without a reader
        others = {name: each for name, each in datasets.DATASETS.items() if name != "hc18"}
        monkeypatch.setattr(datasets, "DATASETS", others)  # a deleted item would come back as the last one
    world.change(expected=expected)
    with pytest.raises(ValueError, match=message):
        world.download()
    assert world.left() == [".downloads"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a.png": b"one"}, "expected HC18's layout"),
        ({"training_set/000_HC.png": b"one", "../../outside.png": b"two"}, r"is named with a path with \.\."),
        ({"training_set/000_HC.png": bytes(9_000_000)}, "zip bomb"),
        ({TABLE: b"x"}, f"{TABLE}: an archive also contains a file of this name; expected each name once"),
    ],
)
def test_an_unexpected_archive_leaves_nothing(world, tmp_path, content, message):
    world.serve(content)
    with pytest.raises(ValueError, match=message):
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
def test_a_killed_download_is_never_taken_for_complete_and_restarts(world, during):
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
    ("change", "message"),
    [
        (lambda at: None, ""),
        (remove("000_HC.png"), "is not changed; move it away to download"),
        (remove("000_*"), "3 cases; expected 5; 3 subjects; expected 4; without down"),
        (remove("*HC*.png"), "is not changed; move it away to download"),
        (lambda at: (at.rename(at.with_name("away")), at.symlink_to("gone")), "not a folder, or a broken link; remove"),
    ],
)
def test_a_folder_from_another_source_is_verified_by_counting_and_not_changed(world, change, message):
    shutil.copytree(world.published / "hc18", world.target)
    shutil.copy(world.published / TABLE, world.target)
    change(world.target)
    before = sorted(world.root.rglob("*.*g"))
    if message:
        with pytest.raises(ValueError, match=f"{world.target}: .*{message}"):
            world.download()
    else:
        found = f"exists, nothing downloaded; 5 rows of {TABLE}, 5 cases, 4 subjects, verified by counting"
        assert world.download() == (True, f"{world.target}: {found}")
    assert (sorted(world.root.rglob("*.*g")), world.site.asked) == (before, [])


def test_the_command_returns_0_or_1_if_a_login_is_needed_and_2_for_an_error(world, capsys):
    assert main(["download", "hc18", "--to", str(world.root)]) == 0
    assert "5 cases, 4 subjects; 11 files" in capsys.readouterr().out
    shutil.rmtree(world.root)
    world.change(login=LOGIN, files=[{"name": "heads.zip", "url": None, "size": None, "hashes": []}])
    assert main(["download", "hc18", "--to", str(world.root)]) == 1
    assert "  1. Open the page and sign in." in capsys.readouterr().out
    assert main(["download", "hc81", "--to", str(world.root / "none")]) == 2
    assert "hc81: not in sources.yaml; available: hc18; nearest: hc18" in capsys.readouterr().err
    assert not (world.root / "none").exists()
    assert main(["download", "hc18", "--to", str(world.root), "--url", "ftp://127.0.0.1/a.zip"]) == 2
    assert "expected an address that starts with http:// or https://" in capsys.readouterr().err
    world.path.unlink()
    assert main(["download", "hc18"]) == 2
    assert "sources.yaml: missing; this file lists" in capsys.readouterr().err


@pytest.fixture(scope="module")
def registered():
    return sources.read_sources(files.ROOT / "data" / "sources.yaml")


def test_every_published_data_set_has_a_source_with_the_same_citation_licence_and_number_of_cases(registered):
    published = {name: each for name, each in datasets.DATASETS.items() if each.phantom is None}
    assert registered.keys() == {*published, "landmarks"}
    for name, dataset in published.items():
        assert (registered[name].citation, registered[name].licence) == (dataset.citation, dataset.licence)
    cases = {"hc18": 999, "lgg": 110, "brain_structures": 3832, "ultrasound_fetus": 999, "busi": 780, "landmarks": None}
    assert {name: source.expected.get("cases") for name, source in registered.items()} == cases
    assert registered["hc18"].expected["subjects"] == 806


def test_every_address_is_https_and_expected_counts_can_be_checked_within_the_limits(registered):
    for name, source in registered.items():
        assert all(url is None or url.startswith("https://") for url in sources.addresses(source, [])), name
        assert not source.login or any("{folder}" in step for step in source.login), name
        tables = {noun.removeprefix("rows of ") for noun in source.expected} - {"cases", "subjects"}
        assert tables <= {file.name for file in source.files}, name
        assert tables or name in datasets.DATASETS, name
        assert all((file.size or 0) <= source.most_download_bytes for file in source.files), name


def test_the_exports_that_are_read_are_unpacked_and_the_second_copy_of_lgg_is_not(registered):
    nested, leave_out = registered["brain_structures"].nested, registered["lgg"].leave_out
    assert unpacking._matches("Test-PASCAL.zip", nested)
    assert not unpacking._matches("Trans-thalamic-Cityscapes.zip", nested)
    assert unpacking._matches("lgg-mri-segmentation/kaggle_3m/T/1.tif", leave_out)
    assert not unpacking._matches("kaggle_3m/T/1.tif", leave_out)


def with_five_faults(source):
    source["files"][1] |= {"size": 0, "hashes": ["crc:1"], "name": "../x"}
    del source["citation"]
    source["limit"] = 3


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (with_five_faults, ["5 errors", *FIVE]),
        (lambda s: s.update(login=LOGIN), ["expected either an address or login steps, not both"]),
        (lambda s: s["facts"].pop("devices"), ["hc18.facts.devices   Field required"]),
        (lambda s: s["facts"].update(ethics=""), ["hc18.facts.ethics = ''", "at least 1 character"]),
        (lambda s: s["facts"].update(years=2018), ["hc18.facts.years = 2018", "valid string"]),
        (lambda s: s["facts"].update(years="2018."), ["hc18.facts.years = '2018.'"]),
        (lambda s: s["facts"].update(seen_in=[]), ["hc18.facts.seen_in = []", "at least 1 item"]),
        (lambda s: s["facts"].update(hospital="A"), ["hc18.facts.hospital = 'A'", "not permitted"]),
        (lambda s: s.update(base=None), ["expected an http or https address, or a base"]),
        (lambda s: s["files"].append(copy.deepcopy(s["files"][0])), ["hc18.files   training_set.zip appears twice"]),
        *(
            (lambda s, name=name: s["files"][0].update(name=name), [f"files.{name}   unsupported archive"])
            for name in ("a.tar", "a.tar.GZ", "a.tgz", "a.rar")
        ),
    ],
)
def test_every_fault_of_a_source_is_reported_before_any_download(world, change, messages):
    change(world.source)
    world.change()
    with pytest.raises(ValueError, match=re.escape(world.path.name)) as error:
        world.download()
    assert [each for each in messages if each not in str(error.value)] == []
    assert world.site.asked == []


def test_nested_zips_are_unpacked_for_their_reader_and_counts_that_differ_from_reported_ones_are_a_warning(tmp_path):
    """Four zips as published: each contains a folder of its name with images, a table, and exports as zips."""
    archives = tmp_path / "raw" / ".downloads" / "brain_structures"
    archives.mkdir(parents=True)
    for group in builders_brain.ALL:
        folder = builders_brain.write_group(tmp_path / "published", group)
        zipped(folder / group.export, folder / f"{group.export}.zip")
        shutil.rmtree(folder / group.export)
        zipped(folder, archives / f"{group.name}.zip", f"{group.name}/")
    log = []
    assert download.download("brain_structures", tmp_path / "raw", [], log.append)
    assert "warning: 9 cases; expected 3832 (as reported by third parties)" in log[-1]
    target = tmp_path / "raw" / "brain_structures"
    assert (target / "download.json").is_file()
    assert (target / "Trans-ventricular" / "Trans-ventricular-segmentation-mask" / "SegmentationClass").is_dir()
    assert list(target.rglob("*.zip")) == []


@NEEDS_SHARED
def test_the_available_tables_are_as_registered_and_a_part_of_hc18_is_not_accepted_as_complete(registered, tmp_path):
    known = [file for file in registered["landmarks"].files if file.hashes]
    assert len(known) == 7
    for file in known:
        path = SHARED / "landmarks" / file.name
        download.check(path, file)
        assert download.count_rows(path) == registered["landmarks"].expected[f"rows of {file.name}"]
    (tmp_path / "hc18").symlink_to(SHARED / "hc18")
    with pytest.raises(ValueError, match="hc18: 640 cases; expected 999; 501 subjects; expected 806"):
        download.download("hc18", tmp_path, [], print)
