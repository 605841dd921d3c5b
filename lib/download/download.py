"""Published data sets brought to data/raw: fetched, checked, unpacked, counted, and verified when they are there.

What comes from where stands in data/sources.yaml and nowhere else (`lib.download.sources`).
"""

import shutil
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import pandas as pd
import pooch

from lib import datasets
from lib.download import http, unpacking
from lib.download.sources import RemoteFile, Source, addresses, find_source
from lib.study import files, locks

SOURCES = files.ROOT / "data" / "sources.yaml"
RECORD = "download.json"  # in the data set's folder: where its files come from, and the hash of each
ARCHIVES = ".downloads"  # beside the data sets: what was fetched, as it came
LISTED = 10  # files that a message names
ROWS = "rows of "  # a table, in what is expected


def download(name: str, root: Path, urls: Sequence[str], log: Callable[[str], None]) -> bool:
    """Brings a data set of data/sources.yaml to `<root>/<name>`, or verifies the one that lies there.

    `log` takes the lines of the report, `urls` are as of `addresses`. False where a login is needed first: then the
    report says what to do. ValueError where it cannot be had or is not as expected; `<root>/<name>` is then as before.
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
        for left in archives.rglob(".writing-*"):  # by a process that was killed
            left.unlink()
        paths = [archives / file.name for file in source.files]
        if len(paths) == 1 and not paths[0].is_file():
            paths = _zips(archives) or paths
        if any(url is None and not path.is_file() for url, path in zip(wanted, paths)):
            log(instructions(name, source, archives))
            return False
        triples = zip(source.files, wanted, paths)
        fetched = {path: obtain(file, url, path, source.most_download_bytes, log) for file, url, path in triples}
        log(settle(name, target, source, fetched))
    return True


def _zips(archives: Path) -> list[Path]:
    """The zip of a data set of one file, whatever name a browser gave it, if it is there; ValueError for several."""
    zips = sorted(path for path in archives.iterdir() if path.suffix.lower() == ".zip")
    if len(zips) > 1:
        names = [path.name for path in zips]
        raise ValueError(f"{archives}: {names}; expected one zip, so remove those that are not it")
    return zips


def heading(source: Source, target: Path) -> str:
    """What is said before anything is fetched: title, licence, size."""
    terms = "; not for commercial use" if "NC" in source.licence else ""
    sizes = [file.size or 0 for file in source.files]
    size = f"{sum(sizes) / 1e6:,.2f} MB" if all(sizes) else "not published"
    return f"""{source.title}, {source.record}
licence: {source.licence}{terms}; cite it (key {source.citation} in reports/template/references.bib)
note: {source.notes}
files: {len(sizes)}, size {size}, to {target}"""


def instructions(name: str, source: Source, archives: Path) -> str:
    """What to do by hand where a site wants a login."""
    steps = "\n".join(f"  {number}. {step}" for number, step in enumerate(source.login, start=1))
    return f"""its site gives it only after a login, so nothing was fetched:
{steps.replace("{folder}", str(archives))}
Then, in the project's folder: python -m lib download {name}
With an address that needs no login: python -m lib download {name} --url <address of the zip>"""


def obtain(file: RemoteFile, url: str | None, path: Path, most_bytes: int, log: Callable[[str], None]) -> dict:
    """Fetches a file unless it is there, checks it, and returns what the record keeps; ValueError for a wrong one."""
    if path.is_file():
        log(f"{path}: is there, not fetched")
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
    """ValueError where a file has not the registered size and hashes."""
    size, kinds = path.stat().st_size, [known.partition(":")[0] for known in file.hashes]
    hashes = [f"{kind}:{pooch.file_hash(str(path), kind)}" for kind in kinds]
    if hashes != file.hashes or file.size not in (None, size):
        found, expected = ", ".join([f"{size} bytes", *hashes]), ", ".join([f"{file.size} bytes", *file.hashes])
        advice = f"if it was put into {path.parent}, remove it there"
        raise ValueError(f"{file.name}: {found}; expected {expected}; {advice}")


def settle(name: str, target: Path, source: Source, fetched: dict[Path, dict]) -> str:
    """Unpacks beside the folder, counts, names the whole at the end, and says so; ValueError leaves nothing."""
    with files.replacing_folder(target) as working:
        for path, entry in fetched.items():
            place = working / entry["name"]
            if place.suffix.lower() == ".zip":
                unpacking.unpack(path, working, source.most_members, source.most_bytes, source.leave_out, source.nested)
            elif place.exists():
                raise ValueError(f"{path}: an archive holds a file of this name as well; expected each name once")
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
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
    """Checks a folder that lies there, by the hashes of its record or by its counts; ValueError says what to do."""
    if not target.is_dir():
        raise ValueError(f"{target}: no folder, or a link to none; remove it to fetch the data set")
    if not (target / RECORD).is_file():
        try:
            return f"{target}: is there, nothing fetched; {count(name, target, source)}, verified by counting"
        except ValueError as error:
            advice = f"no {RECORD} lies there, so it came by another way and is left alone; move it away"
            raise ValueError(f"{target}: {error}; {advice} to fetch the whole") from error
    hashes = files.read_json(target / RECORD)["files"]
    changed = sorted({name for name, _ in hashes.items() ^ hash_files(target).items()})
    if changed:
        found = f"{len(changed)} files changed, missing or added since it was unpacked: {', '.join(changed[:LISTED])}"
        raise ValueError(f"{target}: {found}; remove the folder to have it unpacked again")
    return f"{target}: is there, nothing fetched; all {len(hashes)} files have the hashes of {RECORD}"


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder by its path; the record and hidden files left out."""
    names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    visible = [name for name in names if not any(part.startswith(".") for part in name.parts) and name != Path(RECORD)]
    return {name.as_posix(): files.sha256(folder / name) for name in visible}


def count(name: str, folder: Path, source: Source) -> str:
    """Cases and subjects as the registered reader finds them, and rows of tables, in words.

    ValueError where the reader does not know the layout, a table is missing, or the counts are not those published;
    where only others report them, the words hold a warning instead.
    """
    counts = {what: count_rows(folder / what.removeprefix(ROWS)) for what in source.expected if what.startswith(ROWS)}
    if name in datasets.DATASETS:
        cases, _ = datasets.DATASETS[name].find_cases(folder, datasets.DATASETS[name].groups)
        counts |= {"cases": len(cases), "subjects": len({case.subject for case in cases})}
    other = {what: number for what, number in source.expected.items() if counts.get(what) != number}
    differing = "; ".join(
        f"{counts.get(what, 'uncounted')} {what}; expected {number}" for what, number in other.items()
    )
    if differing and source.counts_published:
        raise ValueError(f"{name}: {differing}")
    warning = f"; warning: {differing} (a count that others report)" if differing else ""
    return ", ".join(f"{number} {what}" for what, number in counts.items()) + warning


def count_rows(path: Path) -> int:
    """Rows of a CSV file, its header and empty lines left out."""
    try:
        return len(pd.read_csv(path, dtype=str))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as a table: {error}") from error
