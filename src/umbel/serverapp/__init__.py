"""The server's side of an app: the grid, the contract of a strategy, rounds, results, the log."""

from umbel.serverapp.app import ServerApp
from umbel.serverapp.checkpoint import Checkpoint, Checkpoints, Saved, StoredArrays
from umbel.serverapp.ending import conclude, note_failure, note_success
from umbel.serverapp.frozen import frozen_copy
from umbel.serverapp.grid import Folded, Grid, no_reply, rejected
from umbel.serverapp.plots import plot_metrics
from umbel.serverapp.privacyledger import LedgerOfStart, RunLedger, cut_off
from umbel.serverapp.replies import Replies
from umbel.serverapp.result import Failure, Result, RoundTiming, failure_causes
from umbel.serverapp.rounds import NOT_FINITE, require_finite
from umbel.serverapp.run import Observer, Run, RunEvent
from umbel.serverapp.runlog import LogEntry, RunLog, read_log, strict_json
from umbel.serverapp.sampling import FractionSampler, Sampler
from umbel.serverapp.separated import MinSeparationSampler
from umbel.serverapp.strategy import Callback, EvaluateFn, OnShortfall, ShouldStop, Strategy
from umbel.serverapp.unequal import PoissonSampler, WeightedSampler

__all__ = [
    "NOT_FINITE",
    "Callback",
    "Checkpoint",
    "Checkpoints",
    "EvaluateFn",
    "Failure",
    "Folded",
    "FractionSampler",
    "Grid",
    "LedgerOfStart",
    "LogEntry",
    "MinSeparationSampler",
    "Observer",
    "OnShortfall",
    "PoissonSampler",
    "Replies",
    "Result",
    "RoundTiming",
    "Run",
    "RunEvent",
    "RunLedger",
    "RunLog",
    "Sampler",
    "Saved",
    "ServerApp",
    "ShouldStop",
    "StoredArrays",
    "Strategy",
    "WeightedSampler",
    "conclude",
    "cut_off",
    "failure_causes",
    "frozen_copy",
    "no_reply",
    "note_failure",
    "note_success",
    "plot_metrics",
    "read_log",
    "rejected",
    "require_finite",
    "strict_json",
]
