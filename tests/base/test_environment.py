from pathlib import Path

from umbel.base import config_folder


def test_settings_lie_where_the_user_keeps_settings(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/etc/ann")
    assert config_folder() == Path("/etc/ann/umbel")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert config_folder() == Path("/home/ann/.config/umbel")


def test_a_relative_path_does_not_count(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("XDG_CONFIG_HOME", "settings")
    assert config_folder() == Path("/home/ann/.config/umbel")
