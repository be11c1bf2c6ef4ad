"""Contract suites to run on your own aggregators, strategies, codecs and journals; a fake grid."""

from umbel.testing.aggregators import aggregator_checks
from umbel.testing.codecs import codec_checks
from umbel.testing.fakegrid import FakeGrid
from umbel.testing.journals import journal_checks
from umbel.testing.strategies import strategy_checks
from umbel.testing.transforms import transform_checks

__all__ = [
    "FakeGrid",
    "aggregator_checks",
    "codec_checks",
    "journal_checks",
    "strategy_checks",
    "transform_checks",
]
