"""`harness models`: the networks that come with the harness."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harness.commands.options import AsJson

app = typer.Typer(help="The networks that come with the harness.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_models(
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="a page with every figure and command, as Markdown")] = False,
) -> None:
    """The shipped networks."""
    from harness.models.shipped import cards

    found = cards()
    if as_json:
        print(json.dumps(found, indent=1))
    elif markdown:
        from reports.zoo import zoo_page

        print(zoo_page(found), end="")
    else:
        from rich.console import Console
        from rich.table import Table

        from reports.zoo import BRIEF, brief_row

        shown = Table(box=None, pad_edge=False)
        shown.add_column(BRIEF[0], no_wrap=True)  # a name is there to be copied
        for title in BRIEF[1:]:
            shown.add_column(title, justify="right", no_wrap=True)
        for name, card in found.items():
            shown.add_row(name, *brief_row(card))
        Console().print(shown)
        print(
            "clean, robust: right of 1,000 CIFAR-10 images, and still under three attacks of L-inf radius ε. More: harness models show NAME"
        )


@app.command("show")
def show_model(name: Annotated[str, typer.Argument(help="a zoo name")]) -> None:
    """One model card, as JSON."""
    from harness.errors import unknown
    from harness.models.shipped import cards

    found = cards()
    if name not in found:
        raise unknown("model", name, found)
    print(json.dumps(found[name], indent=1))
