"""Who may import whom: a module imports only from floors below its own; a folder's __init__ may import its members."""

from lib import files, provenance

FLOORS: list[list[str]] = [
    floor.split()
    for floor in (
        "files points rules",
        "biometry devices environment geometry growth heatmaps likeness losses metrics params shapes "
        "statistics ultrasound unpacking",
        "arrays blocks cases fetching figures.style locks phantoms phantoms.* provenance sources splits tables volumes",
        "augmentation datasets.* figures.* floors landmarks making masks models.* patients postprocessing preparation "
        "records rounding sampling views",
        "datasets figures models prediction",
        "identity inference looks measurement monitor preprocessing runs tasks",
        "evaluation",
        "baselines comparison pointing results training trial verification",
        "advice download graph report",
        "__main__ notebook",
    )
]


def all_modules() -> list[str]:
    """Every module of the package, by name without `lib.`."""
    root = files.ROOT / "lib"
    paths = sorted(path.relative_to(root).with_suffix("") for path in root.rglob("*.py"))
    names = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    return [name for name in names if name != "__init__"]


def floor_of(name: str) -> int:
    """The floor of a module.

    Raises:
        ValueError: the module is on no floor.
    """
    folder = name.rpartition(".")[0]
    for floor, members in enumerate(FLOORS):
        if name in members or (folder and f"{folder}.*" in members):
            return floor
    raise ValueError(f"lib.{name} is on no floor; add it to FLOORS in lib/floors.py")


def imports_of(name: str) -> list[str]:
    """Modules of the package that a module imports, without `lib.`."""
    return sorted(found.removeprefix("lib.") for found in provenance.direct_imports(f"lib.{name}"))


def faults() -> list[str]:
    """Imports that do not go down, a line each; empty when the order holds, which also rules out circles."""
    return [
        f"lib.{name} (floor {floor_of(name)}) imports lib.{other} (floor {floor_of(other)})"
        for name in all_modules()
        for other in imports_of(name)
        if floor_of(other) >= floor_of(name)
    ]


def drawing() -> str:
    """The graph of imports, top floor first, a line a module; faults at the end."""
    lines = []
    for floor in reversed(range(len(FLOORS))):
        lines.append(f"floor {floor}")
        for name in (n for n in all_modules() if floor_of(n) == floor):
            lines.append(f"  {name:22} {' '.join(imports_of(name))}".rstrip())
    found = faults()
    return "\n".join([*lines, *(found or ["no circle, no import of the same or a higher floor"])])
