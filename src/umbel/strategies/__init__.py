"""Strategies: one paper, one short class."""

from umbel.strategies.bulyan import Bulyan
from umbel.strategies.centeredclipping import CenteredClipping
from umbel.strategies.fedadagrad import FedAdagrad
from umbel.strategies.fedadam import FedAdam
from umbel.strategies.fedavg import FedAvg, FedAvgOptions, MetricsAggrFn
from umbel.strategies.fedavgm import FedAvgM
from umbel.strategies.fedmedian import FedMedian
from umbel.strategies.fedopt import FedOpt
from umbel.strategies.fedprox import FedProx
from umbel.strategies.fedtrimmedavg import FedTrimmedAvg
from umbel.strategies.fedyogi import FedYogi
from umbel.strategies.geometricmedian import GeometricMedian
from umbel.strategies.keptreplies import KeptReplies, KeptRepliesOptions
from umbel.strategies.krum import Krum, MultiKrum
from umbel.strategies.normbounding import NormBounding
from umbel.strategies.powerofchoice import PowerOfChoice
from umbel.strategies.qfedavg import QFedAvg

__all__ = [
    "Bulyan",
    "CenteredClipping",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedAvgOptions",
    "FedMedian",
    "FedOpt",
    "FedProx",
    "FedTrimmedAvg",
    "FedYogi",
    "GeometricMedian",
    "KeptReplies",
    "KeptRepliesOptions",
    "Krum",
    "MetricsAggrFn",
    "MultiKrum",
    "NormBounding",
    "PowerOfChoice",
    "QFedAvg",
]
