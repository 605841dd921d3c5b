"""Zip files, sound and hostile: nothing gets out of the folder, and nothing gets larger than allowed."""

import io
import random
import shutil
import stat
import struct
import zipfile

import numpy as np
import pytest

from lib.download import unpacking
from lib.download.unpacking import unpack

FILES = {"a/1.png": b"one", "a/b/2.png": b"two" * 100, "table.csv": b"x,y\n1,2\n", "empty.txt": b""}
STORED = zipfile.ZIP_STORED


def packed(content, method=zipfile.ZIP_DEFLATED):
    """A zip file's bytes of (name or ZipInfo, bytes) pairs, or of a mapping; names are kept as they are."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        for name, body in content.items() if isinstance(content, dict) else content:
            archive.writestr(name, body)
    return held.getvalue()


def of_kind(mode):
    """A member that is no plain file."""
    info = zipfile.ZipInfo("a.png")
    info.create_system, info.external_attr = 3, (mode | 0o777) << 16
    return packed({info: b"/etc/passwd"})


def patched(raw, local_at, central_at, value):
    """Overwrites a field of the first member's two headers."""
    data, central = bytearray(raw), raw.index(b"PK\x01\x02")
    data[local_at : local_at + len(value)] = value
    data[central + central_at : central + central_at + len(value)] = value
    return bytes(data)


def nameless(raw):
    """The only member's name, one letter long, cut out of both headers."""
    local, central, end = (raw.index(b"PK" + kind) for kind in (b"\x03\x04", b"\x01\x02", b"\x05\x06"))
    parts = (local, 26, 30, central), (central, 28, 46, end)
    cut = [
        raw[a : a + size] + b"\0\0" + raw[a + size + 2 : a + name] + raw[a + name + 1 : b] for a, size, name, b in parts
    ]
    return b"".join(cut) + raw[end : end + 12] + struct.pack("<II", len(cut[1]), len(cut[0])) + raw[end + 20 :]


def twins(*names):
    return lambda: packed([(name, name) for name in names])


def named(name):
    return lambda: packed({"first.png": b"one", name: b"two"})


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def unpacked(tmp_path):
    """Unpacks bytes into raw/new, below a folder that must stay as it is."""

    def of(raw, most_members=1000, most_bytes=1 << 30, leave_out=(), nested=()):
        (tmp_path / "data.zip").write_bytes(raw)
        used = unpack(tmp_path / "data.zip", tmp_path / "raw" / "new", most_members, most_bytes, leave_out, nested)
        return contents(tmp_path / "raw" / "new"), used

    return of


SOUND, ZEROS, NOISE = packed(FILES), bytes(unpacking.SMALL_BYTES), np.random.default_rng(1).bytes(1_000_000)
# how the archive is made, and what is said; of those in LATE only while members are written
ATTACKS = {
    "parent": (named("../outside.png"), r"'\.\./outside\.png' is named with a path with \.\."),
    "parent-inside": (named("a/../../outside.png"), r"a path with \.\."),
    "parent-last": (named("a/.."), r"a path with \.\."),
    "absolute": (named("/tmp/outside.png"), "an absolute path"),
    "absolute-twice": (named("//server/outside.png"), "an absolute path"),
    "drive": (named("C:/outside.png"), "a backslash or a colon"),
    "drive-relative": (named("C:outside.png"), "a backslash or a colon"),
    "backslash": (named("a\\..\\outside.png"), "a backslash or a colon"),
    "stream": (named("a.png:stream"), "a backslash or a colon"),
    "newline": (named("a\nb.png"), "a control character"),
    "zero-byte": (lambda: packed({"abcd.png": b"one"}).replace(b"abcd.png", b"ab\x00d.png"), "a control character"),
    "reserved": (named("a/Con.png"), "a device of Windows"),
    "reserved-folder": (named("lpt1/a.png"), "a device of Windows"),
    "deep": (named("a/" * 30_000 + "a.png"), "over 20 folders"),
    "no-name": (named("."), "with no name"),
    "empty-name": (lambda: nameless(packed({"a": b"one"})), "with no name"),
    "link": (lambda: of_kind(stat.S_IFLNK), r"member 'a\.png' is a link; expected plain files inside the folder"),
    "pipe": (lambda: of_kind(stat.S_IFIFO), "is a device"),
    "character-device": (lambda: of_kind(stat.S_IFCHR), "is a device"),
    "block-device": (lambda: of_kind(stat.S_IFBLK), "is a device"),
    "socket": (lambda: of_kind(stat.S_IFSOCK), "is a device"),
    "encrypted": (lambda: patched(SOUND, 6, 8, b"\x01\x00"), "is encrypted"),
    "method": (lambda: packed(FILES, zipfile.ZIP_LZMA), "packed by method 14, not stored or deflated"),
    "twice": (twins("a.png", "a.png"), "is named as another one"),
    "twice-by-case": (twins("a.png", "A.PNG"), "is named as another one"),
    "twice-by-case-of-folder": (twins("a/b.png", "A/B.png"), "is named as another one"),
    "twice-by-point": (twins("a/./b.png", "a/b.png"), "is named as another one"),
    "twice-by-end": (twins("a.png", "a.png. "), "is named as another one"),
    "twice-by-accent": (twins("\u00e9.png", "e\u0301.png"), "is named as another one"),
    "file-then-folder": (twins("a", "a/b.png"), "is named as another one"),
    "folder-then-file": (twins("a/b.png", "a"), "is named as another one"),
    "folder-then-file-by-case": (twins("a/b/c.png", "A/B"), "is named as another one"),
    "bomb": (lambda: packed({"a.png": bytes(50_000_000)}), r"unpacks from \d+ to 50000000 bytes; a zip bomb\?"),
    "bomb-in-large": (lambda: packed({"1.png": NOISE, "a.png": bytes(20_000_000)}), "to 20000000 bytes, a zip bomb"),
    "bomb-of-small": (lambda: packed({f"{n}.png": ZEROS for n in range(100)}), r"to 104857600 bytes; a zip bomb\?"),
    "too-many-members": (lambda: packed({f"{n}.png": b"" for n in range(1001)}), "too many members; .* to 1000"),
    "web-page": (lambda: b"<!DOCTYPE html><title>Log in</title>", "cannot be unpacked: File is not a zip file"),
    "nothing": (lambda: b"", "cannot be unpacked: File is not a zip file"),
    "half": (lambda: SOUND[: len(SOUND) // 2], "File is not a zip file; if it came in part, fetch it again"),
    "tells-too-few-bytes": (lambda: patched(SOUND, 22, 24, struct.pack("<I", 1)), "Bad CRC-32 for file 'a/1.png'"),
    "tells-too-many-bytes": (lambda: patched(SOUND, 22, 24, struct.pack("<I", 9)), "3 bytes; its header says 9"),
    "changed-byte": (lambda: packed(FILES, STORED).replace(b"two", b"tWo", 1), "cannot be unpacked: Bad CRC-32"),
}
LATE = {"tells-too-few-bytes", "tells-too-many-bytes", "changed-byte"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_leaves_nothing_outside(tmp_path, unpacked, name):
    make, words = ATTACKS[name]
    with pytest.raises(ValueError, match=rf"data\.zip: .*{words}"):
        unpacked(make())
    assert (tmp_path / "raw" / "new").exists() == (name in LATE)
    assert {path.name for path in tmp_path.iterdir()} <= {"data.zip", "raw"}


def test_bytes_changed_at_random_are_found_or_change_nothing(tmp_path, unpacked):
    for seed in range(100):
        draw, raw, told = random.Random(seed), bytearray(SOUND), f"{tmp_path / 'data.zip'}: "
        raw[draw.randrange(len(raw))] = draw.randrange(256)
        try:
            unpacked(raw[: draw.choice([None, None, draw.randrange(len(raw))])])
            assert set(contents(tmp_path / "raw" / "new").values()) <= set(FILES.values()), seed
        except ValueError as error:
            told = str(error)
        assert told.startswith(f"{tmp_path / 'data.zip'}: "), seed
        shutil.rmtree(tmp_path / "raw", ignore_errors=True)


def test_an_archive_is_unpacked_as_the_standard_library_does_and_limits_are_kept_to_the_last_byte(tmp_path, unpacked):
    with pytest.raises(ValueError, match="too many members; expected up to 3"):
        unpacked(SOUND, most_members=3)
    with pytest.raises(ValueError, match="too large unpacked; expected up to 310 bytes"):
        unpacked(SOUND, most_bytes=310)
    assert unpacked(SOUND, most_members=4, most_bytes=311) == (FILES, (4, sum(map(len, FILES.values()))))
    shutil.unpack_archive(tmp_path / "data.zip", tmp_path / "theirs")
    assert contents(tmp_path / "theirs") == FILES


def test_folders_may_be_named_more_than_once_and_empty_masks_that_shrink_much_are_no_bomb(unpacked):
    masks = {f"{n}_mask.tif": bytes(256 * 256) for n in range(10)} | {"./": b"", "a/": b"", "./a/2.png": b""}
    images = {f"a/{n}.tif": bytes(range(256)) * 768 for n in range(2)}
    found, used = unpacked(packed(masks | images))
    assert used == (15, 10 * 65_536 + 2 * 196_608)
    assert found["a/2.png"] == b""
    assert len(found) == 13


def test_a_file_that_is_there_is_not_overwritten_and_others_are_plain_whatever_the_archive_says(tmp_path, unpacked):
    unpacked(of_kind(stat.S_IFREG | 0o7000))
    assert (tmp_path / "raw" / "new" / "a.png").stat().st_mode & 0o7111 == 0
    (tmp_path / "raw" / "new" / "table.csv").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"cannot be unpacked: .*File exists"):
        unpacked(SOUND)
    assert (tmp_path / "raw" / "new" / "table.csv").read_bytes() == b"mine"


def test_what_is_left_out_is_not_written_but_still_checked(unpacked):
    copies = {"copy/" + name: body for name, body in FILES.items()}
    raw = packed(FILES | copies | {"__MACOSX/._a": b"mac"})
    assert unpacked(raw, leave_out=["__macosx/*", "Copy/*"])[0] == FILES
    with pytest.raises(ValueError, match=r"a path with \.\."):
        unpacked(packed({"copy/../../x": b""}), leave_out=["*"])


def test_known_zips_in_a_zip_are_unpacked_to_one_level_and_others_stay(unpacked):
    inner = packed({"SegmentationClass/1.png": b"mask", "labelmap.txt": b"Brain:1,0,0::", "deeper.zip": SOUND})
    outer = {"1.png": b"one", "A-Segmentation.zip": inner, "A-COCO.zip": SOUND}
    outer |= {f"B-Segmentation{name}": SOUND for name in ("/1.png", ".zip")}  # beside a folder of its name it stays
    found, used = unpacked(packed(outer), nested=["*segmentation*.zip", "deeper.zip"])
    inside = {f"A-Segmentation/{name}" for name in ("SegmentationClass/1.png", "deeper.zip", "labelmap.txt")}
    assert set(found) == set(outer) - {"A-Segmentation.zip"} | inside
    assert used[0] == 8


@pytest.mark.parametrize(
    ("inner", "limits", "words"),
    [
        ({"../../../x.png": b"one"}, (100, 10_000), r"member '\.\./\.\./\.\./x\.png' is named with a path with \.\."),
        ({f"{n}.png": b"x" * 100 for n in range(5)}, (5, 10_000), "too many members; expected up to 4"),
        ({f"{n}.png": b"x" * 4000 for n in range(5)}, (100, 10_000), "too large unpacked; expected up to 9"),
    ],
)
def test_a_zip_in_a_zip_keeps_the_same_rules_and_counts_towards_the_limits(tmp_path, unpacked, inner, limits, words):
    with pytest.raises(ValueError, match=rf"a-Segmentation\.zip: {words}"):
        unpacked(packed({"Plane/a-Segmentation.zip": packed(inner)}), *limits, nested=["*segmentation*"])
    assert list(tmp_path.rglob("x.png")) == []
