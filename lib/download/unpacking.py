"""Safe unpacking of zip files: plain files inside the target folder only, within limits on count and size.

All headers are checked before anything is written. zipfile never returns more bytes of a member than its header
states, so a false size is detected as well.
"""

import fnmatch
import re
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

MAX_MEMBER_RATIO = 200  # unpacked over packed bytes of a member; deflate reaches 1032, images stay under 10
MAX_ARCHIVE_RATIO = 50  # the same for the whole archive
SMALL_BYTES = 1 << 20  # below this size the ratio is not checked: an empty mask of 64 KiB reaches 250
BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, UnicodeError, EOFError, OSError, RuntimeError)
UNSAFE = {
    "an absolute path": r"^/",
    "a path with ..": r"(^|/)\.\.(/|$)",
    "a backslash or colon (a Windows path)": r"[\\:]",
    "a control character": r"[\x00-\x1f\x7f-\x9f]",
    "a Windows device name": r"(?i)(^|/)(con|prn|aux|nul|com\d|lpt\d) *(\.[^/]*)?(/|$)",
    "an empty name": r"^$|(^|/)\.$",
    "more than 20 folders": r"(/[^/]*){21}",  # thousands would exhaust memory
}


def unpack(
    archive: Path, folder: Path, most_members: int, most_bytes: int, leave_out: Sequence[str], nested: Sequence[str]
) -> tuple[int, int]:
    """Unpacks a zip file into a folder that has no files of the same names; returns counts of (members, bytes).

    The limits apply to members (files and folders) and unpacked bytes, including nested zip files. ValueError for a
    missing or damaged archive, an exceeded limit, or a member that is not a plain file inside the folder; the folder
    is then incomplete and must be discarded.

    Args:
        leave_out: case-insensitive patterns of paths in the archive that are not written; * matches any text.
        nested: patterns of zip files in the archive that are unpacked as well, one level deep, each into a new folder
            of its name next to it, unless that exists; the zip files are removed.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = zipped.infolist()
            fault = _find_fault(members, archive.stat().st_size, most_members, most_bytes)
            if fault:
                raise ValueError(f"{archive}: {fault}")
            inside = [member for member in members if not _is_folder(member)]
            kept = {folder.joinpath(*_parts(m)): m for m in inside if not _matches("/".join(_parts(m)), leave_out)}
            for path, member in kept.items():
                _write(zipped, member, path)
    except BROKEN as error:
        raise ValueError(f"{archive}: cannot be unpacked: {error}; if it is incomplete, download it again") from error
    count, size = len(members), sum(member.file_size for member in kept.values())
    for path in kept:
        into = path.with_suffix("")
        if path.suffix.lower() == ".zip" and _matches(path.name, nested) and not into.exists():
            more = unpack(path, into, most_members - count, most_bytes - size, leave_out, [])
            count, size = count + more[0], size + more[1]
            path.unlink()
    return count, size


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name.casefold(), pattern.casefold()) for pattern in patterns)


def _parts(member: zipfile.ZipInfo) -> list[str]:
    """Folders and name, from `orig_filename`: `filename` ends at a zero byte and replaces Windows backslashes."""
    return [part for part in member.orig_filename.split("/") if part not in ("", ".")]


def _is_folder(member: zipfile.ZipInfo) -> bool:
    return member.orig_filename.endswith("/")  # zipfile's own `is_dir` fails for an empty name


def _find_fault(members: Sequence[zipfile.ZipInfo], size: int, most_members: int, most_bytes: int) -> str:
    """Why an archive of `size` bytes must not be unpacked; "" if it is safe."""
    announced = sum(member.file_size for member in members)
    if len(members) > most_members:
        return f"too many members; expected at most {most_members}"
    if announced > most_bytes:
        return f"unpacked size too large; expected at most {most_bytes} bytes"
    if announced > max(SMALL_BYTES, MAX_ARCHIVE_RATIO * size):
        return f"unpacks from {size} to {announced} bytes; possibly a zip bomb"
    faults = {member.orig_filename: _member_fault(member) for member in members}
    if not any(faults.values()):
        keys = [(_key(member), member) for member in members]
        folders = {key[:end] for key, member in keys for end in range(1, len(key) + _is_folder(member))}
        named = Counter([*folders, *(key for key, member in keys if not _is_folder(member))])
        faults = {member.orig_filename: "named like another member" for key, member in keys if named[key] > 1}
    first = next((f"member {name[:100]!r} is {fault}" for name, fault in faults.items() if fault), "")
    return first and f"{first}; expected plain files inside the folder"


def _member_fault(member: zipfile.ZipInfo) -> str:
    """Why a member is not a plain file or folder with a safe name; "" if it is."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link" if kind == stat.S_IFLNK else "a device"
    if member.flag_bits & 0x1:
        return "encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"compressed by method {member.compress_type}, not stored or deflated"
    if member.file_size > max(SMALL_BYTES, MAX_MEMBER_RATIO * member.compress_size):
        return f"unpacked from {member.compress_size} to {member.file_size} bytes, possibly a zip bomb"
    return next(
        (f"named with {words}" for words, unsafe in UNSAFE.items() if re.search(unsafe, member.orig_filename)), ""
    )


def _key(member: zipfile.ZipInfo) -> tuple[str, ...]:
    """Name as file systems may compare it: without letter case, Unicode form and trailing points and spaces."""
    return tuple(unicodedata.normalize("NFC", part).casefold().rstrip(". ") for part in _parts(member))


def _write(zipped: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Writes a member to a new file; BadZipFile if it has fewer bytes than its header states."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipped.open(member) as stream, path.open("xb") as file:
        shutil.copyfileobj(stream, file)
        if file.tell() != member.file_size:
            raise zipfile.BadZipFile(f"{path.name} contains {file.tell()} bytes; its header states {member.file_size}")
