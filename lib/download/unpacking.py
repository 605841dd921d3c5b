"""Archives unpacked member by member: inside the folder, as plain files, and no more bytes than allowed.

Names, kinds and announced sizes are checked before anything is written; while writing, real bytes are counted, because
an archive's own headers may lie (zip bombs do).
"""

import fnmatch
import gzip
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

CHUNK_BYTES = 1 << 20
MOST_SHRUNK = 200  # a member's bytes over its packed ones; deflate reaches 1032, images stay under 10
WHOLE_SHRUNK = 50  # the same of a whole archive
SMALL_BYTES = 1 << 20  # up to here shrinking says nothing: an empty mask of 64 KiB shrinks 250-fold
HEADER_BYTES = 1 << 24  # of a tar file, read at once
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
BROKEN = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, OSError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold, those inside it included.

    Attributes:
        members: files and folders.
        unpacked_bytes: all files together.
    """

    members: int
    unpacked_bytes: int


@dataclass(frozen=True)
class Member:
    """An entry of an archive as its header tells.

    Attributes:
        name: as stored.
        is_folder: it is a folder.
        announced_bytes: unpacked size.
        packed_bytes: size in the archive; None in a tar file, which packs all as one.
        fault: what it is instead of a plain file or folder, "" if it is one.
        entry: of zipfile or tarfile.
    """

    name: str
    is_folder: bool
    announced_bytes: int
    packed_bytes: int | None
    fault: str
    entry: Any


def is_archive(name: str) -> bool:
    """Whether a file is one that `unpack` takes, by its name."""
    return name.lower().endswith((".zip", *TAR_SUFFIXES))


def unpack(
    archive: Path, folder: Path, limits: Limits, leave_out: Sequence[str] = (), nested: Sequence[str] = ()
) -> tuple[int, int]:
    """Unpacks a zip or tar file into a folder that holds nothing of the same names.

    Args:
        archive: .zip, .tar, .tar.gz or .tgz.
        folder: made if need be. After an error it holds part of the files, so give one that can be thrown away.
        limits: that the archive must keep.
        leave_out: patterns of paths in the archive that are not written, letter case aside; * takes any text.
        nested: patterns of names of zip files in the archive that are unpacked as well, each into a folder of its name
            beside it, unless there is one; what they hold is unpacked no further. The zip files are removed.

    Returns:
        (members, bytes) that were counted.

    Raises:
        ValueError: no such archive, damaged, over a limit, or a member that is no plain file inside the folder
            (absolute path, "..", drive letter, backslash, link, device, encrypted, a name given twice), which it names.
    """
    if not is_archive(archive.name):
        raise ValueError(f"{archive}: cannot be unpacked; expected .zip, {', '.join(TAR_SUFFIXES)}")
    try:
        with _opened(archive) as (members, reader):
            checked = _check(archive, members, limits)
            kept = [each for each in checked if not _fits("/".join(each[1]), leave_out)]
            written = _write_all(archive, folder, kept, reader, limits.unpacked_bytes)
    except BROKEN as error:
        raise ValueError(f"{archive}: cannot be unpacked: {error}") from error
    used = (len(checked), written)
    for _, place in kept:
        path = folder.joinpath(*place)
        inside = path.with_suffix("")
        if path.suffix.lower() == ".zip" and _fits(path.name, nested) and not inside.exists():
            left = Limits(limits.members - used[0], limits.unpacked_bytes - used[1])
            more = unpack(path, inside, left, leave_out)
            used = (used[0] + more[0], used[1] + more[1])
            path.unlink()
    return used


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name.casefold(), pattern.casefold()) for pattern in patterns)


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[Iterable[Member], Callable[[Member], IO[bytes] | None]]]:
    """Members of an archive, and what reads one of them."""
    if archive.name.lower().endswith(".zip"):
        if not zipfile.is_zipfile(archive):
            with archive.open("rb") as file:
                raise ValueError(f"{archive}: no whole zip file, it begins with {file.read(16)!r}; fetch it again")
        with zipfile.ZipFile(archive) as zipped:
            yield map(_of_zip, zipped.infolist()), lambda member: zipped.open(member.entry)
        return
    opener = open if archive.name.lower().endswith(".tar") else gzip.open
    with opener(archive, "rb") as stream, tarfile.open(fileobj=_guarded(stream), mode="r:") as tarred:
        yield _tar_members(tarred, stream), lambda member: tarred.extractfile(member.entry)


def _tar_members(tarred: tarfile.TarFile, stream: IO[bytes]) -> Iterator[Member]:
    """Members, and at last whether the file is whole: tarfile takes one that is cut between members for whole."""
    yield from map(_of_tar, tarred)
    stream.seek(tarred.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends too early; fetch it again")
    while stream.read(CHUNK_BYTES):
        pass  # gzip compares its checksum at the end


def _guarded(stream: IO[bytes]) -> Any:
    """A stream for tarfile that refuses a header which would fill the memory."""

    def read(count: int) -> bytes:
        if count > HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {count} bytes; expected up to {HEADER_BYTES}")
        return stream.read(count)

    return SimpleNamespace(read=read, seek=stream.seek, tell=stream.tell)


def _of_zip(entry: zipfile.ZipInfo) -> Member:
    mode, fault = stat.S_IFMT(entry.external_attr >> 16), ""
    if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        fault = "a link" if mode == stat.S_IFLNK else "a device"
    elif entry.flag_bits & 0x1:
        fault = "encrypted"
    elif entry.compress_type not in ZIP_METHODS:
        fault = f"packed by method {entry.compress_type}, not stored or deflated"
    name = entry.orig_filename  # `filename` ends at a zero byte, and on Windows has its backslashes turned
    return Member(name, entry.is_dir(), entry.file_size, entry.compress_size, fault, entry)


def _of_tar(entry: tarfile.TarInfo) -> Member:
    fault = ""
    if entry.issym() or entry.islnk():
        fault = "a link"
    elif entry.isdev():
        fault = "a device"
    elif entry.issparse() or not (entry.isdir() or entry.type in (tarfile.REGTYPE, tarfile.AREGTYPE)):
        fault = f"of type {entry.type!r}"
    return Member(entry.name, entry.isdir(), entry.size, None, fault, entry)


def _check(archive: Path, members: Iterable[Member], limits: Limits) -> list[tuple[Member, tuple[str, ...]]]:
    """All members with their folders and names; ValueError at the first that is unsound, or over a limit."""
    checked: list[tuple[Member, tuple[str, ...]]] = []
    files: set[tuple[str, ...]] = set()
    folders: set[tuple[str, ...]] = set()
    announced = 0
    for member in members:
        place = tuple(part for part in member.name.split("/") if part not in ("", "."))
        fault = member.fault or _name_fault(member, place) or _twice(member, place, files, folders)
        if fault:
            raise ValueError(f"{archive}: member {member.name!r} is {fault}; expected plain files inside the folder")
        checked.append((member, place))
        announced += member.announced_bytes
        if len(checked) > limits.members:
            raise ValueError(f"{archive}: too many members; expected up to {limits.members}")
        if announced > limits.unpacked_bytes:
            raise ValueError(f"{archive}: too large unpacked; expected up to {limits.unpacked_bytes} bytes")
    return checked


def _name_fault(member: Member, place: Sequence[str]) -> str:
    """What makes a name unsafe on some system; "" if nothing does."""
    if member.name.startswith("/"):
        return "named by an absolute path"
    if ".." in place:
        return "named by a path with .."
    if "\\" in member.name or ":" in member.name:
        return "named with a backslash or a colon, as of a Windows drive"
    if any(unicodedata.category(letter) == "Cc" for letter in member.name):
        return "named with a control character"
    return "" if place or member.is_folder else "without a name"


def _twice(member: Member, place: Sequence[str], files: set[tuple[str, ...]], folders: set[tuple[str, ...]]) -> str:
    """Whether another file or folder has the name, letter case and kind of accents aside; keeps it for the next."""
    key = tuple(unicodedata.normalize("NFC", part).casefold() for part in place)
    around = {key[:end] for end in range(1, len(key) + member.is_folder)}
    folders |= around
    if around & files or (not member.is_folder and (key in files or key in folders)):
        return "named as another one (on systems that take A for a)"
    if not member.is_folder:
        files.add(key)
    return ""


def _write_all(
    archive: Path,
    folder: Path,
    kept: Sequence[tuple[Member, tuple[str, ...]]],
    reader: Callable[[Member], IO[bytes] | None],
    most_bytes: int,
) -> int:
    """Writes members and counts their bytes; ValueError for more than a header announced, or a limit allows."""
    most = min(most_bytes, max(SMALL_BYTES, WHOLE_SHRUNK * archive.stat().st_size))
    written = 0
    folder.mkdir(parents=True, exist_ok=True)
    for member, place in kept:
        path = folder.joinpath(*place)
        if member.is_folder:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        allowed = min(most - written, _most_bytes(member))
        with reader(member) as stream, path.open("xb") as file:  # type: ignore[union-attr] only plain files come here
            count = _copy(stream, file, allowed)
        if count > allowed:
            raise ValueError(f"{archive}: member {member.name!r} unpacks to over {allowed} bytes; a zip bomb?")
        if count != member.announced_bytes:
            found = f"holds {count} bytes; its header says {member.announced_bytes}"
            raise ValueError(f"{archive}: member {member.name!r} {found}; fetch it again")
        written += count
    return written


def _most_bytes(member: Member) -> int:
    """What a member may unpack to, by its bytes in the archive."""
    if member.packed_bytes is None:
        return member.announced_bytes
    return max(SMALL_BYTES, MOST_SHRUNK * member.packed_bytes)


def _copy(stream: IO[bytes], file: IO[bytes], most: int) -> int:
    """Bytes copied; stops as soon as they are more than allowed."""
    count = 0
    while chunk := stream.read(CHUNK_BYTES):
        count += len(chunk)
        if count > most:
            break
        file.write(chunk)
    return count
