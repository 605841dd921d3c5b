"""Download of the published data sets in data/sources.yaml: fetch, check, unpack, count and verify."""

import shutil
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import pandas as pd
import pooch

from lib import datasets
from lib.download import http, unpacking
from lib.download.sources import RemoteFile, Source, addresses, find_source
from lib.study import files, locks, system_files

SOURCES = files.ROOT / "data" / "sources.yaml"
RECORD = "download.json"  # in the data set's folder: source and hash of each file
ARCHIVES = ".downloads"  # next to the data sets: the downloaded files
MAX_LISTED_FILES = 10  # in an error message
ROWS = "rows of "  # prefix of a table in `expected`


def download(name: str, root: Path, urls: Sequence[str], log: Callable[[str], None]) -> bool:
    """Downloads a data set to `<root>/<name>`, or verifies an existing one; `urls` are as in `addresses`.

    Returns False if a login is needed first, with instructions in the log. ValueError if the data cannot be downloaded
    or are not as expected; `<root>/<name>` is then unchanged.
    """
    source = find_source(name, SOURCES)
    target, archives = root / name, root / ARCHIVES / name
    with locks.locked(root / f".{name}.lock", f"the download of {name}", log):
        if target.exists() or target.is_symlink():
            log(verify(name, target, source))
            return True
        wanted = addresses(source, urls)
        log(heading(source, target))
        archives.mkdir(parents=True, exist_ok=True)
        for left in archives.rglob(".writing-*"):  # of a killed process
            left.unlink()
        paths = [archives / file.name for file in source.files]
        if len(paths) == 1 and not paths[0].is_file():
            paths = _zips(archives) or paths
        if any(url is None and not path.is_file() for url, path in zip(wanted, paths)):
            log(instructions(name, source, archives))
            return False
        triples = zip(source.files, wanted, paths)
        fetched = {path: fetch_file(file, url, path, source.most_download_bytes, log) for file, url, path in triples}
        log(install(name, target, source, fetched))
    return True


def _zips(archives: Path) -> list[Path]:
    """The downloaded zip, under any name, of a data set of one file; ValueError for several."""
    zips = sorted(path for path in archives.iterdir() if path.suffix.lower() == ".zip")
    if len(zips) > 1:
        names = [path.name for path in zips]
        raise ValueError(f"{archives}: {names}; expected one zip; remove the others")
    return zips


def heading(source: Source, target: Path) -> str:
    """Title, licence and size, logged before the download."""
    terms = "; not for commercial use" if "NC" in source.licence else ""
    sizes = [file.size or 0 for file in source.files]
    size = f"{sum(sizes) / 1e6:,.2f} MB" if all(sizes) else "not published"
    return f"""{source.title}, {source.record}
licence: {source.licence}{terms}; please cite (key {source.citation} in reports/template/references.bib)
note: {source.notes}
files: {len(sizes)}, size {size}, to {target}"""


def instructions(name: str, source: Source, archives: Path) -> str:
    """Manual steps for a site that requires a login."""
    steps = "\n".join(f"  {number}. {step}" for number, step in enumerate(source.login, start=1))
    return f"""the site requires a login, so nothing was downloaded:
{steps.replace("{folder}", str(archives))}
Then, in the project's folder: python -m lib download {name}
If you have an address that needs no login: python -m lib download {name} --url <address of the zip>"""


def fetch_file(file: RemoteFile, url: str | None, path: Path, most_bytes: int, log: Callable[[str], None]) -> dict:
    """Downloads a file unless it exists, checks it, and returns its record entry; ValueError as of `check`."""
    if path.is_file():
        log(f"{path}: exists, not downloaded again")
        check(path, file)
    else:
        log(f"{file.name} from {url}")
        with files.replacing(path) as part:
            http.fetch(str(url), part, file.size, most_bytes, log)
            check(part, file)
    size, sha256 = path.stat().st_size, files.sha256(path)
    checked = "as registered" if file.hashes else "not verified against the publisher, no checksum is known"
    log(f"{file.name}: {size} bytes, sha256 {sha256}, {checked}")
    return {"name": file.name, "url": url, "bytes": size, "sha256": sha256, "checked": checked}


def check(path: Path, file: RemoteFile) -> None:
    """ValueError if a file does not have the registered size and hashes."""
    size, kinds = path.stat().st_size, [known.partition(":")[0] for known in file.hashes]
    hashes = [f"{kind}:{pooch.file_hash(str(path), kind)}" for kind in kinds]
    if hashes != file.hashes or file.size not in (None, size):
        found, expected = ", ".join([f"{size} bytes", *hashes]), ", ".join([f"{file.size} bytes", *file.hashes])
        advice = f"if you saved it in {path.parent}, remove it there"
        raise ValueError(f"{file.name}: {found}; expected {expected}; {advice}")


def install(name: str, target: Path, source: Source, fetched: dict[Path, dict]) -> str:
    """Unpacks and counts in a temporary folder, then renames it to `target`; returns a summary for the log."""
    with files.replacing_folder(target) as working:
        for path, entry in fetched.items():
            copy = working / entry["name"]
            if copy.suffix.lower() == ".zip":
                unpacking.unpack(path, working, source.most_members, source.most_bytes, source.leave_out, source.nested)
            elif copy.exists():
                raise ValueError(f"{path}: an archive also contains a file of this name; expected each name once")
            else:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
        counts = count(name, working, source)
        record = source.model_dump(include={"record", "licence", "citation"}) | {
            "dataset": name,
            "date": date.today().isoformat(),
            "fetched": list(fetched.values()),
            "counts": counts,
            "files": hash_files(working),
        }
        files.write_json(working / RECORD, record)
    return f"{target}: {counts}; {len(record['files'])} files\n{target.parent / ARCHIVES / name} can be deleted"


def verify(name: str, target: Path, source: Source) -> str:
    """Checks an existing folder by the hashes in its record, else by its counts; returns a summary for the log."""
    if not target.is_dir():
        raise ValueError(f"{target}: not a folder, or a broken link; remove it to download the data set")
    if not (target / RECORD).is_file():
        try:
            return f"{target}: exists, nothing downloaded; {count(name, target, source)}, verified by counting"
        except ValueError as error:
            advice = f"without {RECORD} it was not downloaded by this command and is not changed"
            raise ValueError(f"{target}: {error}; {advice}; move it away to download the data set") from error
    hashes = files.read_json(target / RECORD)["files"]
    changed = sorted({name for name, _ in hashes.items() ^ hash_files(target).items()})
    if changed:
        found = f"{len(changed)} files changed, missing or added since unpacking"
        names = ", ".join(changed[:MAX_LISTED_FILES])
        raise ValueError(f"{target}: {found}: {names}; remove the folder to unpack it again")
    return f"{target}: exists, nothing downloaded; all {len(hashes)} files match the hashes in {RECORD}"


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder tree by path, without the record and system files."""
    names = [path.relative_to(folder) for path in system_files.walk(folder)[0]]
    return {name.as_posix(): files.sha256(folder / name) for name in names if name != Path(RECORD)}


def count(name: str, folder: Path, source: Source) -> str:
    """Numbers of cases and subjects read by the data set's reader, and of table rows, as text.

    ValueError for an unknown layout, a missing table, or counts that differ from those published; counts that only
    third parties report lead to a warning in the text instead.
    """
    counts = {noun: count_rows(folder / noun.removeprefix(ROWS)) for noun in source.expected if noun.startswith(ROWS)}
    if name in datasets.DATASETS:
        cases, _ = datasets.DATASETS[name].find_cases(folder, datasets.DATASETS[name].groups)
        counts |= {"cases": len(cases), "subjects": len({case.subject for case in cases})}
    wrong = {noun: count for noun, count in source.expected.items() if counts.get(noun) != count}
    differing = "; ".join(f"{counts.get(noun, 'uncounted')} {noun}; expected {count}" for noun, count in wrong.items())
    if differing and source.counts_published:
        raise ValueError(f"{name}: {differing}")
    warning = f"; warning: {differing} (as reported by third parties)" if differing else ""
    return ", ".join(f"{number} {noun}" for noun, number in counts.items()) + warning


def count_rows(path: Path) -> int:
    """Rows of a CSV file, without header and empty lines."""
    try:
        return len(pd.read_csv(path, dtype=str))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as a table: {error}") from error
