"""Zip files unpacked member by member: inside the folder, as plain files, and no more bytes than allowed.

All that headers tell is checked before anything is written; zipfile never gives more bytes of a member than its header
announces, so lies about sizes are found as well.
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

MOST_SHRUNK = 200  # a member's bytes over its packed ones; deflate reaches 1032, images stay under 10
WHOLE_SHRUNK = 50  # the same of a whole archive
SMALL_BYTES = 1 << 20  # up to here shrinking says nothing: an empty mask of 64 KiB shrinks 250-fold
BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, UnicodeError, EOFError, OSError, RuntimeError)
UNSAFE = {
    "an absolute path": r"^/",
    "a path with ..": r"(^|/)\.\.(/|$)",
    "a backslash or a colon, as of a Windows drive": r"[\\:]",
    "a control character": r"[\x00-\x1f\x7f-\x9f]",
    "a device of Windows": r"(?i)(^|/)(con|prn|aux|nul|com\d|lpt\d) *(\.[^/]*)?(/|$)",
    "no name": r"^$|(^|/)\.$",
    "over 20 folders": r"(/[^/]*){21}",  # thousands would fill the memory
}


def unpack(
    archive: Path, folder: Path, most_members: int, most_bytes: int, leave_out: Sequence[str], nested: Sequence[str]
) -> tuple[int, int]:
    """Unpacks a zip file into a folder that holds nothing of the same names; (members, bytes) that were counted.

    The limits count files and folders and unpacked bytes, those of zip files inside included. ValueError for no such
    archive, a damaged one, one over a limit, or a member that is no plain file in the folder, which then holds a part
    and is to be thrown away.

    Args:
        leave_out: patterns of paths in the archive that are not written, letter case aside; * takes any text.
        nested: patterns of names of zip files in the archive that are unpacked as well, each into a folder of its name
            beside it, unless there is one, but no further; the zip files are removed.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = zipped.infolist()
            fault = _find_fault(members, archive.stat().st_size, most_members, most_bytes)
            if fault:
                raise ValueError(f"{archive}: {fault}")
            inside = [member for member in members if not _is_folder(member)]
            kept = {folder.joinpath(*_parts(m)): m for m in inside if not _fits("/".join(_parts(m)), leave_out)}
            for path, member in kept.items():
                _write(zipped, member, path)
    except BROKEN as error:
        raise ValueError(f"{archive}: cannot be unpacked: {error}; if it came in part, fetch it again") from error
    count, size = len(members), sum(member.file_size for member in kept.values())
    for path in kept:
        into = path.with_suffix("")
        if path.suffix.lower() == ".zip" and _fits(path.name, nested) and not into.exists():
            more = unpack(path, into, most_members - count, most_bytes - size, leave_out, [])
            count, size = count + more[0], size + more[1]
            path.unlink()
    return count, size


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name.casefold(), pattern.casefold()) for pattern in patterns)


def _parts(member: zipfile.ZipInfo) -> list[str]:
    """Folders and name; `filename` ends at a zero byte, and on Windows has backslashes turned."""
    return [part for part in member.orig_filename.split("/") if part not in ("", ".")]


def _is_folder(member: zipfile.ZipInfo) -> bool:
    return member.orig_filename.endswith("/")  # zipfile's own `is_dir` fails for an empty name


def _find_fault(members: Sequence[zipfile.ZipInfo], size: int, most_members: int, most_bytes: int) -> str:
    """Why an archive of `size` bytes is not to be unpacked; "" if it may be."""
    announced = sum(member.file_size for member in members)
    if len(members) > most_members:
        return f"too many members; expected up to {most_members}"
    if announced > most_bytes:
        return f"too large unpacked; expected up to {most_bytes} bytes"
    if announced > max(SMALL_BYTES, WHOLE_SHRUNK * size):
        return f"unpacks from {size} to {announced} bytes; a zip bomb?"
    faults = {member.orig_filename: _member_fault(member) for member in members}
    if not any(faults.values()):
        keys = [(_key(member), member) for member in members]
        folders = {key[:end] for key, member in keys for end in range(1, len(key) + _is_folder(member))}
        named = Counter([*folders, *(key for key, member in keys if not _is_folder(member))])
        faults = {member.orig_filename: "named as another one" for key, member in keys if named[key] > 1}
    found = next((f"member {name[:100]!r} is {fault}" for name, fault in faults.items() if fault), "")
    return found and f"{found}; expected plain files inside the folder"


def _member_fault(member: zipfile.ZipInfo) -> str:
    """What a member is instead of a plain file or folder with a safe name; "" if it is one."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link" if kind == stat.S_IFLNK else "a device"
    if member.flag_bits & 0x1:
        return "encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"packed by method {member.compress_type}, not stored or deflated"
    if member.file_size > max(SMALL_BYTES, MOST_SHRUNK * member.compress_size):
        return f"unpacked from {member.compress_size} to {member.file_size} bytes, a zip bomb?"
    return next(
        (f"named with {words}" for words, unsafe in UNSAFE.items() if re.search(unsafe, member.orig_filename)), ""
    )


def _key(member: zipfile.ZipInfo) -> tuple[str, ...]:
    """A name as some systems compare it: letter case, kind of accents, and points and spaces at its end aside."""
    return tuple(unicodedata.normalize("NFC", part).casefold().rstrip(". ") for part in _parts(member))


def _write(zipped: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """A member as a new file; BadZipFile where fewer bytes come than its header announces."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipped.open(member) as stream, path.open("xb") as file:
        shutil.copyfileobj(stream, file)
        if file.tell() != member.file_size:
            raise zipfile.BadZipFile(f"{path.name} holds {file.tell()} bytes; its header says {member.file_size}")
