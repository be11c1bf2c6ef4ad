import os
import tarfile
from io import BytesIO

import pytest

import umbel.deployment.bundle.layout as layout
import umbel.deployment.bundle.packing as packing
from umbel.base import BundleError, ConfigError
from umbel.deployment.bundle import build_bundle, bundle_hash, read_manifest

# SHA-256 of the bundle of the app in conftest.py: the same on every machine, for ever.
GOLDEN = "94331ce7420da8af9f5858d297a9d175e800ac001efd31a58bfcf38073ad9ec8"


def paths(bundle):
    return [file.path for file in read_manifest(bundle).files]


def test_the_bytes_are_the_same_for_ever(app):
    assert bundle_hash(build_bundle(app)) == GOLDEN


def test_dates_modes_and_order_do_not_count(app, app_writer, tmp_path):
    twin = app_writer(tmp_path / "twin", {"demo/app.py": b"x = 1\n", "demo/__init__.py": b""})
    os.utime(twin / "demo" / "app.py", (1, 1))
    (twin / "demo" / "app.py").chmod(0o755)
    assert build_bundle(twin) == build_bundle(app)
    (twin / "demo" / "app.py").write_bytes(b"x = 2\n")
    assert build_bundle(twin) != build_bundle(app)


def test_any_tar_lists_it(app):
    with tarfile.open(fileobj=BytesIO(build_bundle(app))) as archive:
        members = archive.getmembers()
        assert archive.extractfile("demo/app.py").read() == b"x = 1\n"
    assert [member.name for member in members] == [
        "UMBEL-BUNDLE.json",
        "demo/__init__.py",
        "demo/app.py",
        "pyproject.toml",
    ]
    assert {(m.mtime, m.mode, m.uid, m.uname) for m in members} == {(0, 0o644, 0, "")}


def test_the_manifest_says_what_the_app_is(app):
    manifest = read_manifest(build_bundle(app))
    assert (manifest.name, manifest.version) == ("demo", "1.2")
    assert {file.path: file.size for file in manifest.files}["demo/app.py"] == 6


def test_what_is_no_code_is_left_out(app, app_writer):
    kept = ["demo/build/a.py", "demo/runs/a.py", "demo/venv.py", "a b/é.txt"]
    left = [
        ".git/config",
        ".env",
        "demo/.hidden/a.py",
        "demo/__pycache__/app.cpython-311.pyc",
        "demo/old.pyc",
        "runs/1/log.jsonl",
        "build/lib/a.py",
        "dist/a.whl",
        "demo.egg-info/PKG-INFO",
        "my-environment/pyvenv.cfg",
        "my-environment/lib/a.py",
    ]
    before = paths(build_bundle(app))
    app_writer(app, dict.fromkeys([*kept, *left], b"1"))
    assert paths(build_bundle(app)) == sorted([*before, *kept])


def test_a_folder_that_is_no_app_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"pyproject\.toml"):
        build_bundle(tmp_path)


@pytest.mark.parametrize("target", ["/etc/passwd", "app.py", "nowhere", "."])
def test_a_symbolic_link_is_refused(target, app):
    (app / "demo" / "link").symlink_to(target)
    with pytest.raises(BundleError, match=r"symbolic link .*demo/link"):
        build_bundle(app)


def test_a_pipe_is_refused_and_not_waited_for(app):
    os.mkfifo(app / "demo" / "pipe")
    with pytest.raises(BundleError, match=r"regular files .*demo/pipe"):
        build_bundle(app)


@pytest.mark.parametrize("name", ["a\\b", "c:d", "a\nb", "dot.", "space "])
def test_a_name_that_does_not_work_everywhere_is_refused(name, app):
    (app / name).touch()
    with pytest.raises(BundleError, match=r"leads elsewhere|backslash"):
        build_bundle(app)


def test_a_name_that_is_not_utf8_is_refused(app):
    (app / os.fsdecode(b"\xff")).touch()
    with pytest.raises(BundleError, match="not UTF-8"):
        build_bundle(app)


@pytest.mark.parametrize(
    ("one", "other"),
    [("data.py", "Data.py"), ("demo/A/x", "demo/a/y"), ("\u00e9.py", "e\u0301.py")],
)
def test_names_that_are_one_on_other_file_systems_are_refused(one, other, app, app_writer):
    app_writer(app, {one: b"1", other: b"2"})
    with pytest.raises(BundleError, match="are one on some file systems"):
        build_bundle(app)


def test_a_file_that_is_too_large_is_named(app, monkeypatch):
    monkeypatch.setattr(layout, "BUNDLE_FILE_MAX_BYTES", 1000)
    (app / "demo" / "data.bin").write_bytes(bytes(1001))
    with pytest.raises(BundleError, match=r"larger than .*demo/data\.bin"):
        build_bundle(app)


def test_too_many_bytes_and_too_many_files(app, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(layout, "BUNDLE_MAX_BYTES", 2000)
        with pytest.raises(BundleError, match="bundle is larger than"):
            build_bundle(app)
    monkeypatch.setattr(layout, "BUNDLE_FILES_MAX_COUNT", 2)
    monkeypatch.setattr(packing, "BUNDLE_FILES_MAX_COUNT", 2)
    with pytest.raises(BundleError, match="3 files are more than the 2 allowed"):
        build_bundle(app)
