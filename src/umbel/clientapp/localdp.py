"""Mod that adds noise to the update at the client, before anybody sees it."""

from __future__ import annotations

from dataclasses import dataclass

from umbel.base import ConfigError, Seeds, fresh_key
from umbel.clientapp.clientdp import DP_RECORD, lend, update_of
from umbel.clientapp.onion import Handler, Mod
from umbel.privacy import GaussianEvent, NoiseSource, clip, gaussian_sigma
from umbel.records import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict


@dataclass(frozen=True)
class LocalNoise:
    """How a client hides its update: a bound, and noise on it.

    Parameters
    ----------
    clipping : float
        The bound on the L2 norm of an update.
    noise_multiplier : float
        The noise's standard deviation over the bound.

    Raises
    ------
    ConfigError
        A number is not positive.

    Examples
    --------
    >>> LocalNoise.of(clipping=1.0, epsilon=4.0, delta=1e-6).noise_multiplier > 2
    True
    """

    clipping: float
    noise_multiplier: float

    def __post_init__(self) -> None:
        GaussianEvent(self.noise_multiplier)  # raises
        clip({}, self.clipping)

    @classmethod
    def of(
        cls,
        *,
        clipping: float,
        epsilon: float | None = None,
        delta: float | None = None,
        noise_multiplier: float | None = None,
    ) -> LocalNoise:
        """Return the noise of this multiplier, or the least that gives epsilon and delta a reply.

        Two updates within the bound are at most twice the bound apart, and any two must look
        alike. The noise is that of the analytic Gaussian mechanism: Balle and Wang 2018,
        arXiv:1805.06530.
        """
        if (noise_multiplier is None) == (epsilon is None):
            raise ConfigError(
                "the noise follows from noise_multiplier, or from epsilon and delta",
                hint="give one of the two",
            )
        if noise_multiplier is None:
            if epsilon is None or delta is None:
                raise ConfigError("epsilon means nothing without delta", hint="delta=1e-5, say")
            noise_multiplier = gaussian_sigma(epsilon, delta, sensitivity=2.0)
        return cls(float(clipping), float(noise_multiplier))

    def in_words(self) -> ConfigRecord:
        """Return what a reply says of it."""
        return ConfigRecord({"clipping": self.clipping, "noise-multiplier": self.noise_multiplier})


def local_dp_mod(
    *,
    clipping: float,
    epsilon: float | None = None,
    delta: float | None = None,
    noise_multiplier: float | None = None,
    record: str = "arrays",
    release_metrics: bool = False,
) -> Mod:
    """Return a mod that replies with the clipped and noised update in place of the trained model.

    Whoever gets the reply, the server among them, learns hardly anything of this client's data. All
    else that the handler replied is left out. The strategy is wrapped by
    ``umbel.strategies.with_local_dp`` with the same numbers. Put this mod outermost. Only messages
    of training are touched: what an evaluation replies is not private.

    Parameters
    ----------
    clipping : float
        The bound on the L2 norm of an update.
    epsilon, delta : float, optional
        What one reply costs; the noise follows.
    noise_multiplier : float, optional
        The noise's standard deviation over the bound, in place of ``epsilon``.
    record : str, default="arrays"
        The name of the record with the model.
    release_metrics : bool, default=False
        Whether the metrics of training are replied as they are. They are not private.

    Raises
    ------
    ConfigError
        A number is out of its range, or not one of the two ways to say the noise is taken.
    UsageError
        When a message is handled: an array changed its shape or is missing.
    RejectedReply
        When a message is handled: the update holds NaN or infinity.

    Examples
    --------
    >>> from umbel.clientapp import ClientApp
    >>> app = ClientApp(mods=[local_dp_mod(clipping=1.0, epsilon=4.0, delta=1e-6)])
    """
    noise = LocalNoise.of(
        clipping=clipping, epsilon=epsilon, delta=delta, noise_multiplier=noise_multiplier
    )

    def add_noise(message: Message, context: Context, call_next: Handler) -> Message:
        if not message.metadata.message_type.startswith("train"):
            return call_next(message, context)
        before = lend(message, record)
        reply = call_next(message, context)
        if not reply.has_content():
            return reply
        update = clip(update_of(before, reply, record), noise.clipping).update
        # A virtual node's follows from the seed, which was set for this node and round.
        key = (
            Seeds().child("local-dp").integer(256).to_bytes(32, "little")
            if context.simulated
            else fresh_key()
        )
        drawn = NoiseSource(key, seeded=context.simulated).gaussian(
            update, noise.noise_multiplier * noise.clipping, "local"
        )
        noised = {key: Array(value + drawn[key]) for key, value in update.items()}
        content = RecordDict({record: ArrayRecord(noised), DP_RECORD: noise.in_words()})
        if release_metrics:
            content.update(reply.content.metric_records)
        reply.content = content
        return reply

    return add_noise
