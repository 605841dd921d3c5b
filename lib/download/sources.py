"""Sources of published data sets, read from data/sources.yaml with strict validation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urljoin

from pydantic import Field, ValidationError

from lib.study import param_faults, params, plain_yaml

OTHER_ARCHIVES = (".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".rar", ".7z")


class RemoteFile(params.Params):
    """One downloadable file of a data set."""

    name: str = Field(pattern=r"^\w[\w. -]*(/\w[\w. -]*)*$", max_length=200)
    url: str | None
    size: int | None = Field(gt=0)
    hashes: list[Annotated[str, Field(pattern="^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$")]]


Words = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^\S[^\n]*[^\s.]$")
]  # of a sentence, without its stop


class Facts(params.Params):
    """What the Materials of a paper say of a data set; None where no text of `seen_in` states it."""

    short_name: Words
    published: Words
    origin: Words | None
    population: Words | None
    hospitals: Words | None
    country: Words | None
    devices: Words | None
    years: Words | None
    annotators: Words | None
    readers: Words | None
    reference: Words | None
    inclusion: Words | None
    ethics: Words | None
    deidentification: Words | None
    seen_in: list[Words] = Field(min_length=1)


class Source(params.Params):
    """An entry of data/sources.yaml; its keys are explained there."""

    title: str = Field(min_length=1)
    record: str = Field(pattern=r"^https://\S+$")
    licence: str = Field(min_length=1)
    citation: params.Name
    login: list[str]
    base: str | None = Field(pattern=r"^https?://\S+/$")
    files: list[RemoteFile] = Field(min_length=1)
    leave_out: list[str]
    nested: list[str]
    most_download_bytes: int = Field(gt=0)
    most_members: int = Field(gt=0)
    most_bytes: int = Field(gt=0)
    expected: dict[Annotated[str, Field(pattern="^(cases|subjects|rows of .+)$")], Annotated[int, Field(gt=0)]]
    counts_published: bool
    facts: Facts
    notes: str


def read_sources(path: Path) -> dict[str, Source]:
    """All sources by data set name; ValueError, listing all faults, for a missing or invalid file."""
    if not path.is_file():
        raise ValueError(f"{path}: missing; this file lists the source of each data set")
    sources, faults = {}, []
    for name, values in plain_yaml.read(path).items():
        try:
            sources[name] = Source.model_validate(values)
            faults += [f"{name}.{fault}" for fault in _source_faults(sources[name])]
        except ValidationError as error:
            for fault in error.errors():
                value = "" if fault["type"] == "missing" else f" = {param_faults.shown(fault['input'])}"
                faults.append(f"{'.'.join(map(str, (name, *fault['loc'])))}{value}   {fault['msg']}")
    param_faults.refuse(str(path), faults)
    return sources


def _source_faults(source: Source) -> list[str]:
    """Faults that involve several keys."""
    names = [file.name for file in source.files]
    faults = [f"files   {name} appears twice; expected each name once" for name in names if names.count(name) > 1]
    for name, url in zip(names, addresses(source, [])):
        if name.lower().endswith(OTHER_ARCHIVES):
            faults.append(f"files.{name}   unsupported archive; expected .zip, or plain files")
        if (url is None) != bool(source.login):
            faults.append(f"files.{name}.url = {url}   expected either an address or login steps, not both")
        elif url is not None and not url.startswith(("http://", "https://")):
            faults.append(f"files.{name}.url = {url}   expected an http or https address, or a base")
    return faults


def find_source(name: str, path: Path) -> Source:
    """The source of a data set; ValueError with the nearest name for an unknown one."""
    sources = read_sources(path)
    if name not in sources:
        known = f"{', '.join(sources)}{param_faults.nearest(name, sources)}"
        raise ValueError(f"{name}: not in {path.name}; available: {known}")
    return sources[name]


def addresses(source: Source, urls: Sequence[str]) -> list[str | None]:
    """Address of each file: from `urls` (one per file, or one folder ending with /), else as registered."""
    if not urls:
        return [None if file.url is None else urljoin(source.base or "", file.url) for file in source.files]
    if len(urls) == 1 and urls[0].endswith("/"):
        return [urls[0] + quote(file.name) for file in source.files]
    if len(urls) != len(source.files):
        names = ", ".join(file.name for file in source.files)
        expected = "one per file in this order, or one folder that contains them and ends with /"
        raise ValueError(f"--url: {len(urls)} addresses for {len(source.files)} files; expected {expected}: {names}")
    return list(urls)
