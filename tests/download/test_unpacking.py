import io
import random
import shutil
import stat
import struct
import zipfile
from functools import partial

import numpy as np
import pytest

from lib.download import unpacking
from lib.download.unpacking import unpack

FILES = {"a/1.png": b"one", "a/b/2.png": b"two" * 100, "table.csv": b"x,y\n1,2\n", "empty.txt": b""}
STORED = zipfile.ZIP_STORED


def packed(content, method=zipfile.ZIP_DEFLATED):
    """Bytes of a zip file from (name or ZipInfo, bytes) pairs, or a mapping; names are kept unchanged."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, body in content.items() if isinstance(content, dict) else content:
            archive.writestr(name, body)
    return buffer.getvalue()


def of_kind(mode):
    """A member of another kind than a plain file."""
    info = zipfile.ZipInfo("a.png")
    info.create_system, info.external_attr = 3, (mode | 0o777) << 16
    return packed({info: b"/etc/passwd"})


def patched(raw, local_at, central_at, value):
    """Overwrites a field in both headers of the first member."""
    data, central = bytearray(raw), raw.index(b"PK\x01\x02")
    data[local_at : local_at + len(value)] = value
    data[central + central_at : central + central_at + len(value)] = value
    return bytes(data)


def nameless(raw):
    """Removes the one-letter name of the only member from both headers."""
    local, central, end = (raw.index(b"PK" + kind) for kind in (b"\x03\x04", b"\x01\x02", b"\x05\x06"))
    parts = (local, 26, 30, central), (central, 28, 46, end)
    cut = [
        raw[a : a + size] + b"\0\0" + raw[a + size + 2 : a + name] + raw[a + name + 1 : b] for a, size, name, b in parts
    ]
    return b"".join(cut) + raw[end : end + 12] + struct.pack("<II", len(cut[1]), len(cut[0])) + raw[end + 20 :]


def named(name):
    return lambda: packed({"first.png": b"one", name: b"two"})


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def unpacked(tmp_path):
    """Unpacks bytes to raw/new; nothing else in tmp_path may change."""

    def of(raw, most_members=1000, most_bytes=1 << 30, leave_out=(), nested=()):
        (tmp_path / "data.zip").write_bytes(raw)
        used = unpack(tmp_path / "data.zip", tmp_path / "raw" / "new", most_members, most_bytes, leave_out, nested)
        return contents(tmp_path / "raw" / "new"), used

    return of


SOUND, ZEROS, NOISE = packed(FILES), bytes(unpacking.SMALL_BYTES), np.random.default_rng(1).bytes(1_000_000)
DEVICES = {"pipe": stat.S_IFIFO, "character": stat.S_IFCHR, "block": stat.S_IFBLK, "socket": stat.S_IFSOCK}
UNSAFE_NAMES = {
    r"a path with \.\.": ["../outside.png", "a/../../outside.png", "a/.."],
    "an absolute path": ["/tmp/outside.png", "//server/outside.png"],
    "a backslash or colon": ["C:/outside.png", "C:outside.png", "a\\..\\outside.png", "a.png:stream"],
    "a control character": ["a\nb.png"],
    "a Windows device name": ["a/Con.png", "lpt1/a.png"],
    "more than 20 folders": ["a/" * 30_000 + "a.png"],
    "an empty name": ["."],
}
NAMED_ALIKE = [("a.png", "a.png"), ("a.png", "A.PNG"), ("a/b.png", "A/B.png"), ("a/./b.png", "a/b.png")]
NAMED_ALIKE += [("a.png", "a.png. "), ("\u00e9.png", "e\u0301.png")]  # as Windows and macOS compare names
NAMED_ALIKE += [("a", "a/b.png"), ("a/b.png", "a"), ("a/b/c.png", "A/B")]  # a file and a folder
# archive and error message; those in LATE are detected only while members are written
ATTACKS = {
    **{f"{words}: {name[:9]}": (named(name), words) for words, names in UNSAFE_NAMES.items() for name in names},
    **{str(names): (partial(packed, [(n, n) for n in names]), "is named like another member") for names in NAMED_ALIKE},
    **{kind: (partial(of_kind, mode), "is a device") for kind, mode in DEVICES.items()},
    "zero-byte": (lambda: packed({"abcd.png": b"one"}).replace(b"abcd.png", b"ab\x00d.png"), "a control character"),
    "empty-name": (lambda: nameless(packed({"a": b"one"})), "with an empty name"),
    "link": (lambda: of_kind(stat.S_IFLNK), r"member 'a\.png' is a link; expected plain files inside the folder"),
    "encrypted": (lambda: patched(SOUND, 6, 8, b"\x01\x00"), "is encrypted"),
    "method": (lambda: packed(FILES, zipfile.ZIP_LZMA), "compressed by method 14, not stored or deflated"),
    "bomb": (lambda: packed({"a.png": bytes(50_000_000)}), r"from \d+ to 50000000 bytes; possibly a zip bomb"),
    "bomb-in-large": (lambda: packed({"1.png": NOISE, "a.png": bytes(20_000_000)}), "to 20000000 bytes, possibly"),
    "bomb-of-small": (lambda: packed({f"{n}.png": ZEROS for n in range(100)}), "to 104857600 bytes; possibly"),
    "too-many-members": (lambda: packed({f"{n}.png": b"" for n in range(1001)}), "too many members; .* 1000"),
    "web-page": (lambda: b"<!DOCTYPE html><title>Log in</title>", "cannot be unpacked: File is not a zip file"),
    "nothing": (lambda: b"", "cannot be unpacked: File is not a zip file"),
    "half": (lambda: SOUND[: len(SOUND) // 2], "File is not a zip file; if it is incomplete, download it again"),
    "states-too-few-bytes": (lambda: patched(SOUND, 22, 24, struct.pack("<I", 1)), "Bad CRC-32 for file 'a/1.png'"),
    "states-too-many-bytes": (lambda: patched(SOUND, 22, 24, struct.pack("<I", 9)), "3 bytes; its header states 9"),
    "changed-byte": (lambda: packed(FILES, STORED).replace(b"two", b"tWo", 1), "cannot be unpacked: Bad CRC-32"),
}
LATE = {"states-too-few-bytes", "states-too-many-bytes", "changed-byte"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_leaves_nothing_outside(tmp_path, unpacked, name):
    archive, message = ATTACKS[name]
    with pytest.raises(ValueError, match=rf"data\.zip: .*{message}"):
        unpacked(archive())
    assert (tmp_path / "raw" / "new").exists() == (name in LATE)
    assert {path.name for path in tmp_path.iterdir()} <= {"data.zip", "raw"}


def test_randomly_changed_bytes_are_detected_or_change_nothing(tmp_path, unpacked):
    for seed in range(100):
        draw, raw, message = random.Random(seed), bytearray(SOUND), f"{tmp_path / 'data.zip'}: "
        raw[draw.randrange(len(raw))] = draw.randrange(256)
        try:
            unpacked(raw[: draw.choice([None, None, draw.randrange(len(raw))])])
            assert set(contents(tmp_path / "raw" / "new").values()) <= set(FILES.values()), seed
        except ValueError as error:
            message = str(error)
        assert message.startswith(f"{tmp_path / 'data.zip'}: "), seed
        shutil.rmtree(tmp_path / "raw", ignore_errors=True)


def test_an_archive_is_unpacked_as_by_the_standard_library_and_limits_are_exact_to_the_byte(tmp_path, unpacked):
    with pytest.raises(ValueError, match="too many members; expected at most 3"):
        unpacked(SOUND, most_members=3)
    with pytest.raises(ValueError, match="unpacked size too large; expected at most 310 bytes"):
        unpacked(SOUND, most_bytes=310)
    assert unpacked(SOUND, most_members=4, most_bytes=311) == (FILES, (4, sum(map(len, FILES.values()))))
    shutil.unpack_archive(tmp_path / "data.zip", tmp_path / "theirs")
    assert contents(tmp_path / "theirs") == FILES


def test_folders_may_appear_more_than_once_and_highly_compressed_empty_masks_are_no_bomb(unpacked):
    masks = {f"{n}_mask.tif": bytes(256 * 256) for n in range(10)} | {"./": b"", "a/": b"", "./a/2.png": b""}
    images = {f"a/{n}.tif": bytes(range(256)) * 768 for n in range(2)}
    found, used = unpacked(packed(masks | images))
    assert used == (15, 10 * 65_536 + 2 * 196_608)
    assert found["a/2.png"] == b""
    assert len(found) == 13


def test_an_existing_file_is_not_overwritten_and_new_files_get_no_special_mode(tmp_path, unpacked):
    unpacked(of_kind(stat.S_IFREG | 0o7000))
    assert (tmp_path / "raw" / "new" / "a.png").stat().st_mode & 0o7111 == 0
    (tmp_path / "raw" / "new" / "table.csv").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"cannot be unpacked: .*File exists"):
        unpacked(SOUND)
    assert (tmp_path / "raw" / "new" / "table.csv").read_bytes() == b"mine"


def test_omitted_members_are_not_written_but_still_checked(unpacked):
    copies = {"copy/" + name: body for name, body in FILES.items()}
    raw = packed(FILES | copies | {"__MACOSX/._a": b"mac"})
    assert unpacked(raw, leave_out=["__macosx/*", "Copy/*"])[0] == FILES
    with pytest.raises(ValueError, match=r"a path with \.\."):
        unpacked(packed({"copy/../../x": b""}), leave_out=["*"])


def test_known_nested_zips_are_unpacked_one_level_deep_and_others_stay(unpacked):
    inner = packed({"SegmentationClass/1.png": b"mask", "labelmap.txt": b"Brain:1,0,0::", "deeper.zip": SOUND})
    outer = {"1.png": b"one", "A-Segmentation.zip": inner, "A-COCO.zip": SOUND}
    outer |= {f"B-Segmentation{name}": SOUND for name in ("/1.png", ".zip")}  # stays next to a folder of its name
    found, used = unpacked(packed(outer), nested=["*segmentation*.zip", "deeper.zip"])
    inside = {f"A-Segmentation/{name}" for name in ("SegmentationClass/1.png", "deeper.zip", "labelmap.txt")}
    assert set(found) == set(outer) - {"A-Segmentation.zip"} | inside
    assert used[0] == 8


@pytest.mark.parametrize(
    ("inner", "limits", "message"),
    [
        ({"../../../x.png": b"one"}, (100, 10_000), r"member '\.\./\.\./\.\./x\.png' is named with a path with \.\."),
        ({f"{n}.png": b"x" * 100 for n in range(5)}, (5, 10_000), "too many members; expected at most 4"),
        ({f"{n}.png": b"x" * 4000 for n in range(5)}, (100, 10_000), "size too large; expected at most 9"),
    ],
)
def test_a_nested_zip_follows_the_same_rules_and_limits(tmp_path, unpacked, inner, limits, message):
    with pytest.raises(ValueError, match=rf"a-Segmentation\.zip: .*{message}"):
        unpacked(packed({"Plane/a-Segmentation.zip": packed(inner)}), *limits, nested=["*segmentation*"])
    assert list(tmp_path.rglob("x.png")) == []
