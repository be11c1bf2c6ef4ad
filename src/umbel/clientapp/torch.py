"""The PyTorch side of what clients do: gradients and names of a model's parameters.

Everything goes through the model's own tensors, so torch is not imported here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from umbel.records import ArrayRecord
from umbel.updates import Arrays, matches

if TYPE_CHECKING:
    import torch


def add_gradients(
    model: torch.nn.Module,
    anchor: Arrays,
    strength: float,
    offset: Arrays,
    tensors: dict[str, torch.Tensor],
) -> None:
    """Add ``offset + strength * (y - anchor)`` to the gradient of each parameter ``y``.

    Parameters
    ----------
    tensors : dict
        Keeps the two as tensors on the parameters' devices, from one step to the next.
    """
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        if gradient is None:
            continue
        if name in offset:
            gradient.add_(_tensor("offset", name, offset, parameter, tensors))
        if name in anchor:
            held = _tensor("anchor", name, anchor, parameter, tensors)
            gradient.add_(parameter.detach() - held, alpha=strength)


def _tensor(
    kind: str,
    name: str,
    arrays: Arrays,
    like: torch.Tensor,
    tensors: dict[str, torch.Tensor],
) -> torch.Tensor:
    key = f"{kind}/{name}"
    if key not in tensors:
        (tensor,) = ArrayRecord({name: arrays[name]}).to_torch_state_dict().values()
        tensors[key] = tensor.to(device=like.device, dtype=like.dtype)
    return tensors[key]


def freeze(model: torch.nn.Module, patterns: Iterable[str]) -> None:
    """Let only the parameters whose names match none of the patterns be trained.

    FedRep trains the head with the body frozen, and then the body with the head frozen: Collins et
    al. 2021, arXiv:2102.07078. Gradients of frozen parameters are dropped; an empty list of
    patterns sets all free.

    Parameters
    ----------
    model : torch.nn.Module
        Its ``requires_grad`` flags are set.
    patterns : iterable of str
        As in a shell: ``["head.*"]``.
    """
    patterns = list(patterns)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not matches(name, patterns))
        if not parameter.requires_grad:
            parameter.grad = None


def batch_norm_names(model: torch.nn.Module) -> list[str]:
    """Return the names of all arrays of a model's layers of batch normalisation.

    They are the ``personal`` of FedBN: scales, shifts and statistics.

    Parameters
    ----------
    model : torch.nn.Module
        Layers are told by their classes, ``BatchNorm1d`` and the like or subclasses of them.
    """
    return [
        f"{layer}.{name}" if layer else name
        for layer, module in model.named_modules()
        if any("BatchNorm" in kind.__name__ for kind in type(module).__mro__)
        for name in module.state_dict()
    ]
