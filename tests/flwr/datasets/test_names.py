"""Where the names of ``flwr_datasets`` lead, and what is said about those that lead nowhere."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from umbel import flwr as fl
from umbel.base import UsageError
from umbel.flwr.datasets.served import MODULES


@pytest.mark.parametrize("path", [path for path in MODULES if path])
def test_every_name_of_the_table_leads_somewhere(path: str) -> None:
    module = importlib.import_module(f"umbel.flwr.datasets.{path}")
    assert module.__all__ == sorted(MODULES[path])
    assert all(getattr(module, name) is not None for name in MODULES[path])


def test_flwr_datasets_is_umbels_only_while_installed(installed: None) -> None:
    import flwr_datasets
    from flwr_datasets import FederatedDataset
    from flwr_datasets.partitioner import IidPartitioner
    from flwr_datasets.partitioner.iid_partitioner import IidPartitioner as Deep
    from flwr_datasets.partitioner.partitioner import Partitioner

    assert FederatedDataset is fl.datasets.FederatedDataset
    assert IidPartitioner is Deep is fl.datasets.partitioner.IidPartitioner
    assert issubclass(IidPartitioner, Partitioner)
    assert flwr_datasets.visualization is fl.datasets.visualization
    assert flwr_datasets.__version__ == "0.6.1"
    assert "FederatedDataset" in dir(flwr_datasets)
    namespace: dict[str, object] = {}
    exec("from flwr_datasets import *", namespace)
    assert {"FederatedDataset", "partitioner", "utils"} <= namespace.keys()


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("import flwr_datasets.common", "no flwr_datasets.common. Hint"),
        ("from flwr_datasets import mnist", "no flwr_datasets.mnist. Hint"),
        ("from flwr_datasets.partitioner import Nobody", "no flwr_datasets.partitioner.Nobody"),
        ("from flwr_datasets.utils import tested_datasets", "any data set will do"),
    ],
)
def test_what_is_not_there_is_an_import_error_that_says_so(
    installed: None, statement: str, text: str
) -> None:
    with pytest.raises(fl.NotInUmbel, match=text):
        exec(statement)


def test_flower_datasets_itself_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flwr_datasets", sys)
    with pytest.raises(UsageError, match="flwr_datasets is loaded in this process already"):
        fl.install()
    assert "flwr" not in sys.modules


@pytest.mark.slow
def test_nothing_heavy_is_loaded_for_a_dictionary_of_arrays() -> None:
    code = (
        "import sys; from umbel.flwr.datasets import FederatedDataset\n"
        "fds = FederatedDataset(dataset={'x': range(6)}, partitioners={'train': 3})\n"
        "assert len(fds.load_partition(0)['x']) == 2\n"
        "print(sorted({'datasets', 'pandas', 'pyarrow', 'matplotlib'} & sys.modules.keys()))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout == "[]\n"
