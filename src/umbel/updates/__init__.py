"""The algebra on named arrays: how replies become one update, and an update becomes a step."""

from umbel.updates.aggregator import Aggregator
from umbel.updates.arrays import Arrays, NDArray, cast_back, is_whole, sum_dtype
from umbel.updates.arraysum import ArraySum, all_finite
from umbel.updates.collect import Both, Collect
from umbel.updates.fold import fold
from umbel.updates.kept import MEMORY_LIMIT_BYTES, KeepReplies, check_memory_limit
from umbel.updates.mean import Mean, WeightedMean, WeightedSum
from umbel.updates.robustrules import (
    BulyanRule,
    CenteredClippingRule,
    FairRule,
    GeometricMedianRule,
    KrumRule,
    MedianRule,
    NormBoundRule,
    Rule,
    TrimmedMeanRule,
)
from umbel.updates.schedules import (
    Schedule,
    constant,
    cosine_decay,
    exponential_decay,
    step_decay,
    warm_up,
)
from umbel.updates.spill import Stack, Vectors
from umbel.updates.state import pack_state, same_layout, unpack_state
from umbel.updates.transform import (
    State,
    Transform,
    chain,
    clip_by_global_norm,
    global_norm,
    momentum,
    scale,
    scale_by_adagrad,
    scale_by_adam,
    scale_by_schedule,
    scale_by_yogi,
)
from umbel.updates.tree import PartialSums, ReductionTree, Span, halve, reduction_tree

__all__ = [
    "MEMORY_LIMIT_BYTES",
    "Aggregator",
    "ArraySum",
    "Arrays",
    "Both",
    "BulyanRule",
    "CenteredClippingRule",
    "Collect",
    "FairRule",
    "GeometricMedianRule",
    "KeepReplies",
    "KrumRule",
    "Mean",
    "MedianRule",
    "NDArray",
    "NormBoundRule",
    "PartialSums",
    "ReductionTree",
    "Rule",
    "Schedule",
    "Span",
    "Stack",
    "State",
    "Transform",
    "TrimmedMeanRule",
    "Vectors",
    "WeightedMean",
    "WeightedSum",
    "all_finite",
    "cast_back",
    "chain",
    "check_memory_limit",
    "clip_by_global_norm",
    "constant",
    "cosine_decay",
    "exponential_decay",
    "fold",
    "global_norm",
    "halve",
    "is_whole",
    "momentum",
    "pack_state",
    "reduction_tree",
    "same_layout",
    "scale",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_schedule",
    "scale_by_yogi",
    "step_decay",
    "sum_dtype",
    "unpack_state",
    "warm_up",
]
