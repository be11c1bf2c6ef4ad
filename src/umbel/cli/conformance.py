"""``umbel conformance``: what a client in any language gets right of the wire, and what not."""

from __future__ import annotations

import asyncio

from rich.table import Table
from rich.text import Text

from umbel.cli.problems import print_json
from umbel.cli.tables import console


def run_conformance(
    listen: str,
    cases: list[str],
    client_app: str,
    patience_s: float,
    wait_s: float,
    codec: str,
    *,
    as_json: bool,
) -> bool:
    """Play the cases, print what came of them, and return whether all passed."""
    from umbel.deployment import Verdict, judge_client

    told = console(stderr=True)
    told.print(f"waiting for a client on {listen}, without TLS")

    def on_verdict(verdict: Verdict) -> None:
        told.print(Text(f"{'passed' if verdict.passed else 'FAILED'}  {verdict.name}"))

    verdicts = asyncio.run(
        judge_client(
            listen,
            cases,
            client_app=client_app,
            patience_s=patience_s,
            wait_s=wait_s,
            codec=codec,
            on_verdict=on_verdict,
        )
    )
    passed = sum(verdict.passed for verdict in verdicts)
    if as_json:
        rows = [
            {"case": v.name, "asks": v.title, "passed": v.passed, "wrong": v.wrong}
            for v in verdicts
        ]
        print_json({"success": passed == len(verdicts), "cases": rows})
    else:
        table = Table("case", "verdict", "what is asked; what was wrong")
        for verdict in verdicts:
            style = "green" if verdict.passed else "bold red"
            word = Text("passed" if verdict.passed else "FAILED", style=style)
            table.add_row(Text(verdict.name), word, Text(verdict.wrong or verdict.title))
        console().print(table)
        console().print(f"{passed} of {len(verdicts)} cases passed")
    return passed == len(verdicts)
