"""Strategies: one paper, one short class."""

from umbel.strategies.bulyan import Bulyan
from umbel.strategies.centeredclipping import CenteredClipping
from umbel.strategies.centraldp import CentralDP, Clipping, with_central_dp
from umbel.strategies.clientdp import ClientDP, with_client_dp
from umbel.strategies.clippedmean import WITHIN, ClippedMean
from umbel.strategies.compression import Compressed, with_compression
from umbel.strategies.correlateddp import CorrelatedDP, with_correlated_dp
from umbel.strategies.distributeddp import DistributedDP, with_distributed_dp
from umbel.strategies.exampledp import ExampleDP, with_example_dp
from umbel.strategies.fedadagrad import FedAdagrad
from umbel.strategies.fedadam import FedAdam
from umbel.strategies.fedavg import FedAvg, FedAvgOptions, MetricsAggrFn
from umbel.strategies.fedavgm import FedAvgM
from umbel.strategies.feddyn import FedDyn
from umbel.strategies.fedmedian import FedMedian
from umbel.strategies.fednova import FedNova
from umbel.strategies.fedopt import FedOpt
from umbel.strategies.fedper import FedBN, FedPer
from umbel.strategies.fedprox import FedProx
from umbel.strategies.fedtrimmedavg import FedTrimmedAvg
from umbel.strategies.fedxgbbagging import FedXgbBagging
from umbel.strategies.fedxgbcyclic import FedXgbCyclic
from umbel.strategies.fedyogi import FedYogi
from umbel.strategies.geometricmedian import GeometricMedian
from umbel.strategies.keptreplies import KeptReplies, KeptRepliesOptions
from umbel.strategies.krum import Krum, MultiKrum
from umbel.strategies.localdp import LocalDP, with_local_dp
from umbel.strategies.normbounding import NormBounding
from umbel.strategies.powerofchoice import PowerOfChoice
from umbel.strategies.qfedavg import QFedAvg
from umbel.strategies.scaffold import Scaffold
from umbel.strategies.secagg import SecurelyAggregated, with_secagg
from umbel.strategies.wrapper import Wrapper

__all__ = [
    "WITHIN",
    "Bulyan",
    "CenteredClipping",
    "CentralDP",
    "ClientDP",
    "ClippedMean",
    "Clipping",
    "Compressed",
    "CorrelatedDP",
    "DistributedDP",
    "ExampleDP",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedAvgOptions",
    "FedBN",
    "FedDyn",
    "FedMedian",
    "FedNova",
    "FedOpt",
    "FedPer",
    "FedProx",
    "FedTrimmedAvg",
    "FedXgbBagging",
    "FedXgbCyclic",
    "FedYogi",
    "GeometricMedian",
    "KeptReplies",
    "KeptRepliesOptions",
    "Krum",
    "LocalDP",
    "MetricsAggrFn",
    "MultiKrum",
    "NormBounding",
    "PowerOfChoice",
    "QFedAvg",
    "Scaffold",
    "SecurelyAggregated",
    "Wrapper",
    "with_central_dp",
    "with_client_dp",
    "with_compression",
    "with_correlated_dp",
    "with_distributed_dp",
    "with_example_dp",
    "with_local_dp",
    "with_secagg",
]
