"""Opening hours, with the clock of a place."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from umbel.clientapp.policy.hours import OpeningHours, time_zone, window

BERLIN = "Europe/Berlin"


def at(text, zone=BERLIN):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def hours(*windows, zone=BERLIN):
    return OpeningHours(time_zone(zone), tuple(map(window, windows)))


@pytest.mark.parametrize(
    ("written", "moment", "is_open"),
    [
        ("mon-fri 20:00-06:00", "2026-11-23 19:59", False),  # a Monday
        ("mon-fri 20:00-06:00", "2026-11-23 20:00", True),
        ("mon-fri 20:00-06:00", "2026-11-24 05:59", True),
        ("mon-fri 20:00-06:00", "2026-11-24 06:00", False),
        ("mon-fri 20:00-06:00", "2026-11-23 05:00", False),  # no night began on Sunday
        ("mon-fri 20:00-06:00", "2026-11-28 05:00", True),  # the night that began on Friday
        ("mon-fri 20:00-06:00", "2026-11-28 21:00", False),
        ("sat-sun 00:00-24:00", "2026-11-29 23:59", True),
        ("sat-sun 00:00-24:00", "2026-11-30 00:00", False),
        ("sun-mon 08:00-09:00", "2026-11-30 08:30", True),  # over the end of the week
        ("sun-mon 08:00-09:00", "2026-12-01 08:30", False),
        ("wed 08:00-09:00", "2026-11-25 08:30", True),
        ("mon-sun 24:00-01:00", "2026-11-25 00:30", True),
    ],
)
def test_a_window(written, moment, is_open):
    assert hours(written).is_open(at(moment)) is is_open


def test_the_clock_is_that_of_the_place_in_summer_and_winter():
    night = hours("mon-sun 20:00-21:00")
    assert night.is_open(at("2026-07-01 18:30", "UTC"))
    assert not night.is_open(at("2026-12-01 18:30", "UTC"))
    assert night.is_open(at("2026-12-01 19:30", "UTC"))


@pytest.mark.parametrize(
    "written",
    ["", "mon", "mon 20:00", "mon 25:00-26:00", "mon 08:60-09:00", "xyz 08:00-09:00", 3,
     "mon 08:00-08:00", "mon-xyz 08:00-09:00", "mon 08:00-24:01"],
)  # fmt: skip
def test_what_is_no_window(written):
    with pytest.raises(ValueError):
        window(written)


@pytest.mark.parametrize("name", ["", "Mars/Base", "/etc/passwd", "../UTC", 3, "UTC\0"])
def test_what_is_no_time_zone(name):
    with pytest.raises(ValueError, match="the name of a time zone"):
        time_zone(name)
