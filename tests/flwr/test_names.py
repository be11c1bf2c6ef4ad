"""Where Flower's names lead, and what is said about those that lead nowhere."""

from __future__ import annotations

import importlib
import sys
import warnings

import pytest

import umbel
from umbel import flwr as fl
from umbel.flwr.missing import LATER
from umbel.flwr.table import DEPRECATED, MODULES


@pytest.mark.parametrize("path", MODULES)
def test_every_name_of_the_table_leads_somewhere(path: str) -> None:
    module = importlib.import_module(f"umbel.flwr.{path}")
    for name in MODULES[path].keys() - DEPRECATED.keys():
        assert getattr(module, name) is not None


def test_modules_are_reached_as_attributes_too() -> None:
    assert fl.app.Message is umbel.Message
    assert fl.server.strategy.aggregate.weighted_loss_avg([(1, 2.0), (3, 4.0)]) == 3.5
    assert fl.common.config.unflatten_dict({"a.b": 1}) == {"a": {"b": 1}}
    assert fl.common.config.fuse_dicts({"a": {"b": 1}}, {"a.b": 2}) == {"a.b": 2}


def test_flwr_is_umbels_only_while_installed(installed: None) -> None:
    import flwr
    from flwr.common.logger import log
    from flwr.server.client_proxy import ClientProxy

    assert flwr.app.RecordDict is umbel.RecordDict
    assert ClientProxy is fl.server.client_proxy.ClientProxy
    assert callable(log)
    assert flwr.__version__.startswith("1.")


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("import flwr.superlink", "no flwr.superlink. Hint"),
        ("import flwr.common.telemetry", "no flwr.common.telemetry. Hint"),
        ("from flwr.common import nonsense", "no flwr.common.nonsense. Hint"),
        ("from flwr.server.strategy import FedXgbNnAvg", "FedXgbBagging and FedXgbCyclic are here"),
        ("from flwr.clientapp.mod import secagg_mod", "no flwr.clientapp.mod.secagg_mod"),
    ],
)
def test_what_is_not_there_is_an_import_error_that_says_so(
    installed: None, statement: str, text: str
) -> None:
    with pytest.raises(ImportError, match=text):
        exec(statement)


def test_what_comes_later_is_not_in_the_table() -> None:
    assert not LATER.keys() & {name for names in MODULES.values() for name in names}


def test_old_names_work_and_warn() -> None:
    with pytest.warns(DeprecationWarning, match="RecordSet is now called RecordDict"):
        from umbel.flwr.common import RecordSet
    assert RecordSet is umbel.RecordDict
    with pytest.warns(DeprecationWarning, match="Driver is now called Grid"):
        from umbel.flwr.server import Driver
    assert Driver is umbel.Grid


def test_flower_itself_is_not_replaced_once_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flwr", sys)
    with pytest.raises(umbel.UmbelError, match="loaded in this process already"):
        fl.install()


def test_installing_twice_and_looking_around_is_fine(installed: None) -> None:
    fl.install()
    assert "FedAvg" in dir(fl.serverapp.strategy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        namespace: dict[str, object] = {}
        exec("from flwr.common import *", namespace)
    assert "FitIns" in namespace
    assert not hasattr(fl.common, "__wrapped__")
