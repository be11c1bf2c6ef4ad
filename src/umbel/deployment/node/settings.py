"""What the owner of a node decides, and what the node tells its owner."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from umbel.base import AppProject, ConfigError, Scalar
from umbel.clientapp import ClientApp, Policy, parse_policy
from umbel.deployment.bundle import check_public_key
from umbel.deployment.channel import Credentials
from umbel.records import DEFAULT_CODEC, codec_of


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """How a node connects, what it may run, and what it says about itself.

    A node that is given no app, no keys to trust and no ``trust_any`` connects and refuses every
    run.

    Parameters
    ----------
    address : str
        The server, ``"host:port"``.
    data_dir : Path
        Where it keeps its identity, replies that are not safe yet, the states of its runs, and
        what it fetched. One node, one folder.
    app : Path, optional
        The folder of the one app that it runs; what servers send is never run then.
    client_app : ClientApp, optional
        In place of a folder, the app itself. It answers in a thread of the node's own process.
    trust : tuple of str
        Public keys; apps that one of them signed are run.
    trust_any : bool
        Whether any app is run: for development.
    node_config : mapping
        What client apps see as ``context.node_config``. ``"partition-id"`` is the node's id unless
        it is set.
    tags : mapping
        What the server and its users see.
    max_tasks : int
        How many tasks it takes at once. Those of one run follow each other, because they share
        its state: while one trains, the next is fetched.
    credentials : Credentials, optional
        For TLS.
    identity_dir : Path, optional
        The folder of the ``Identity`` to show in their place. Its certificate is renewed in time.
    server_name : str, optional
        The name in the server's certificate, if it is not that of the host.
    name : str
        What it is called; the name of the machine by default.
    cache_max_bytes : int
        How much of what it fetched it keeps.
    compress : bool
        Whether transfers may be compressed. It helps where the connection is slower than some
        100 MB/s and the models are not dense noise, and costs time elsewhere.
    codecs : tuple of str
        The formats in which contents may travel, best first; the server takes the first that it
        knows.
    threads : int, optional
        How many threads numeric libraries use. By default 1 in a run with a seed, so that its
        result is that of the simulation to the last bit, and otherwise as many as they choose.
    policy : Policy, optional
        What may come in and go out whatever the app does. Apps that it pins by their hash, or that
        were signed by a key that it names, are run without ``trust``.

    Raises
    ------
    ConfigError
        A setting is not possible.
    MissingDependency
        A codec needs a library that is not installed.
    """

    address: str
    data_dir: Path
    app: Path | None = None
    client_app: ClientApp | None = None
    trust: tuple[str, ...] = ()
    trust_any: bool = False
    node_config: Mapping[str, Scalar] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    max_tasks: int = 1
    credentials: Credentials | None = None
    identity_dir: Path | None = None
    server_name: str | None = None
    name: str = field(default_factory=socket.gethostname)
    cache_max_bytes: int = 16 * 1024**3
    compress: bool = False
    codecs: tuple[str, ...] = (DEFAULT_CODEC,)
    threads: int | None = None
    policy: Policy | None = None

    def __post_init__(self) -> None:
        # A worker's working folder is another one.
        object.__setattr__(self, "data_dir", self.data_dir.absolute())
        for name in ("app", "identity_dir"):
            if (folder := getattr(self, name)) is not None:
                object.__setattr__(self, name, folder.absolute())
        if self.max_tasks < 1:
            raise ConfigError(f"a node takes 1 task at least, not {self.max_tasks}")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"numeric libraries use 1 thread at least, not {self.threads}")
        if not self.codecs:
            raise ConfigError("a node has one codec at least", hint=f"give {DEFAULT_CODEC!r}")
        for name in self.codecs:
            codec_of(name)
        own = [app for app in (self.app, self.client_app) if app is not None]
        if len(own) > 1 or (own and (self.trust or self.trust_any)):
            raise ConfigError(
                "a node runs either its own app or what others sign",
                hint="give --app alone, or --trust",
            )

    def check_apps(self) -> None:
        """Refuse a choice of apps that cannot run: no node would connect only to refuse all.

        Raises
        ------
        ConfigError
            The app cannot be read, or a key to trust is none.
        """
        if self.app is not None:
            AppProject.read(self.app)
        for key in self.trust:
            check_public_key(key)

    @property
    def trusted(self) -> tuple[str, ...]:
        """The keys of which one has to have signed an app: those given, or else the policy's."""
        if self.trust or self.policy is None:
            return self.trust
        return self.policy.signers

    @property
    def has_pinned_apps(self) -> bool:
        """Whether the policy knows apps by their hash."""
        return self.policy is not None and any(app.bundles for app in self.policy.apps)


def read_policy(file: Path | str) -> Policy:
    """Return the policy in a file; ``docs/policy.md`` lists what may stand there.

    Raises
    ------
    ConfigError
        The file cannot be read, or is no policy.
    """
    try:
        document = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"the policy cannot be read: {reason}", hint="name a file of TOML", file=file
        ) from error
    return parse_policy(document, str(file))


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """Something that happened at a node.

    Attributes
    ----------
    kind : str
        ``"connecting"``, ``"connected"``, ``"disconnected"``, ``"accepted"``, ``"started"``,
        ``"finished"``, ``"failed"``, ``"acknowledged"``, ``"cancelled"``, ``"run_over"``,
        ``"output"``, ``"worker"``, ``"policy"``, ``"refused"``, ``"withheld"``, ``"dismissed"``,
        ``"certificate"``, ``"leaving"`` or ``"left"``.
    text : str
        What happened, in words.
    run_id, message_id : str
        What it concerns; empty for none.
    pid : int
        The process that it concerns; 0 for none.
    """

    kind: str
    text: str
    run_id: str = ""
    message_id: str = ""
    pid: int = 0


OnEvent = Callable[[NodeEvent], None]
