"""The commands of deployment and their options; what they do is imported when they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from umbel.cli.commands import AsJson
from umbel.cli.commands import app as app
from umbel.cli.problems import reported

server_commands = typer.Typer(help="Serve nodes and users.", invoke_without_command=True)
token_commands = typer.Typer(help="Tokens with which nodes and users join.", no_args_is_help=True)
key_commands = typer.Typer(help="Keys with which apps are signed.", no_args_is_help=True)
node_commands = typer.Typer(help="The nodes of a server.", no_args_is_help=True)
policy_commands = typer.Typer(help="The policy of a node's owner.", no_args_is_help=True)
app.add_typer(server_commands, name="server")
app.add_typer(token_commands, name="token")
app.add_typer(key_commands, name="key")
app.add_typer(node_commands, name="nodes")
app.add_typer(policy_commands, name="policy")

Data = Annotated[Path, typer.Option("--data", help="The folder that holds all that must last.")]
On = Annotated[
    str | None,
    typer.Option("--on", metavar="CONNECTION", help="Which server; see umbel connect."),
]
RemoteRun = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, the start of one, or 'latest'.")
]
CertificateDays = Annotated[
    int, typer.Option(min=1, help="Days that certificates are valid which it signs.")
]
LogJson = Annotated[bool, typer.Option("--log-json", help="Log one JSON object a line.")]


@server_commands.callback()
def server(
    context: typer.Context,
    data: Data = Path("umbel-server"),
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="For nodes and users.")] = 9200,
    address: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="How others reach it; stands in tokens."),
    ] = None,
    http_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="For /healthz, /readyz and /metrics.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="No TLS: everybody may do everything.")
    ] = False,
    node_grace_s: Annotated[
        float, typer.Option(min=0, help="Seconds that work waits for a node that is away.")
    ] = 300.0,
    objects_max_bytes: Annotated[
        int | None, typer.Option(min=1, help="Bytes that the object store may hold.")
    ] = None,
    keep_runs_days: Annotated[
        float | None,
        typer.Option(min=0, help="Remove a run so many days after it ended; else kept for ever."),
    ] = None,
    fsync: Annotated[
        bool, typer.Option("--fsync", help="Have the disk keep what is acknowledged; slower.")
    ] = False,
    certificate_days: CertificateDays = 365,
    revoked: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE/NAME", help="Who is shut out, such as user/alice."),
    ] = None,
    log_json: LogJson = False,
) -> None:
    """Serve nodes and users until SIGTERM or Ctrl-C; runs go on when the server starts again."""
    if context.invoked_subcommand is not None:
        return
    from umbel.cli.serving import run_server

    with reported():
        from umbel.deployment import ServerSettings

        settings = ServerSettings(
            data_dir=data,
            host=host,
            port=port,
            addresses=tuple(address or ()),
            http_port=http_port,
            insecure=insecure,
            objects_max_bytes=objects_max_bytes,
            node_grace_s=node_grace_s,
            keep_runs_s=None if keep_runs_days is None else keep_runs_days * 86_400.0,
            fsync=fsync,
            certificate_days=certificate_days,
            revoked=tuple(revoked or ()),
        )
        run_server(settings.with_keys(), log_json=log_json)


@server_commands.command("init")
def init(
    data: Data = Path("umbel-server"),
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name or address under which it is reached."),
    ] = None,
    certificate_days: CertificateDays = 365,
) -> None:
    """Make the authority and the certificate of a server."""
    from umbel.cli.serving import init_server

    with reported():
        init_server(data, host or [], certificate_days)


@token_commands.command("create")
def create_token(
    role: Annotated[Literal["node", "user", "admin"], typer.Option(help="Who may join with it.")],
    name: Annotated[str, typer.Option(help="The name to be given; users need one.")] = "",
    ttl_s: Annotated[float, typer.Option(min=1, help="Seconds that it can be used.")] = 3600.0,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="On the server's machine: its data folder."),
    ] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="With --data: how the server is reached."),
    ] = None,
    on: On = None,
    as_json: AsJson = False,
) -> None:
    """Print a token with which one node or user can join, once."""
    from umbel.cli.problems import print_json
    from umbel.cli.serving import create_token as create

    with reported(as_json):
        token = create(data, on, role, name, ttl_s, address or [])
        if as_json:
            print_json({"success": True, "token": token})
        else:
            typer.echo(token)


@key_commands.command("create")
def create_key(
    file: Annotated[Path, typer.Argument(metavar="KEYFILE", help="The file to make.")],
) -> None:
    """Make a key to sign apps with (umbel run --sign); print what nodes are to trust."""
    with reported():
        from umbel.deployment import create_signing_key

        typer.echo(create_signing_key(file))


@app.command()
def node(
    address: Annotated[
        str | None, typer.Argument(metavar="HOST:PORT", help="The server; a token knows it.")
    ] = None,
    join: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="Join first; or @FILE that holds it.")
    ] = None,
    data: Data = Path("umbel-node"),
    app_dir: Annotated[
        Path | None, typer.Option("--app", help="Run this app, and nothing that others send.")
    ] = None,
    trust: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Run apps that this key signed.")
    ] = None,
    trust_any: Annotated[
        bool, typer.Option("--trust-any", help="Run any app: for development.")
    ] = False,
    policy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What may come in and go out; see umbel policy check."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Part of context.node_config."),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="What the server shows.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The machine's name by default.")] = None,
    max_tasks: Annotated[int, typer.Option(min=1, help="Tasks at once, of several runs.")] = 1,
    codec: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A format of contents, best first; may be repeated."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="No TLS.")] = False,
    log_json: LogJson = False,
) -> None:
    """Work for a server until SIGTERM or Ctrl-C; reconnects for ever."""
    from umbel.cli.serving import key_values, run_node

    with reported():
        run_node(
            address,
            join,
            data,
            insecure=insecure,
            log_json=log_json,
            settings={
                "app": app_dir,
                "trust": tuple(trust or ()),
                "trust_any": trust_any,
                "node_config": key_values(settings or [], "--set"),
                "tags": {k: str(v) for k, v in key_values(tag or [], "--tag").items()},
                "name": name,
                "max_tasks": max_tasks,
                "codecs": tuple(codec) if codec else None,
            },
            policy=policy,
        )


@app.command()
def connect(
    name: Annotated[str | None, typer.Argument(help="What to call the server.")] = None,
    join: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="From the server's admin; or @FILE.")
    ] = None,
    address: Annotated[str | None, typer.Option(metavar="HOST:PORT")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="No TLS.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of one of that name.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remember a server under a name; without a name, list those that are known."""
    from umbel.cli.remote import add_connection, print_connections

    with reported(as_json):
        if name is None:
            print_connections(as_json)
        else:
            add_connection(
                name,
                token=join,
                address=address,
                insecure=insecure,
                replace=replace,
                as_json=as_json,
            )


@app.command()
def log(
    run: RemoteRun = "latest",
    on: On = None,
    follow: Annotated[bool, typer.Option("--follow", help="Until the run ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the log of a run on a server."""
    from umbel.cli.remote import print_log

    with reported(as_json):
        raise typer.Exit(print_log(run, on, follow=follow, as_json=as_json))


@app.command()
def stop(run: RemoteRun, on: On = None, as_json: AsJson = False) -> None:
    """End a run on a server; it can be resumed."""
    from umbel.cli.remote import stop_run

    with reported(as_json):
        stop_run(run, on, as_json)


@app.command()
def pull(
    run: RemoteRun = "latest",
    on: On = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="runs/RUN by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a run's model, metrics and log from a server."""
    from umbel.cli.remote import pull_run

    with reported(as_json):
        pull_run(run, on, out, as_json)


@app.command()
def verify(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id or folder, here.")],
    runs_dir: Annotated[Path, typer.Option("--runs-dir")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Check that the log of a run is as it was written: its chain of hashes."""
    from umbel.cli.showing import verify_run

    with reported(as_json):
        verify_run(run, runs_dir, as_json)


@app.command()
def conformance(
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the client is to connect.")
    ] = "127.0.0.1:9300",
    case: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this case; may be repeated.")
    ] = None,
    client_app: Annotated[
        str, typer.Option(help="What runs name as their client app.")
    ] = "echo_app:app",
    patience_s: Annotated[
        float, typer.Option(min=0.1, help="Seconds that the client may take for a message.")
    ] = 20.0,
    wait_s: Annotated[
        float, typer.Option(min=0.1, help="Seconds that it may take to connect at first.")
    ] = 300.0,
    codec: Annotated[str, typer.Option(help="The format of contents.")] = "safetensors",
    as_json: AsJson = False,
) -> None:
    """Play the server against a client in any language; say what it gets wrong of the wire."""
    from umbel.cli.conformance import run_conformance

    with reported(as_json):
        passed = run_conformance(
            listen, case or [], client_app, patience_s, wait_s, codec, as_json=as_json
        )
        raise typer.Exit(0 if passed else 1)


@policy_commands.command("check")
def check_policy(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy, as TOML.")],
    as_json: AsJson = False,
) -> None:
    """Say in plain words what a policy allows, and what leaks all the same."""
    from umbel.cli.policing import check_policy as check

    with reported(as_json):
        check(file, as_json)


@policy_commands.command("pin")
def pin_app(
    app_dir: Annotated[Path, typer.Argument(metavar="APP", help="The app's folder.")],
) -> None:
    """Print the lines by which a policy allows an app exactly as it is now."""
    from umbel.cli.policing import pin_app as pin

    with reported():
        pin(app_dir)


@node_commands.command("ls")
def list_nodes(on: On = None, as_json: AsJson = False) -> None:
    """List the nodes that have joined."""
    from umbel.cli.remote import print_nodes

    with reported(as_json):
        print_nodes(on, as_json)


@node_commands.command("revoke")
def revoke(
    node_id: Annotated[int, typer.Argument(metavar="NODE", min=0)],
    on: On = None,
    as_json: AsJson = False,
) -> None:
    """Shut a node out for good."""
    from umbel.cli.remote import revoke_node

    with reported(as_json):
        revoke_node(node_id, on, as_json)
