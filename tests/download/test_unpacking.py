"""Archives, sound and hostile: nothing gets out of the folder, and nothing gets larger than allowed."""

import io
import shutil
import stat
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from lib.download import unpacking
from lib.download.unpacking import Limits, unpack

MANY = Limits(members=10_000, unpacked_bytes=1 << 30)
FILES = {"a/1.png": b"one", "a/b/2.png": b"two" * 100, "table.csv": b"x,y\n1,2\n", "empty.txt": b""}


def write_zip(path, content, method=zipfile.ZIP_DEFLATED):
    """A zip of {name or ZipInfo: bytes}; names are kept as they are."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, body in content.items():
            archive.writestr(name, body)
    return path


def write_tar(path, content, mode="w"):
    """A tar of {name: bytes or a TarInfo}."""
    with tarfile.open(path, mode) as archive:
        for name, body in content.items():
            entry = body if isinstance(body, tarfile.TarInfo) else tarfile.TarInfo(name)
            if not isinstance(body, tarfile.TarInfo):
                entry.size = len(body)
            archive.addfile(entry, None if isinstance(body, tarfile.TarInfo) else io.BytesIO(body))
    return path


def entry(name, **values):
    made = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(made, key, value)
    return made


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def patched(path, places):
    """Overwrites fields of the first entry's headers: {(offset in the local one, in the central one): bytes}."""
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    for (local_at, central_at), value in places.items():
        data[local_at : local_at + len(value)] = value
        data[central + central_at : central + central_at + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.fixture
def folder(tmp_path):
    """Where to unpack, below a folder that must stay as it is."""
    return tmp_path / "raw" / "new"


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz", ".ZIP"])
def test_an_archive_is_unpacked_as_the_standard_library_does(tmp_path, folder, suffix):
    path = tmp_path / f"data{suffix}"
    if suffix.lower() == ".zip":
        write_zip(path, FILES)
    else:
        write_tar(path, FILES, "w" if suffix == ".tar" else "w:gz")
    assert unpack(path, folder, MANY) == (4, sum(map(len, FILES.values())))
    assert contents(folder) == FILES
    if suffix != ".ZIP":
        shutil.unpack_archive(path, tmp_path / "theirs")
        assert contents(folder) == contents(tmp_path / "theirs")


def test_folders_of_their_own_and_names_that_begin_with_a_point_are_taken(tmp_path, folder):
    path = write_tar(
        tmp_path / "data.tar",
        {"./": entry("./", type=tarfile.DIRTYPE), "./a": entry("./a", type=tarfile.DIRTYPE), "./a/1.png": b"one"},
    )
    unpack(path, folder, MANY)
    assert contents(folder) == {"a/1.png": b"one"}
    unpack(write_zip(tmp_path / "data.zip", {"b/": b"", "b/c/": b""}), folder, MANY)
    assert (folder / "b" / "c").is_dir()


HOSTILE = {
    "../outside.png": r"a path with \.\.",
    "a/../../outside.png": r"a path with \.\.",
    "a/..": r"a path with \.\.",
    "/tmp/outside.png": "an absolute path",
    "//server/outside.png": "an absolute path",
    "C:/outside.png": "a backslash or a colon",
    "C:outside.png": "a backslash or a colon",
    "a\\..\\outside.png": "a backslash or a colon",
    "a.png:stream": "a backslash or a colon",
    "a\nb.png": "a control character",
}


@pytest.mark.parametrize(("name", "words"), HOSTILE.items())
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_leads_outside_is_refused_before_anything_is_written(tmp_path, folder, kind, name, words):
    content = {"first.png": b"one", name: b"two"}
    path = (write_zip if kind == "zip" else write_tar)(tmp_path / f"data.{kind}", content)
    with pytest.raises(ValueError, match=f"data.{kind}: member .* is named (by|with) {words}"):
        unpack(path, folder, MANY)
    assert not folder.exists()
    assert not (tmp_path / "outside.png").exists()


def test_a_name_that_hides_its_end_behind_a_zero_byte_is_refused(tmp_path, folder):
    path = write_zip(tmp_path / "data.zip", {"abcd.png": b"one"})
    path.write_bytes(path.read_bytes().replace(b"abcd.png", b"ab\x00d.png"))
    with pytest.raises(ValueError, match="is named with a control character"):
        unpack(path, folder, MANY)


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_of_a_zip_are_refused(tmp_path, folder, mode):
    info = zipfile.ZipInfo("a.png")
    info.create_system, info.external_attr = 3, (mode | 0o777) << 16
    path = write_zip(tmp_path / "data.zip", {info: b"/etc/passwd"})
    with pytest.raises(ValueError, match=r"member 'a\.png' is a (link|device); expected plain files inside the folder"):
        unpack(path, folder, MANY)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "a link"),
        ({"type": tarfile.LNKTYPE, "linkname": "first.png"}, "a link"),
        ({"type": tarfile.FIFOTYPE}, "a device"),
        ({"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, "a device"),
        ({"type": tarfile.BLKTYPE}, "a device"),
        ({"type": tarfile.CONTTYPE}, "of type b'7'"),
        ({"type": b"Z"}, "of type b'Z'"),
    ],
)
def test_links_and_devices_of_a_tar_are_refused(tmp_path, folder, values, words):
    path = write_tar(tmp_path / "data.tar.gz", {"first.png": b"one", "a.png": entry("a.png", **values)}, "w:gz")
    with pytest.raises(ValueError, match=rf"member 'a\.png' is {words}; expected plain files inside the folder"):
        unpack(path, folder, MANY)
    assert not folder.exists()


def test_a_link_and_a_file_through_it_get_nowhere(tmp_path, folder):
    link = entry("a", type=tarfile.SYMTYPE, linkname=str(tmp_path))
    path = write_tar(tmp_path / "data.tar", {"a": link, "a/outside.png": b"two"})
    with pytest.raises(ValueError, match="member 'a' is a link"):
        unpack(path, folder, MANY)
    assert not (tmp_path / "outside.png").exists()


def test_an_encrypted_member_is_refused(tmp_path, folder):
    path = patched(write_zip(tmp_path / "data.zip", {"a.png": b"one"}), {(6, 8): b"\x01\x00"})
    with pytest.raises(ValueError, match=r"member 'a\.png' is encrypted"):
        unpack(path, folder, MANY)


def test_another_way_of_packing_is_named(tmp_path, folder):
    path = write_zip(tmp_path / "data.zip", {"a.png": b"one" * 99}, zipfile.ZIP_LZMA)
    with pytest.raises(ValueError, match=r"member 'a\.png' is packed by method 14, not stored or deflated"):
        unpack(path, folder, MANY)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "names",
    [
        ("a.png", "a.png"),
        ("a.png", "A.PNG"),
        ("a/b.png", "A/B.png"),
        ("a/./b.png", "a/b.png"),
        ("\u00e9.png", "e\u0301.png"),  # an accent in one letter, and as a letter of its own
        ("a", "a/b.png"),
        ("a/b.png", "a"),
        ("a/b/c.png", "A/B"),
    ],
)
def test_a_name_given_twice_is_refused(tmp_path, folder, names):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for name in names:
            archive.writestr(name, name)
    with pytest.raises(ValueError, match="is named as another one"):
        unpack(tmp_path / "data.zip", folder, MANY)
    assert not folder.exists()


def test_a_folder_may_be_named_more_than_once(tmp_path, folder):
    write_zip(tmp_path / "data.zip", {"a/": b"", "a/1.png": b"one", "a/2.png": b"two"})
    unpack(tmp_path / "data.zip", folder, MANY)
    assert sorted(contents(folder)) == ["a/1.png", "a/2.png"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_too_many_members_are_refused(tmp_path, folder, kind):
    content = {f"{number}.png": b"" for number in range(6)}
    path = (write_zip if kind == "zip" else write_tar)(tmp_path / f"data.{kind}", content)
    assert unpack(path, folder, Limits(6, 100)) == (6, 0)
    with pytest.raises(ValueError, match="too many members; expected up to 5"):
        unpack(path, folder.with_name("other"), Limits(5, 100))
    assert not folder.with_name("other").exists()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_more_bytes_than_allowed_are_refused_before_anything_is_written(tmp_path, folder, kind):
    content = {"1.png": b"one" * 50, "2.png": b"two" * 50}
    path = (write_zip if kind == "zip" else write_tar)(tmp_path / f"data.{kind}", content)
    with pytest.raises(ValueError, match="too large unpacked; expected up to 299 bytes"):
        unpack(path, folder, Limits(10, 299))
    assert not folder.exists()


def test_a_member_that_swells_beyond_belief_is_refused(tmp_path, folder):
    path = write_zip(tmp_path / "data.zip", {"a.png": bytes(50_000_000)})
    with pytest.raises(ValueError, match=r"member 'a\.png' unpacks to over \d+ bytes; a zip bomb\?"):
        unpack(path, folder, MANY)
    assert sum(map(len, contents(folder).values())) < 20_000_000


def test_a_member_that_swells_is_refused_in_a_large_archive_too(tmp_path, folder):
    noise = np.random.default_rng(1).bytes(1_000_000)  # the whole may then hold 50 MB
    path = write_zip(tmp_path / "data.zip", {"1.png": noise, "a.png": bytes(20_000_000)})
    with pytest.raises(ValueError, match=r"member 'a\.png' unpacks to over \d+ bytes; a zip bomb\?"):
        unpack(path, folder, MANY)


def test_small_members_that_swell_together_are_refused(tmp_path, folder):
    path = write_zip(tmp_path / "data.zip", {f"{n}.png": bytes(unpacking.SMALL_BYTES) for n in range(100)})
    with pytest.raises(ValueError, match=r"unpacks to over \d+ bytes; a zip bomb\?"):
        unpack(path, folder, MANY)
    assert sum(map(len, contents(folder).values())) <= unpacking.WHOLE_SHRUNK * path.stat().st_size


def test_a_tar_that_swells_is_refused(tmp_path, folder):
    path = write_tar(tmp_path / "data.tar.gz", {"a.png": bytes(50_000_000)}, "w:gz")
    with pytest.raises(ValueError, match=r"member 'a\.png' unpacks to over \d+ bytes; a zip bomb\?"):
        unpack(path, folder, MANY)


def test_a_tar_with_a_header_that_would_fill_the_memory_is_refused(tmp_path, folder):
    with tarfile.open(tmp_path / "data.tar.gz", "w:gz", format=tarfile.PAX_FORMAT, compresslevel=1) as archive:
        huge = entry("a.png")
        huge.pax_headers = {"comment": "x" * (unpacking.HEADER_BYTES + 1)}
        archive.addfile(huge)
    with pytest.raises(ValueError, match=r"cannot be unpacked: .*a header of \d+ bytes; expected up to 16777216"):
        unpack(tmp_path / "data.tar.gz", folder, MANY)


def test_empty_masks_that_shrink_much_are_no_bomb(tmp_path, folder):
    masks = {f"{n}_mask.tif": bytes(256 * 256) for n in range(10)}
    images = {f"{n}.tif": bytes(range(256)) * 768 for n in range(2)}
    path = write_zip(tmp_path / "data.zip", masks | images)
    assert unpack(path, folder, MANY)[1] == 10 * 65_536 + 2 * 196_608


def test_a_header_that_tells_fewer_bytes_than_there_are_is_found(tmp_path, folder):
    path = patched(write_zip(tmp_path / "data.zip", {"a.png": bytes(100_000)}), {(22, 24): struct.pack("<I", 10)})
    with pytest.raises(ValueError, match=r"data\.zip: cannot be unpacked: Bad CRC-32 for file 'a\.png'"):
        unpack(path, folder, MANY)
    assert sum(map(len, contents(folder).values())) <= 10


def test_a_header_that_tells_more_bytes_than_there_are_is_found(tmp_path, folder):
    path = patched(write_zip(tmp_path / "data.zip", {"a.png": b"one" * 99}), {(22, 24): struct.pack("<I", 500)})
    with pytest.raises(ValueError, match=r"member 'a\.png' holds 297 bytes; its header says 500"):
        unpack(path, folder, MANY)


def test_a_changed_byte_is_found(tmp_path, folder):
    path = write_zip(tmp_path / "data.zip", {"a.png": b"one" * 99}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"oneone", b"oneOne", 1))
    with pytest.raises(ValueError, match=r"data\.zip: cannot be unpacked: Bad CRC-32"):
        unpack(path, folder, MANY)


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_half_an_archive_is_refused(tmp_path, folder, suffix, kept):
    whole = tmp_path / f"data{suffix}"
    content = {f"{n}.png": bytes(range(256)) * 40 for n in range(20)}
    if suffix == ".zip":
        write_zip(whole, content)
    else:
        write_tar(whole, content, "w:gz" if suffix.endswith("gz") else "w")
    whole.write_bytes(whole.read_bytes()[: int(kept * whole.stat().st_size)])
    if suffix == ".tar" and kept == 0.99:  # only padding at its end is lost
        assert unpack(whole, folder, MANY)[0] == 20
        return
    with pytest.raises(ValueError, match=r"data\..*(no whole zip file|cannot be unpacked|its header says)"):
        unpack(whole, folder, MANY)


def test_a_web_page_named_as_a_zip_is_told_from_one(tmp_path, folder):
    (tmp_path / "data.zip").write_text("<!DOCTYPE html><title>Log in</title>")
    with pytest.raises(
        ValueError, match=r"data\.zip: no whole zip file, it begins with b'<!DOCTYPE html><'; fetch it again"
    ):
        unpack(tmp_path / "data.zip", folder, MANY)


@pytest.mark.parametrize("name", ["data.rar", "data.7z", "data"])
def test_another_kind_of_archive_is_named(tmp_path, folder, name):
    (tmp_path / name).write_bytes(b"Rar!")
    with pytest.raises(ValueError, match=rf"{name}: cannot be unpacked; expected \.zip, \.tar, \.tar\.gz, \.tgz"):
        unpack(tmp_path / name, folder, MANY)


def test_an_absent_archive_is_named(tmp_path, folder):
    with pytest.raises(ValueError, match=r"absent\.tar: cannot be unpacked: .*No such file"):
        unpack(tmp_path / "absent.tar", folder, MANY)


def test_a_file_that_is_there_is_not_overwritten(tmp_path, folder):
    folder.mkdir(parents=True)
    (folder / "table.csv").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"cannot be unpacked: .*File exists"):
        unpack(write_zip(tmp_path / "data.zip", FILES), folder, MANY)
    assert (folder / "table.csv").read_bytes() == b"mine"


def test_what_is_left_out_is_not_written_but_still_checked(tmp_path, folder):
    copies = {"copy/" + name: body for name, body in FILES.items()}
    path = write_zip(tmp_path / "data.zip", FILES | copies | {"__MACOSX/._a": b"mac"})
    unpack(path, folder, MANY, leave_out=["__macosx/*", "Copy/*"])
    assert contents(folder) == FILES
    bad = write_zip(tmp_path / "bad.zip", {"copy/../../x": b""})
    with pytest.raises(ValueError, match=r"a path with \.\."):
        unpack(bad, folder.with_name("other"), MANY, leave_out=["*"])


def packed(content):
    held = io.BytesIO()
    write_zip(held, content)
    return held.getvalue()


def test_known_zips_in_a_zip_are_unpacked_to_one_level_and_others_stay(tmp_path, folder):
    inner = packed(
        {"SegmentationClass/1.png": b"mask", "labelmap.txt": b"Brain:255,0,0::", "deeper.zip": packed(FILES)}
    )
    other = packed({"1.json": b"{}"})
    outer = {"Plane/1.png": b"one", "Plane/Plane-Segmentation.zip": inner, "Plane/Plane-COCO.zip": other}
    used = unpack(write_zip(tmp_path / "Plane.zip", outer), folder, MANY, nested=["*segmentation*.zip", "deeper.zip"])
    assert sorted(contents(folder)) == [
        "Plane/1.png",
        "Plane/Plane-COCO.zip",
        "Plane/Plane-Segmentation/SegmentationClass/1.png",
        "Plane/Plane-Segmentation/deeper.zip",
        "Plane/Plane-Segmentation/labelmap.txt",
    ]
    assert used[0] == 6


def test_a_zip_in_a_zip_keeps_the_same_rules(tmp_path, folder):
    outer = write_zip(tmp_path / "Plane.zip", {"Plane/a-Segmentation.zip": packed({"../../../x.png": b"one"})})
    with pytest.raises(
        ValueError, match=r"a-Segmentation\.zip: member '\.\./\.\./\.\./x\.png' is named by a path with \.\."
    ):
        unpack(outer, folder, MANY, nested=["*segmentation*"])
    assert not (tmp_path / "x.png").exists()


def test_a_zip_in_a_zip_counts_towards_the_limits(tmp_path, folder):
    inner = packed({f"{n}.png": b"x" * 100 for n in range(5)})
    outer = write_zip(tmp_path / "Plane.zip", {"a-Segmentation.zip": inner})
    with pytest.raises(ValueError, match=r"a-Segmentation\.zip: too many members; expected up to 4"):
        unpack(outer, folder, Limits(5, 10_000), nested=["*segmentation*"])
    shutil.rmtree(folder)
    left = 400
    with pytest.raises(ValueError, match=f"too large unpacked; expected up to {left} bytes"):
        unpack(outer, folder, Limits(100, len(inner) + left), nested=["*segmentation*"])


def test_a_zip_beside_a_folder_of_its_name_stays_packed(tmp_path, folder):
    outer = {"a-Segmentation/1.png": b"one", "a-Segmentation.zip": packed({"1.png": b"two"})}
    unpack(write_zip(tmp_path / "Plane.zip", outer), folder, MANY, nested=["*segmentation*"])
    assert contents(folder) == outer


def test_files_are_plain_whatever_the_archive_says(tmp_path, folder):
    info = zipfile.ZipInfo("a.sh")
    info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o4777) << 16
    unpack(write_zip(tmp_path / "data.zip", {info: b"#!/bin/sh"}), folder, MANY)
    assert (folder / "a.sh").stat().st_mode & 0o7111 == 0


def test_a_tar_that_ends_between_two_members_is_refused(tmp_path, folder):
    path = write_tar(tmp_path / "data.tar", {"1.png": b"one", "2.png": b"two"})
    path.write_bytes(path.read_bytes()[:1024])  # a header and a block
    with pytest.raises(ValueError, match=r"data\.tar: cannot be unpacked: it ends too early; fetch it again"):
        unpack(path, folder, MANY)
    assert not folder.exists()


@pytest.mark.parametrize(("name", "sound"), [("a.zip", True), ("a.TGZ", True), ("a.tar.gz", True), ("a.csv", False)])
def test_archives_are_known_by_their_names(name, sound):
    assert unpacking.is_archive(name) is sound
