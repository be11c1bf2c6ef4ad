import hashlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import umbel.deployment.bundle.unpacking as unpacking
from umbel.base import BundleError
from umbel.deployment.bundle import (
    BUNDLE_FILE_MAX_BYTES,
    BUNDLE_FILES_MAX_COUNT,
    BUNDLE_MAX_BYTES,
    Manifest,
    PackedFile,
    build_bundle,
    bundle_hash,
    read_manifest,
    unpack_bundle,
)
from umbel.deployment.bundle.layout import MANIFEST_NAME, TRAILER, header, padding


def everything_in(folder) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def files_in(folder) -> dict[str, bytes]:
    return {path: data for path, data in everything_in(folder).items() if data is not None}


def packed(path: str, data: bytes, **lies) -> PackedFile:
    facts = {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return PackedFile(**facts | lies)


def forged(files: list[tuple[PackedFile, bytes]], text: bytes | None = None) -> bytes:
    """A bundle with correct headers over whatever it is told."""
    manifest = Manifest("demo", "1", tuple(file for file, _ in files))
    text = manifest.encode() if text is None else text
    parts = [header(MANIFEST_NAME, len(text)), text, padding(len(text))]
    for file, data in files:
        parts += [header(file.path, file.size), data, padding(len(data))]
    return b"".join([*parts, TRAILER])


def refused(bundle: bytes, folder: Path, words: str | None = None) -> None:
    """Assert that the bundle is refused and that nothing at all is written."""
    target = folder / "inner" / "apps"
    before = everything_in(folder)
    with pytest.raises(BundleError, match=words):
        unpack_bundle(bundle, target)
    with pytest.raises(BundleError, match=words):
        read_manifest(bundle)
    assert everything_in(folder) == before


def test_an_app_comes_out_as_it_went_in(app, tmp_path):
    bundle = build_bundle(app)
    folder = unpack_bundle(bundle, tmp_path / "apps")
    assert folder == tmp_path / "apps" / bundle_hash(bundle)
    assert files_in(folder) == files_in(app)
    assert [path.name for path in (tmp_path / "apps").iterdir()] == [folder.name]
    assert build_bundle(folder) == bundle


def test_a_bundle_that_is_there_is_not_unpacked_again(app, tmp_path):
    bundle = build_bundle(app)
    folder = unpack_bundle(bundle, tmp_path / "apps")
    (folder / "mark").touch()
    assert unpack_bundle(bundle, tmp_path / "apps") == folder
    assert (folder / "mark").exists()


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b""), Path.unlink])
def test_a_bundle_that_was_damaged_is_unpacked_again(app, tmp_path, damage):
    bundle = build_bundle(app)
    folder = unpack_bundle(bundle, tmp_path / "apps")
    damage(folder / next(path for path, data in files_in(folder).items() if data))
    assert unpack_bundle(bundle, tmp_path / "apps") == folder
    assert files_in(folder) == files_in(app)
    assert list((tmp_path / "apps").iterdir()) == [folder]


def test_of_two_that_unpack_at_once_both_succeed(app, tmp_path, monkeypatch):
    bundle, rename = build_bundle(app), unpacking.os.rename

    def slower(source, target):
        monkeypatch.setattr(unpacking.os, "rename", rename)
        unpack_bundle(bundle, tmp_path / "apps")
        rename(source, target)

    monkeypatch.setattr(unpacking.os, "rename", slower)
    folder = unpack_bundle(bundle, tmp_path / "apps")
    assert files_in(folder) == files_in(app)
    assert [path.name for path in (tmp_path / "apps").iterdir()] == [folder.name]


def test_an_interruption_leaves_nothing(app, tmp_path, monkeypatch):
    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(unpacking.os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack_bundle(build_bundle(app), tmp_path / "apps")
    assert everything_in(tmp_path / "apps") == {}


def test_the_forger_of_these_tests_can_make_a_good_one(tmp_path):
    folder = unpack_bundle(forged([(packed("a/b.py", b"1"), b"1")]), tmp_path)
    assert files_in(folder) == {"a/b.py": b"1"}


@pytest.mark.parametrize(
    "path",
    [
        "../evil.py",
        "a/../../evil.py",
        "/etc/evil.py",
        "//evil.py",
        "a//b.py",
        "./a.py",
        "a/.",
        "a/",
        "",
        "..",
        "C:/evil.py",
        "c:evil.py",
        "..\\evil.py",
        "a\\b.py",
        "a\0b.py",
        "a\nb.py",
        "a. /b.py",
        "a" * 256,
        "/".join("a" * 33),
        "/".join(["a" * 200] * 3),
        MANIFEST_NAME,
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(path, tmp_path):
    refused(forged([(packed(path, b"1"), b"1")]), tmp_path, "path|name")


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["a.py", "a.py"], "there twice"),
        (["b.py", "a.py"], "not sorted"),
        (["A.py", "a.py"], "are one on some"),
        (["A/x.py", "a/y.py"], "are one on some"),
        (["a", "a/b.py"], "are one on some"),
        (["STRASSE.py", "stra\u00dfe.py"], "are one on some"),
    ],
)
def test_paths_that_meet_are_refused(paths, words, tmp_path):
    refused(forged([(packed(path, b"1"), b"1") for path in paths]), tmp_path, words)


@pytest.mark.parametrize(
    ("lies", "words"),
    [
        ({"sha256": "0" * 64}, "not what the manifest says"),
        ({"size": 0}, "cut short|not what"),
        ({"size": 600}, "not what the manifest says"),
        ({"size": BUNDLE_FILE_MAX_BYTES + 1}, "larger than"),
        ({"size": 10**30}, "larger than"),
        ({"size": BUNDLE_FILE_MAX_BYTES}, "cut short"),
    ],
)
def test_a_manifest_that_lies_is_found_out(lies, words, tmp_path):
    file = packed("a.py", b"123", **lies)
    text = Manifest("demo", "1", (file,)).encode()
    honest = packed("a.py", b"123")
    bundle = forged([(honest, b"123")], text)
    if file.size <= BUNDLE_FILE_MAX_BYTES:
        refused(bundle.replace(header("a.py", 3), header("a.py", file.size)), tmp_path, words)
        words = f"{words}|does not hold what"
    refused(bundle, tmp_path, words)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": True},
        {"extra": 1},
        {"app": {"name": "demo"}},
        {"app": {"name": 3, "version": "1"}},
        {"app": []},
        {"files": None},
        {"files": [1]},
        {"files": [{"path": "a", "size": -1, "sha256": ""}]},
        {"files": [{"path": "a", "size": True, "sha256": ""}]},
        {"files": [{"path": "a", "size": 1.0, "sha256": ""}]},
        {"files": [{"path": "\ud800", "size": 0, "sha256": ""}]},
    ],
)
def test_a_manifest_of_another_form_is_refused(change, tmp_path):
    document = json.loads(Manifest("demo", "1", ()).encode()) | change
    text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    refused(forged([], text), tmp_path, "manifest|format")


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"[" * 100_000, b"9" * 5000, b"\xff", b'{"format":1,"format":1}']
)
def test_what_is_no_manifest_is_refused(text, tmp_path):
    refused(forged([], text), tmp_path, "manifest")


def test_a_manifest_that_is_written_another_way_is_refused(tmp_path):
    text = Manifest("demo", "1", ()).encode()
    refused(forged([], text.replace(b":", b": ")), tmp_path, "not in the form")


@pytest.mark.parametrize("bundle", [b"", b"hello", bytes(4096), b"\x1f\x8b" + bytes(600)])
def test_what_is_no_bundle_is_refused(bundle, tmp_path):
    refused(bundle, tmp_path, "not a bundle")


def test_bounds_hold_before_anything_is_read(tmp_path):
    refused(bytes(BUNDLE_MAX_BYTES + 1), tmp_path, "bundle is larger")
    none = hashlib.sha256().hexdigest()
    files = tuple(PackedFile(f"{i:05}", 0, none) for i in range(BUNDLE_FILES_MAX_COUNT + 1))
    refused(forged([], Manifest("demo", "1", files).encode()), tmp_path, "5001 files")


def test_a_bundle_ends_where_it_ends(app, tmp_path):
    bundle = build_bundle(app)
    refused(bundle + b"\0", tmp_path, "goes on")
    for end in range(0, len(bundle), 97):
        refused(bundle[:end], tmp_path)


NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\:"),
    min_size=1,
    max_size=12,
).filter(
    lambda name: (
        not name.startswith(".")
        and not name.endswith((".", " ", ".pyc", ".pyo", ".egg-info"))
        and name not in ("build", "dist", "runs", "venv", "pyproject.toml", "pyvenv.cfg")
    )
)


@given(st.dictionaries(st.tuples(NAMES, NAMES), st.binary(max_size=1200), max_size=4))
@settings(max_examples=25)
def test_what_is_packed_is_unpacked(drawn):
    files = {f"f{i}/{a}/{b}": d for i, ((a, b), d) in enumerate(drawn.items())}
    with tempfile.TemporaryDirectory() as scratch:
        app = Path(scratch, "app")
        _write(app, files)
        bundle = build_bundle(app)
        assert build_bundle(app) == bundle
        folder = unpack_bundle(bundle, Path(scratch, "apps"))
        assert files_in(folder) == files_in(app)


def _write(app: Path, files: dict[str, bytes]) -> None:
    components = '[tool.umbel.app.components]\nserverapp = "a:b"\nclientapp = "a:b"\n'
    for path, data in {
        "pyproject.toml": f'[project]\nname = "demo"\n{components}'.encode(),
        **files,
    }.items():
        (app / path).parent.mkdir(parents=True, exist_ok=True)
        (app / path).write_bytes(data)


GOOD = forged([(packed("a/b.py", b"x = 1\n"), b"x = 1\n"), (packed("c.py", b""), b"")])


def refused_or_renamed(changed: bytes) -> None:
    """The app's name and version are free text: who changes them has made another good bundle."""
    try:
        manifest = read_manifest(changed)
    except BundleError:
        return
    assert (manifest.name, manifest.version) != ("demo", "1")
    assert manifest.files == read_manifest(GOOD).files


@given(st.data())
@settings(max_examples=100)
def test_no_changed_byte_gets_through(data):
    changed = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(GOOD) - 1))
        changed[place] = data.draw(st.integers(0, 255))
    if bytes(changed) != GOOD:
        refused_or_renamed(bytes(changed))


def test_no_flipped_bit_of_any_byte_gets_through():
    for place in range(len(GOOD)):
        changed = bytearray(GOOD)
        changed[place] ^= 1
        refused_or_renamed(bytes(changed))


@given(st.binary(max_size=2000))
@settings(max_examples=50)
def test_any_bytes_are_refused(data):
    with pytest.raises(BundleError):
        read_manifest(data)
