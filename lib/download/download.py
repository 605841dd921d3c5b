"""Published data sets brought to data/raw: fetched, checked, unpacked, counted, and verified when they are there.

What comes from where stands in data/sources.yaml and nowhere else (`lib.download.sources`).
"""

import csv
import shutil
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import pooch

from lib import datasets
from lib.download import http, unpacking
from lib.download.sources import RemoteFile, Source, addresses, find_source
from lib.study import files, locks

SOURCES = files.ROOT / "data" / "sources.yaml"
RECORD = "download.json"  # in the data set's folder: where its files come from, and the hash of each
ARCHIVES = ".downloads"  # beside the data sets: what was fetched, as it came
LISTED = 10  # files that a message names
UNVERIFIED = "not verified against the publisher, no checksum is known"
Show = Callable[[str], None]


def download(name: str, root: Path, urls: Sequence[str], say: Show, show: Show) -> bool:
    """Brings a data set to `<root>/<name>`, or verifies the one that lies there.

    Args:
        name: an entry of data/sources.yaml.
        root: folder of raw data.
        urls: addresses instead of the registered ones, as in `addresses`.
        say: takes the lines of the report.
        show: takes the lines of progress.

    Returns:
        False where a login is needed first; then the report says what to do, and nothing was fetched.

    Raises:
        ValueError: the name is not known, a file cannot be had or is not what was expected, or the folder holds
            something else. Nothing lies in `<root>/<name>` then that was not there before.
    """
    source = find_source(name, SOURCES)
    target, archives = root / name, root / ARCHIVES / name
    root.mkdir(parents=True, exist_ok=True)
    with locks.held(root / f".{name}.lock", f"the download of {name}", say):
        if target.exists() or target.is_symlink():
            say("\n".join(verify(name, target, source)))
            return True
        wanted = addresses(source, urls)
        held = [find_archive(source, file, archives) for file in source.files]
        if any(path is None and url is None for path, url in zip(held, wanted)):
            say("\n".join(instructions(name, source, archives)))
            return False
        say("\n".join(heading(source, target)))
        fetched = [
            obtain(source, file, url, path or archives / file.name, say, show)
            for file, url, path in zip(source.files, wanted, held)
        ]
        say("\n".join(settle(name, target, source, fetched)))
    return True


def heading(source: Source, target: Path) -> list[str]:
    """What is said before anything is fetched: title, licence, size."""
    terms = "; not for commercial use" if "NC" in source.licence else ""
    known = [file.size for file in source.files if file.size is not None]
    size = http.readable(sum(known)) if len(known) == len(source.files) else "not published"
    return [
        f"{source.title}, {source.record}",
        f"licence: {source.licence}{terms}; cite it (key {source.citation} in reports/template/references.bib)",
        f"note: {source.notes}",
        f"{len(source.files)} file{'s' if len(source.files) > 1 else ''}, size {size}, to {target}",
    ]


def instructions(name: str, source: Source, archives: Path) -> list[str]:
    """What to do by hand where a site wants a login."""
    archives.mkdir(parents=True, exist_ok=True)  # so that the file can be moved there
    login = source.login
    steps = [] if login is None else [step.replace("{folder}", str(archives)) for step in login.steps]
    return [
        *heading(source, archives.parent.parent / name)[:3],
        f"{'a site' if login is None else login.site} gives it only after a login, so nothing was fetched:",
        *(f"  {number}. {step}" for number, step in enumerate(steps, start=1)),
        f"Then, in the project's folder: python -m lib download {name}",
        f"With an address that needs no login: python -m lib download {name} --url <address of the zip>",
    ]


def find_archive(source: Source, file: RemoteFile, archives: Path) -> Path | None:
    """A file that was fetched before or put there by hand."""
    names = [file.name, *source.also_named]
    return next((archives / each for each in names if (archives / each).is_file()), None)


def obtain(source: Source, file: RemoteFile, url: str | None, path: Path, say: Show, show: Show) -> dict:
    """Fetches a file unless it is there, checks it, and returns what the record keeps of it.

    Raises:
        ValueError: it cannot be fetched, or its hash is not the registered one.
    """
    known = {name: value for name, value in (("sha256", file.sha256), ("md5", file.md5)) if value}
    if path.is_file():
        say(f"{path}: is there, not fetched")
    else:
        say(f"{file.name} from {url}")
        _fetch(source, file, str(url), path, next((f"{name}:{value}" for name, value in known.items()), None), show)
    for algorithm, expected in known.items():
        found = pooch.file_hash(str(path), algorithm)
        if found != expected:
            raise ValueError(f"{path}: {algorithm} {found}; expected {expected}; remove it to fetch it again")
    size, sha256 = path.stat().st_size, files.sha256(path)
    checked = f"{' and '.join(known)} as registered" if known else UNVERIFIED
    say(f"{file.name}: {http.readable(size)}, sha256 {sha256}, {checked}")
    return {"name": file.name, "file": path, "url": url, "bytes": size, "sha256": sha256, "checked": checked}


def _fetch(source: Source, file: RemoteFile, url: str, path: Path, known_hash: str | None, show: Show) -> None:
    """By pooch, which checks the hash and moves the file to its place; it cannot go on with half a file itself."""
    part = path.with_name(f"{path.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)

    def resume(address: str, output: str, _: object) -> None:
        http.fetch(address, part, file.size, source.limits.download_bytes, show)
        part.replace(output)

    pooch.get_logger().setLevel("WARNING")  # where it comes from and its hash are said by `obtain`
    pooch.retrieve(url, known_hash, fname=path.name, path=path.parent, downloader=resume)


def settle(name: str, target: Path, source: Source, fetched: Sequence[dict]) -> list[str]:
    """Unpacks beside the folder, counts, and gives the whole its name at the end; returns lines of the report.

    Raises:
        ValueError: an archive is unsound, or something else was found than expected; then nothing is left.
    """
    with files.replacing_folder(target) as working:
        for each in fetched:
            _place(each["file"], working, each["name"], source)
        counts = count(name, working, source)
        differing = differences(counts, source)
        if differing and source.expected.sure:
            raise ValueError(f"{target}: not kept: {'; '.join(differing)}")
        record = {
            "dataset": name,
            "record": source.record,
            "licence": source.licence,
            "citation": source.citation,
            "date": date.today().isoformat(),
            "fetched": [{key: value for key, value in each.items() if key != "file"} for each in fetched],
            "counts": counts,
            "files": hashes(working),
        }
        files.write_json(working / RECORD, record)
    unsure = [f"warning: {each} (a count that others report)" for each in differing]
    archives = target.parent / ARCHIVES / name
    return [*unsure, f"{target}: {described(counts)}; {len(record['files'])} files", f"{archives} can be deleted"]


def _place(path: Path, working: Path, name: str, source: Source) -> None:
    """Unpacks an archive, or copies another file to its place."""
    if unpacking.is_archive(name):
        limits = unpacking.Limits(source.limits.members, source.limits.unpacked_bytes)
        unpacking.unpack(path, working, limits, source.leave_out, source.nested)
        return
    place = working / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        raise ValueError(f"{path}: an archive holds a file {name} as well; expected each name once")
    shutil.copyfile(path, place)


def verify(name: str, target: Path, source: Source) -> list[str]:
    """Checks a folder that lies there, by the hashes of its record or else by its counts.

    Raises:
        ValueError: something is missing, changed or more; the message says what to do.
    """
    if not target.is_dir():
        raise ValueError(f"{target}: no folder, or a link to none; remove it to fetch the data set")
    if not (target / RECORD).is_file():
        advice = f"no {RECORD} lies there, so it came by another way and is left alone; move it away to fetch the whole"
        try:
            counts = count(name, target, source)
        except ValueError as error:
            raise ValueError(f"{error}; {advice}") from error
        differing = "; ".join(differences(counts, source))
        if differing and source.expected.sure:
            raise ValueError(f"{target}: {differing}; {advice}")
        warned = [f"warning: {differing} (a count that others report)"] if differing else []
        return [f"{target}: is there, nothing fetched; {described(counts)}, verified by counting", *warned]
    record = files.read_json(target / RECORD)
    changes = _changes(record["files"], hashes(target))
    if changes:
        raise ValueError(f"{target}: {changes} since it was unpacked; remove the folder to have it unpacked again")
    return [f"{target}: is there, nothing fetched; all {len(record['files'])} files have the hashes of {RECORD}"]


def _changes(before: dict[str, str], now: dict[str, str]) -> str:
    """What differs between hashes, in words; "" for nothing."""
    kinds = {
        "changed": [name for name in before if name in now and before[name] != now[name]],
        "missing": [name for name in before if name not in now],
        "added": [name for name in now if name not in before],
    }
    return "; ".join(
        f"{len(names)} {kind}: {', '.join(names[:LISTED])}{', ...' if len(names) > LISTED else ''}"
        for kind, names in kinds.items()
        if names
    )


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder by its path; the record and hidden files left out."""
    found = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {
        path.as_posix(): files.sha256(folder / path)
        for path in found
        if path.as_posix() != RECORD and not any(part.startswith(".") for part in path.parts)
    }


def count(name: str, folder: Path, source: Source) -> dict[str, int]:
    """Cases and subjects as the registered reader finds them, and rows of tables.

    Raises:
        ValueError: the reader does not know the folder's layout, or a table is missing.
    """
    counts = {table: count_rows(folder / table) for table in source.expected.rows}
    if name in datasets.DATASETS:
        dataset = datasets.DATASETS[name]
        found, _ = dataset.find_cases(folder, dataset.groups)
        counts |= {"cases": len(found), "subjects": len({case.subject for case in found})}
    return counts


def count_rows(path: Path) -> int:
    """Rows of a CSV file, its header and empty lines left out."""
    if not path.is_file():
        raise ValueError(f"{path}: missing")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return max(sum(1 for row in csv.reader(file) if row) - 1, 0)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as a table: {error}") from error


def differences(counts: dict[str, int], source: Source) -> list[str]:
    """Where counts are not as expected, in words."""
    known = {"cases": source.expected.cases, "subjects": source.expected.subjects, **source.expected.rows}
    return [
        f"{counts.get(what, 'uncounted')} {described_key(what)}; expected {number}"
        for what, number in known.items()
        if number is not None and counts.get(what) != number
    ]


def described(counts: dict[str, int]) -> str:
    """Counts in words."""
    return ", ".join(f"{number} {described_key(what)}" for what, number in counts.items()) or "nothing to count"


def described_key(what: str) -> str:
    """cases, subjects, or rows in a table."""
    return what if what in ("cases", "subjects") else f"rows in {what}"
