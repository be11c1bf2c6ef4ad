"""The algebra on named arrays: how replies become one update, and an update becomes a step."""

from umbel.updates.aggregator import Aggregator
from umbel.updates.arrays import Arrays, NDArray, cast_back, is_whole, sum_dtype
from umbel.updates.arraysum import ArraySum, all_finite
from umbel.updates.boosterreplies import CollectBoosters
from umbel.updates.boosters import Booster, BoosterKind, join_boosters, read_booster
from umbel.updates.collect import Both, Collect
from umbel.updates.compressor import (
    QSGD,
    Cast,
    Compressor,
    Parts,
    RandomK,
    SharedRandomK,
    Sign,
    TopK,
    check_compressor,
    narrowed,
)
from umbel.updates.expansion import COMPRESSION_RECORD, OfUpdates, expanded, part_name
from umbel.updates.fold import add_member, fold
from umbel.updates.kept import MEMORY_LIMIT_BYTES, KeepReplies, check_memory_limit
from umbel.updates.mapped import Mapped, UniformMean
from umbel.updates.mean import Mean, WeightedMean, WeightedSum
from umbel.updates.modularsum import ModularSum, ModularTotal
from umbel.updates.names import BATCH_STATISTICS, checked_patterns, matches, trainable
from umbel.updates.normalized import NormalizedMean, NormalizedSum, StretchedMean
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
    zeros,
)
from umbel.updates.tree import PartialSums, ReductionTree, Span, halve, reduction_tree

__all__ = [
    "BATCH_STATISTICS",
    "COMPRESSION_RECORD",
    "MEMORY_LIMIT_BYTES",
    "QSGD",
    "Aggregator",
    "ArraySum",
    "Arrays",
    "Booster",
    "BoosterKind",
    "Both",
    "BulyanRule",
    "Cast",
    "CenteredClippingRule",
    "Collect",
    "CollectBoosters",
    "Compressor",
    "FairRule",
    "GeometricMedianRule",
    "KeepReplies",
    "KrumRule",
    "Mapped",
    "Mean",
    "MedianRule",
    "ModularSum",
    "ModularTotal",
    "NDArray",
    "NormBoundRule",
    "NormalizedMean",
    "NormalizedSum",
    "OfUpdates",
    "PartialSums",
    "Parts",
    "RandomK",
    "ReductionTree",
    "Rule",
    "Schedule",
    "SharedRandomK",
    "Sign",
    "Span",
    "Stack",
    "State",
    "StretchedMean",
    "TopK",
    "Transform",
    "TrimmedMeanRule",
    "UniformMean",
    "Vectors",
    "WeightedMean",
    "WeightedSum",
    "add_member",
    "all_finite",
    "cast_back",
    "chain",
    "check_compressor",
    "check_memory_limit",
    "checked_patterns",
    "clip_by_global_norm",
    "constant",
    "cosine_decay",
    "expanded",
    "exponential_decay",
    "fold",
    "global_norm",
    "halve",
    "is_whole",
    "join_boosters",
    "matches",
    "momentum",
    "narrowed",
    "pack_state",
    "part_name",
    "read_booster",
    "reduction_tree",
    "same_layout",
    "scale",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_schedule",
    "scale_by_yogi",
    "step_decay",
    "sum_dtype",
    "trainable",
    "unpack_state",
    "warm_up",
    "zeros",
]
