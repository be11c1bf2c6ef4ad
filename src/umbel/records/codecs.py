"""Codecs: the formats in which contents travel, by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from umbel.base import ConfigError, ProtocolError, UmbelError
from umbel.records.cbor import Cbor
from umbel.records.codec import Buffer, decode, encode
from umbel.records.recorddict import RecordDict

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

DEFAULT_CODEC = "safetensors"
"""What all can read, and what an empty name stands for."""


class Codec(Protocol):
    """A format of contents; :func:`umbel.testing.codec_checks` tests one.

    A package of your own offers one by an entry point of the group ``umbel.codecs``, under the
    codec's name, that leads to an object, or to a class that is made without arguments.
    """

    @property
    def name(self) -> str:
        """What both sides call it."""

    def encode(self, content: RecordDict) -> Sequence[bytes | memoryview]:
        """Return the buffers that, one after the other, are the content.

        The same content gives the same bytes.
        """

    def decode(self, buffer: Buffer) -> RecordDict:
        """Return the content, equal to the last bit and in the same order.

        The bytes come from a stranger. Arrays may be views of them.

        Raises
        ------
        ProtocolError
            If the bytes break a rule of the format.
        """


class _Safetensors:
    name = DEFAULT_CODEC
    encode = staticmethod(encode)
    decode = staticmethod(decode)


class _Foreign:
    """A codec of others, whose errors are told as what they mean to us."""

    def __init__(self, name: str, codec: Any) -> None:
        self.name = name
        self._codec = codec

    def encode(self, content: RecordDict) -> Sequence[bytes | memoryview]:
        buffers: Sequence[bytes | memoryview] = self._codec.encode(content)
        return buffers

    def decode(self, buffer: Buffer) -> RecordDict:
        try:
            content = self._codec.decode(buffer)
        except UmbelError:
            raise
        except Exception as error:
            raise ProtocolError(
                f"the codec {self.name!r} cannot read this: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(content, RecordDict):
            raise ProtocolError(f"the codec {self.name!r} gave a {type(content).__name__}")
        return content


@cache
def codec_names() -> tuple[str, ...]:
    """Return the names of the codecs that can be used here, the default first.

    Examples
    --------
    >>> codec_names()[0]
    'safetensors'
    """
    ours = [DEFAULT_CODEC, *([Cbor.name] if find_spec("cbor2") is not None else [])]
    others = {point.name for point in _entry_points()} - {DEFAULT_CODEC, Cbor.name}
    return (*ours, *sorted(others))


@cache
def codec_of(name: str) -> Codec:
    """Return the codec of this name; the default one for an empty name.

    Raises
    ------
    ConfigError
        There is none of that name here, or it cannot be loaded.

    Examples
    --------
    >>> codec_of("").name
    'safetensors'
    """
    if name in ("", DEFAULT_CODEC):
        return _Safetensors()
    if name == Cbor.name:
        return Cbor()
    for point in _entry_points().select(name=name):
        try:
            codec = point.load()
            return _Foreign(name, codec() if isinstance(codec, type) else codec)
        except Exception as error:
            raise ConfigError(
                f"the codec {name!r} cannot be loaded: {type(error).__name__}: {error}",
                hint=f"mend or remove the package that offers {point.value!r}",
            ) from error
    raise ConfigError(
        f"there is no codec {name[:100]!r}; here are {', '.join(codec_names())}",
        hint="install the package that brings it, or use another",
    )


def _entry_points() -> EntryPoints:
    from importlib.metadata import entry_points  # late: few need it, and it takes its time

    return entry_points(group="umbel.codecs")
