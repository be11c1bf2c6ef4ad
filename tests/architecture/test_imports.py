"""Who may import what: the floors, the folders' doors, and the homes of heavy libraries."""

import importlib
import json
import os
import subprocess
import sys
import tomllib
from fnmatch import fnmatch

import pytest

# Library -> the files of src/umbel that may import it, in functions too. For types alone
# (`if TYPE_CHECKING:`) all files of the folder may, so that signatures can be precise.
ML_LIBRARY = ("records/bridges/*",)
HOMES = {
    "cbor2": ("records/cbor.py",),
    "cloudpickle": ("simulation/*", "testing/*"),
    "cryptography": ("base/keystream.py", "secagg/*", "deployment/*"),
    "datasets": ("flwr/datasets/huggingface.py",),
    "dp_accounting": ("privacy/accounting.py",),
    "grpc": ("deployment/*",),
    "jax": ML_LIBRARY,
    "keras": ML_LIBRARY,
    "matplotlib": (
        "cli/plot*.py",
        "partition/plot*.py",
        "serverapp/plot*.py",
        "flwr/datasets/plots.py",
    ),
    "ml_dtypes": ("records/*",),
    "pandas": ("flwr/datasets/frames.py", "partition/label_counts.py", "serverapp/tables.py"),
    "ray": ("simulation/ray*.py",),
    "rich": ("cli/*",),
    "safetensors": (),
    "sklearn": ML_LIBRARY,
    "sqlalchemy": ("store/*",),
    "tensorflow": ML_LIBRARY,
    "threadpoolctl": ("base/threads.py", "updates/spill.py"),
    "torch": (*ML_LIBRARY, "clientapp/torch.py"),
    "typer": ("cli/*",),
    "xgboost": (),
    "zstandard": ("deployment/*",),
}
# `import umbel` may load NumPy, and none of these.
NOT_AT_IMPORT = sorted(HOMES.keys() - {"cloudpickle", "threadpoolctl"})


def strangers(source):
    """Heavy libraries away from home."""
    for item in source.imports:
        library = item.module.partition(".")[0]
        homes = HOMES.get(library)
        if homes is None or any(fnmatch(source.in_package, home) for home in homes):
            continue
        if not (item.for_types and source.folder in {home.split("/")[0] for home in homes}):
            allowed = ", ".join(homes) or "the tests alone"
            yield f"{source.path}:{item.line}: {library} is at home in {allowed}"


def side_doors(source, public):
    """Imports that do not go through the front door; ``public`` maps a folder to its names."""
    if source.folder is None:
        return
    own = f"umbel.{source.folder}"
    is_init = source.path == f"src/umbel/{source.folder}/__init__.py"
    for item in source.imports:
        where = f"{source.path}:{item.line}"
        parts = item.module.split(".")
        if parts[0] != "umbel":
            continue
        folder = item.target.split(".")[1] if "." in item.target else None
        if folder is None or folder not in public:
            yield f"{where}: nothing below imports `umbel` itself; import the folder"
        elif folder == source.folder:
            if item.module == own and item.name in public[folder] and not is_init:
                yield f"{where}: inside {own} import the file, not the folder"
        elif len(parts) > 2 or (len(parts) == 2 and item.name not in public[folder]):
            yield f"{where}: {item.target} is not public; import from umbel.{folder}"


def layers(root):
    config = tomllib.loads((root / "pyproject.toml").read_text())
    (floors,) = (c for c in config["tool"]["importlinter"]["contracts"] if c["name"] == "Floors")
    return [
        name.strip().strip("()")
        for layer in floors["layers"]
        for name in layer.replace(":", "|").split("|")
    ]


@pytest.fixture(scope="session")
def public(folders):
    packages = {folder: importlib.import_module(f"umbel.{folder}") for folder in folders}
    return {folder: set(getattr(p, "__all__", ())) for folder, p in packages.items()}


def test_every_heavy_library_stays_at_home(sources):
    broken = [line for source in sources for line in strangers(source)]
    assert not broken, "\n".join(broken)


def test_folders_are_entered_by_the_front_door(sources, public):
    broken = [line for source in sources for line in side_doors(source, public)]
    assert not broken, "\n".join(broken)


def test_every_folder_has_a_floor(folders, root):
    missing = sorted(set(folders) - set(layers(root)))
    assert not missing, f"pyproject.toml: no floor in the import-linter contract for {missing}"


@pytest.mark.slow
def test_importing_umbel_loads_nothing_heavy(root):
    # In a fresh interpreter; the star also resolves names that are looked up on first use.
    code = "import json, sys; from umbel import *; print(json.dumps(sorted(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    modules = json.loads(out.stdout)
    assert "umbel" in modules
    heavy = [name for name in modules if name.partition(".")[0] in NOT_AT_IMPORT]
    assert not heavy, f"`from umbel import *` loads {heavy}; import them inside functions"


@pytest.mark.parametrize(
    "text",
    [
        "import torch",
        "import torch.nn.functional as F",
        "def f():\n    from torch import nn",
        "if TYPE_CHECKING:\n    import torch",
    ],
)
def test_a_library_away_from_home_is_found_wherever_it_is_imported(source, text):
    (found,) = strangers(source("src/umbel/updates/a.py", text))
    assert "torch is at home in records/bridges/*, clientapp/torch.py" in found
    assert not list(strangers(source("src/umbel/records/bridges/torch.py", text)))


def test_types_of_a_library_may_be_named_all_over_its_folder(source):
    text = "if TYPE_CHECKING:\n    import torch\n"
    assert not list(strangers(source("src/umbel/records/array.py", text)))
    text += "else:\n    import torch\n"
    (found,) = strangers(source("src/umbel/records/array.py", text))
    assert found.startswith("src/umbel/records/array.py:4: ")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("from umbel.records.array import Array", "import from umbel.records"),
        ("import umbel.records.array", "import from umbel.records"),
        ("from umbel.records import codec", "umbel.records.codec is not public"),
        ("from ..records.array import Array", "import from umbel.records"),
        ("from umbel.updates import Mean", "inside umbel.updates import the file"),
        ("import umbel", "nothing below imports `umbel` itself"),
        ("from umbel import Array", "nothing below imports `umbel` itself"),
    ],
)
def test_a_side_door_is_found(source, text, complaint):
    public = {"records": {"Array"}, "updates": {"Mean"}}
    (found,) = side_doors(source("src/umbel/updates/a.py", text), public)
    assert found.startswith("src/umbel/updates/a.py:1: ")
    assert complaint in found


@pytest.mark.parametrize(
    "text",
    ["from umbel.records import Array", "from umbel.updates.mean import Mean", "import numpy"],
)
def test_the_front_door_is_open(source, text):
    public = {"records": {"Array"}, "updates": {"Mean"}}
    assert not list(side_doors(source("src/umbel/updates/a.py", text), public))
