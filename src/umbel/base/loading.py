"""Apps by name: from ``"package.module:attribute"`` to the object it names."""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType, TracebackType

from umbel.base.errors import AppLoadError

_FORM_HINT = 'write it as "package.module:attribute", for instance "my_app.client_app:app"'
_NAMES_SHOWN = 8


def load_object(reference: str, app_dir: Path | None = None) -> object:
    """Return the object that ``"package.module:attribute"`` names, importing its module.

    Parameters
    ----------
    reference : str
        Dotted module name, a colon, and the attribute (which may be dotted as well).
    app_dir : Path, optional
        Folder in which the app's modules lie. It is put at the front of ``sys.path`` and stays
        there, because an app may import more of itself later.

    Raises
    ------
    AppLoadError
        The reference is malformed, the module or the attribute is missing, or the module raised
        while it was imported (that exception, with its own traceback, is the ``__cause__``).

    Examples
    --------
    >>> load_object("umbel.base:new_id").__name__
    'new_id'
    """
    module_name, attribute = _split(reference)
    if app_dir is not None:
        app_dir = app_dir.resolve()
        _put_on_path(app_dir, module_name, reference)
    value: object = _import(module_name, reference, app_dir)
    holder = module_name
    for name in attribute.split("."):
        try:
            value = getattr(value, name)
        except AttributeError as error:
            raise _missing_attribute(value, name, holder, reference) from error
        holder = f"{holder}.{name}"
    return value


def _split(reference: str) -> tuple[str, str]:
    if not isinstance(reference, str):
        raise AppLoadError(
            f"an app is named by a string, not by {type(reference).__name__}", hint=_FORM_HINT
        )
    module_name, _, attribute = reference.partition(":")
    names = [*module_name.split("."), *attribute.split(".")]
    if not all(name.isidentifier() for name in names):
        raise AppLoadError(f"{reference!r} does not name an app", hint=_FORM_HINT)
    if module_name.endswith(".py"):
        raise AppLoadError(
            f"{reference!r} names a file, not a module",
            hint=f'leave out the ending: "{module_name.removesuffix(".py")}:{attribute}"',
        )
    return module_name, attribute


def _put_on_path(app_dir: Path, module_name: str, reference: str) -> None:
    if not app_dir.is_dir():
        raise AppLoadError("the app's folder does not exist", app=reference, folder=app_dir)
    top = module_name.partition(".")[0]
    loaded = sys.modules.get(top)
    if loaded is not None and top in _modules_in(app_dir) and not _lies_in(loaded, app_dir):
        # Importing would quietly return the other one.
        raise AppLoadError(
            f"another module named {top!r} is already loaded in this process",
            hint="rename the app's module, or load the app in a fresh process",
            app=reference,
            folder=app_dir,
            loaded=", ".join(_places(loaded)) or "built in",
        )
    entry = str(app_dir)
    if sys.path[:1] != [entry]:
        sys.path[:] = [entry, *(other for other in sys.path if other != entry)]
    importlib.invalidate_caches()  # the app's files may be younger than the import system's listing


def _places(module: ModuleType) -> list[str]:
    file = getattr(module, "__file__", None)
    return [file] if file else [str(place) for place in getattr(module, "__path__", ())]


def _lies_in(module: ModuleType, folder: Path) -> bool:
    return any(Path(place).resolve().is_relative_to(folder) for place in _places(module))


def _modules_in(folder: Path) -> list[str]:
    return sorted(
        entry.stem
        for entry in folder.iterdir()
        if entry.stem.isidentifier()
        and (entry.suffix == ".py" or (entry.is_dir() and any(entry.glob("*.py"))))
    )


def _import(module_name: str, reference: str, app_dir: Path | None) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or str(error)
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise _missing_module(missing, reference, app_dir) from error
        _keep_app_frames(error)
        raise AppLoadError(
            f"the app's module {module_name!r} imports {missing!r}, which cannot be found",
            hint=f"install the package that provides {missing!r} into this Python environment, or "
            "correct the import",
            app=reference,
            **_place_of(error),
        ) from error
    except (Exception, SystemExit) as error:
        # SystemExit too: a script without a `__main__` guard must not end its loader in silence.
        _keep_app_frames(error)
        raise AppLoadError(
            f"the app's module {module_name!r} raised {type(error).__name__} while it was "
            f"imported: {error}",
            hint="importing the module by itself shows the same error: "
            f'python -c "import {module_name}"',
            app=reference,
            **_place_of(error),
        ) from error


def _keep_app_frames(error: BaseException) -> None:
    """Cut the import system's frames off the top of the traceback, so that it starts in the app."""
    frame: TracebackType | None = error.__traceback__
    while frame is not None and _is_machinery(frame.tb_frame.f_code.co_filename):
        frame = frame.tb_next
    error.__traceback__ = frame


def _is_machinery(filename: str) -> bool:
    return filename in (__file__, importlib.__file__) or filename.startswith("<frozen importlib")


def _place_of(error: BaseException) -> dict[str, object]:
    if isinstance(error, SyntaxError):
        return {"file": error.filename, "line": error.lineno}
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not _is_machinery(frame.filename)
    ]
    return {"file": frames[-1].filename, "line": frames[-1].lineno} if frames else {}


def _missing_module(missing: str, reference: str, app_dir: Path | None) -> AppLoadError:
    if app_dir is None:
        hint = "is it installed in this Python environment, or is its folder missing from the path?"
    else:
        found = _modules_in(app_dir)
        hint = _suggestion(missing, found, f"modules in {app_dir}")
    return AppLoadError(f"there is no module named {missing!r}", hint=hint, app=reference)


def _missing_attribute(owner: object, name: str, holder: str, reference: str) -> AppLoadError:
    public = [known for known in dir(owner) if not known.startswith("_")]
    file = getattr(owner, "__file__", None)
    return AppLoadError(
        f"{holder!r} has no attribute {name!r}",
        hint=_suggestion(name, public, f"names in {holder}"),
        app=reference,
        **({"file": file} if file else {}),
    )


def _suggestion(name: str, known: list[str], title: str) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    if near:
        return f"did you mean {' or '.join(repr(match) for match in near)}?"
    shown = ", ".join(known[:_NAMES_SHOWN]) + (", ..." if len(known) > _NAMES_SHOWN else "")
    return f"{title}: {shown}" if known else f"there are no {title}"


def set_up(reference: str | None) -> None:
    """Call the function, if one is named, that prepares this process for an app."""
    if reference is None:
        return
    prepare = load_object(reference)
    if not callable(prepare):
        raise AppLoadError("the setup of an app is a function without arguments", app=reference)
    prepare()
