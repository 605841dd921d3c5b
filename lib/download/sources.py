"""Where published data sets come from: data/sources.yaml, read strictly and whole."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urljoin

from pydantic import Field, ValidationError

from lib.study import params


class RemoteFile(params.Params):
    """One file of a data set, as its site offers it."""

    name: str = Field(pattern=r"^\w[\w. -]*(/\w[\w. -]*)*$", max_length=200)
    url: str | None
    size: int | None = Field(gt=0)
    md5: str | None = Field(pattern="^[0-9a-f]{32}$")
    sha256: str | None = Field(pattern="^[0-9a-f]{64}$")


class Login(params.Params):
    """What to do by hand on a site that wants a login; {folder} stands for where the file goes."""

    site: str = Field(min_length=1)
    steps: list[str] = Field(min_length=1)


class Limits(params.Params):
    """More is never fetched or unpacked."""

    download_bytes: int = Field(gt=0)
    members: int = Field(gt=0)
    unpacked_bytes: int = Field(gt=0)


class Expected(params.Params):
    """What lies there in the end; null where it is not known."""

    cases: int | None = Field(gt=0)
    subjects: int | None = Field(gt=0)
    rows: dict[str, int]
    sure: bool


class Source(params.Params):
    """An entry of data/sources.yaml."""

    title: str = Field(min_length=1)
    record: str = Field(pattern=r"^https://\S+$")
    licence: str = Field(min_length=1)
    citation: params.Name
    login: Login | None
    base: str | None = Field(pattern=r"^https?://\S+/$")
    files: list[RemoteFile] = Field(min_length=1)
    also_named: list[str]
    leave_out: list[str]
    nested: list[str]
    limits: Limits
    expected: Expected
    notes: str


def read_sources(path: Path) -> dict[str, Source]:
    """Every source by the name of its data set.

    Raises:
        ValueError: no such file, no YAML, or faults, all of them named at once.
    """
    if not path.is_file():
        raise ValueError(f"{path}: missing; it says where each data set comes from")
    sources, faults = {}, []
    for name, values in params.read_yaml(path).items():
        try:
            sources[name] = Source.model_validate(values)
            faults += [f"{name}.{fault}" for fault in _source_faults(sources[name])]
        except ValidationError as error:
            for fault in error.errors():
                key = ".".join(map(str, (name, *fault["loc"])))
                faults.append(f"{key} = {fault['input']!r}   {fault['msg']}")
    if faults:
        raise ValueError(params.format_faults(str(path), faults))
    return sources


def _source_faults(source: Source) -> list[str]:
    """What single keys cannot tell."""
    names = [file.name for file in source.files]
    faults = [f"files   {name} is given twice; expected each name once" for name in names if names.count(name) > 1]
    for file, url in zip(source.files, addresses(source, [])):
        if (url is None) == (source.login is None):
            faults.append(f"files.{file.name}.url = {url}   expected an address, or a login with steps, and not both")
        elif url is not None and not url.startswith(("http://", "https://")):
            faults.append(f"files.{file.name}.url = {url}   expected an address with http or https, or a base")
    if source.also_named and len(names) > 1:
        faults.append(f"also_named = {source.also_named}   not allowed for {len(names)} files; expected [] or one file")
    return faults


def find_source(name: str, path: Path) -> Source:
    """The source of a data set; ValueError with the nearest name for one that is not there."""
    sources = read_sources(path)
    if name not in sources:
        there = f"{', '.join(sources)}{params.nearest(name, sources)}"
        raise ValueError(f"{name}: no data set of {path.name}; there are: {there}")
    return sources[name]


def addresses(source: Source, urls: Sequence[str]) -> list[str | None]:
    """The address of each file: as given, else as registered.

    Args:
        source: of the data set.
        urls: one for each file, or one of a folder, that ends with /, or none.
    """
    if not urls:
        return [None if file.url is None else urljoin(source.base or "", file.url) for file in source.files]
    if len(urls) == 1 and urls[0].endswith("/"):
        return [urls[0] + quote(file.name) for file in source.files]
    if len(urls) != len(source.files):
        names = ", ".join(file.name for file in source.files)
        expected = "one for each in this order, or one of a folder that holds them and ends with /"
        raise ValueError(f"--url: {len(urls)} addresses for {len(source.files)} files; expected {expected}: {names}")
    return list(urls)
