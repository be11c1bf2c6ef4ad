"""The commands and their options. What a command does is imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from umbel.cli.problems import reported

app = typer.Typer(
    name="umbel",
    help="Federated learning: make an app, run it, look at what its runs left behind.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RunsDir = Annotated[Path, typer.Option("--runs-dir", help="The folder that holds the runs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but what went wrong.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, the start of one, 'latest', or a path.")
]


def main() -> None:
    """Run the command line; the process ends with the command's exit status."""
    app()


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Federated learning: make an app, run it, look at what its runs left behind."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("umbel"))
        raise typer.Exit


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    template: Annotated[
        Literal["numpy", "sklearn", "pytorch", "jax"],
        typer.Option("--template", "-t", help="The library that the app learns with."),
    ] = "numpy",
) -> None:
    """Make a small, complete app that learns to read handwritten digits."""
    from umbel.cli.creating import create_app

    with reported():
        create_app(folder, template)


@app.command()
def run(
    app_dir: Annotated[
        Path, typer.Argument(metavar="APP", help="The app's folder, with pyproject.toml.")
    ] = Path(),
    nodes: Annotated[int | None, typer.Option(min=1, help="Number of virtual clients.")] = None,
    backend: Annotated[
        Literal["inprocess", "processes", "ray"] | None,
        typer.Option(help="Where the clients run; the model's bits are the same everywhere."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of workers; as many as fit by default.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**63 - 1, help="Repeats a run; drawn anew by default."),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option("--config", "-c", metavar="KEY=VALUE", help="Replace a setting of the app."),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    on: Annotated[
        str | None,
        typer.Option(metavar="CONNECTION", help="Run it on this server's nodes instead."),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="With --on: follow the run until it ends.")
    ] = False,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEYFILE", help="With --on: sign the app; see umbel key create."),
    ] = None,
    resumable: Annotated[
        bool, typer.Option("--resumable", help="Save a checkpoint after every round.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Simulate an app, or run it on a server. Ends with status 0 only when the run succeeded."""
    if on is not None:
        from umbel.cli.remote import run_remotely

        if nodes or backend or workers:
            raise typer.BadParameter("--nodes, --backend and --workers are for a simulation")
        with reported(as_json):
            status = run_remotely(
                app_dir, on, config or [], seed, sign, stream=stream, as_json=as_json
            )
            raise typer.Exit(status)
    if stream or sign is not None:
        raise typer.BadParameter("--stream and --sign go with --on")
    from umbel.cli.running import RunRequest, run_app

    request = RunRequest(
        app_dir=app_dir,
        nodes=nodes,
        backend=backend,
        workers=workers,
        seed=seed,
        overrides=config or [],
        runs_dir=runs_dir,
        resumable=resumable,
    )
    raise typer.Exit(run_app(request, as_json=as_json, quiet=quiet))


@app.command()
def resume(
    run: RunName,
    runs_dir: RunsDir = Path("runs"),
    on: Annotated[
        str | None, typer.Option(metavar="CONNECTION", help="A run on this server.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Go on with a run that was cut off, from its last checkpoint, to the same model."""
    if on is not None:
        from umbel.cli.remote import resume_run

        with reported(as_json):
            resume_run(run, on, as_json)
        return
    from umbel.cli.running import resume_app

    with reported(as_json):
        status = resume_app(run, runs_dir, as_json=as_json, quiet=quiet)
    raise typer.Exit(status)


@app.command("ls")
def list_runs(
    runs_dir: RunsDir = Path("runs"),
    on: Annotated[
        str | None, typer.Option(metavar="CONNECTION", help="Those on this server.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the runs, the newest first."""
    from umbel.cli.showing import print_runs

    with reported(as_json):
        if on is not None:
            from umbel.cli.remote import print_remote_runs

            print_remote_runs(on, as_json)
        else:
            print_runs(runs_dir, as_json)


@app.command("rm")
def remove(
    run: RunName,
    runs_dir: RunsDir = Path("runs"),
    on: Annotated[
        str | None, typer.Option(metavar="CONNECTION", help="A run on this server.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Here: one whose log does not say that it ended, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a run that is over: its folder with the model, the metrics and the log."""
    from umbel.cli.showing import remove_run

    with reported(as_json):
        if on is not None:
            from umbel.cli.remote import remove_remote_run

            if force:
                raise typer.BadParameter("--force is for runs here: a server knows what has ended")
            remove_remote_run(run, on, as_json)
        else:
            remove_run(run, runs_dir, as_json, force=force)


@app.command()
def show(run: RunName, runs_dir: RunsDir = Path("runs"), as_json: AsJson = False) -> None:
    """Show a run: its configuration, metrics by round, failures, and whether its log is whole."""
    from umbel.cli.showing import print_run

    with reported(as_json):
        print_run(run, runs_dir, as_json)


@app.command()
def plot(
    run: RunName,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A .png or .svg; else in the run's folder.")
    ] = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Draw a run's metrics by round."""
    from umbel.cli.plotting import plot_run

    with reported():
        plot_run(run, runs_dir, out)
