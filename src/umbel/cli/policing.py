"""``umbel policy``: what a policy allows, in plain words, and how an app is named in one."""

from __future__ import annotations

import json
from pathlib import Path

from umbel.cli.problems import print_json
from umbel.cli.tables import console


def check_policy(file: Path, as_json: bool) -> None:
    """Read a policy and print what it comes to."""
    from umbel.clientapp import explain_policy
    from umbel.deployment import read_policy

    explanation = explain_policy(read_policy(file))
    if as_json:
        print_json(
            {
                "success": True,
                "file": str(file),
                "allows": dict(explanation.sentences),
                "warnings": list(explanation.warnings),
            }
        )
        return
    from rich.table import Table

    out = console()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for about, sentence in explanation.sentences:
        table.add_row(about, sentence, style=None)
    out.print(table, markup=False)
    for warning in explanation.warnings:
        out.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    out.print(f"{file} is a policy. Use it: umbel node --policy {file}", markup=False)


def pin_app(app_dir: Path) -> None:
    """Print the lines by which a policy allows an app as it is now, and no other version."""
    from umbel.base import AppProject
    from umbel.deployment import build_bundle, bundle_hash

    name = AppProject.read(app_dir).name
    digest = bundle_hash(build_bundle(app_dir))
    print(f"[[apps]]\nname = {json.dumps(name)}\nbundles = [{json.dumps(digest)}]")
