"""load_object: what it returns, and what each way to fail says."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from umbel.base import AppLoadError, load_object


@pytest.fixture(autouse=True)
def unchanged_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_object_of_a_package_in_the_app_folder(tmp_path: Path) -> None:
    write(tmp_path, "fed_app/__init__.py", "")
    write(tmp_path, "fed_app/task.py", "VALUE = 41")
    write(tmp_path, "fed_app/client.py", "from fed_app.task import VALUE\napp = VALUE + 1")
    assert load_object("fed_app.client:app", tmp_path) == 42
    assert sys.path[0] == str(tmp_path)


def test_the_app_folder_comes_first_and_once(tmp_path: Path) -> None:
    write(tmp_path, "fed_app.py", "app = 1")
    sys.path.append(str(tmp_path))
    load_object("fed_app:app", tmp_path)
    load_object("fed_app:app", tmp_path)
    assert sys.path[0] == str(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1


def test_relative_app_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "fed_app.py", "app = 1")
    monkeypatch.chdir(tmp_path)
    assert load_object("fed_app:app", Path(".")) == 1
    assert sys.path[0] == str(tmp_path)


def test_dotted_attribute(tmp_path: Path) -> None:
    write(tmp_path, "fed_app.py", "class Apps:\n    client = 'the client'")
    assert load_object("fed_app:Apps.client", tmp_path) == "the client"


def test_a_folder_without_init_is_a_package(tmp_path: Path) -> None:
    write(tmp_path, "fed_app/client.py", "app = 5")
    assert load_object("fed_app.client:app", tmp_path) == 5
    assert load_object("fed_app.client:app", tmp_path) == 5


@pytest.mark.parametrize(
    "reference", ["", "client", "client.app", "client:", ":app", "a b:app", "a/b:app", "a:b:c"]
)
def test_malformed_reference(reference: str) -> None:
    with pytest.raises(AppLoadError, match=r"does not name an app.*package.module:attribute"):
        load_object(reference)


def test_reference_of_another_type() -> None:
    with pytest.raises(AppLoadError, match="not by int"):
        load_object(3)  # type: ignore[arg-type]


def test_a_file_name_is_corrected() -> None:
    with pytest.raises(AppLoadError, match='leave out the ending: "client:app"'):
        load_object("client.py:app")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(AppLoadError, match=r"folder does not exist.*nowhere"):
        load_object("fed_app:app", tmp_path / "nowhere")


def test_missing_module_suggests_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, "client_app.py", "app = 1")
    with pytest.raises(AppLoadError, match=r"no module named 'clientapp'.*mean 'client_app'"):
        load_object("clientapp:app", tmp_path)


def test_missing_module_lists_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, "one.py", "")
    write(tmp_path, "two/__init__.py", "")
    with pytest.raises(AppLoadError, match=r"no module named 'fed_app'.*: one, two"):
        load_object("fed_app.client:app", tmp_path)


def test_missing_module_without_a_folder() -> None:
    with pytest.raises(AppLoadError, match=r"no module named 'no_such_app'.*installed"):
        load_object("no_such_app:app")


def test_missing_submodule(tmp_path: Path) -> None:
    write(tmp_path, "fed_app/__init__.py", "")
    with pytest.raises(AppLoadError, match=r"no module named 'fed_app\.client'"):
        load_object("fed_app.client:app", tmp_path)


def test_a_module_that_the_app_imports_is_missing(tmp_path: Path) -> None:
    file = write(tmp_path, "fed_app.py", "\nimport no_such_library\napp = 1")
    with pytest.raises(AppLoadError) as caught:
        load_object("fed_app:app", tmp_path)
    text = str(caught.value)
    assert "'fed_app' imports 'no_such_library'" in text
    assert f"file: {file}, line: 2" in text
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_missing_attribute_suggests_a_near_name(tmp_path: Path) -> None:
    write(tmp_path, "fed_app.py", "client_app = 1")
    with pytest.raises(AppLoadError, match=r"'fed_app' has no attribute 'clientapp'.*'client_app'"):
        load_object("fed_app:clientapp", tmp_path)


def test_missing_attribute_lists_names(tmp_path: Path) -> None:
    write(tmp_path, "fed_app.py", "first = 1\nsecond = 2\n_hidden = 3")
    with pytest.raises(AppLoadError, match=r"names in fed_app: first, second$"):
        load_object("fed_app:xyz", tmp_path)


def test_missing_attribute_of_an_attribute(tmp_path: Path) -> None:
    write(tmp_path, "fed_app.py", "class Apps:\n    client = 1")
    with pytest.raises(AppLoadError, match=r"'fed_app\.Apps' has no attribute 'clint'.*'client'"):
        load_object("fed_app:Apps.clint", tmp_path)


def test_exception_inside_the_module_keeps_its_own_traceback(tmp_path: Path) -> None:
    write(tmp_path, "fed_app.py", "import fed_task")
    file = write(tmp_path, "fed_task.py", "def load():\n    return 1 / 0\n\nload()")
    with pytest.raises(AppLoadError) as caught:
        load_object("fed_app:app", tmp_path)
    text = str(caught.value)
    assert "'fed_app' raised ZeroDivisionError" in text
    assert f"file: {file}, line: 2" in text
    cause = caught.value.__cause__
    assert isinstance(cause, ZeroDivisionError)
    frames = traceback.extract_tb(cause.__traceback__)
    assert frames[0].filename == str(tmp_path / "fed_app.py")
    assert frames[-1].name == "load"


def test_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    file = write(tmp_path, "fed_app.py", "x = 1\ny = (")
    with pytest.raises(AppLoadError) as caught:
        load_object("fed_app:app", tmp_path)
    assert f"file: {file}, line: 2" in str(caught.value)


def test_a_script_that_exits_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "fed_app.py", "import sys\nsys.exit(3)")
    with pytest.raises(AppLoadError, match="raised SystemExit"):
        load_object("fed_app:app", tmp_path)


def test_the_same_module_name_in_two_folders(tmp_path: Path) -> None:
    write(tmp_path / "one", "fed_app.py", "app = 1")
    write(tmp_path / "two", "fed_app.py", "app = 2")
    assert load_object("fed_app:app", tmp_path / "one") == 1
    with pytest.raises(AppLoadError, match="another module named 'fed_app' is already loaded"):
        load_object("fed_app:app", tmp_path / "two")


def test_a_failed_import_can_be_tried_again(tmp_path: Path) -> None:
    file = write(tmp_path, "fed_app.py", "import no_such_library")
    with pytest.raises(AppLoadError):
        load_object("fed_app:app", tmp_path)
    file.write_text("app = 'mended, and longer than before'")
    assert str(load_object("fed_app:app", tmp_path)).startswith("mended")
