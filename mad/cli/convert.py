"""``mad convert``: dictionaries and decompositions from and to other libraries, offline."""

from pathlib import Path
from typing import Annotated

import typer

from mad.cli import screen
from mad.cli.convert_counts import convert_counts
from mad.cli.convert_parameters import FORMATS, convert_components, convert_parameters


def convert(  # noqa: PLR0913  # one argument an option
    source: Annotated[Path, typer.Argument(help="Directory or file to read.", show_default=False)],
    destination: Annotated[
        Path,
        typer.Argument(help="Directory, or file for openai, to write.", show_default=False),
    ],
    *,
    from_format: Annotated[
        str,
        typer.Option(
            "--from",
            help="Layout of SOURCE: saelens, dictionary_learning, sparsify, openai, gemma_scope or "
            "mad; of parameter decompositions spd (goodfire-ai), its harvest, and apd.",
            show_default=False,
        ),
    ],
    to_format: Annotated[
        str, typer.Option("--to", help="Layout to write; `mad fit` reads that of mad.")
    ] = "mad",
    site: Annotated[
        str,
        typer.Option(
            help="Site that the dictionary explains; default: what SOURCE says, by the names of "
            "Hugging Face where the model is known. Of mad: the view to take."
        ),
    ] = "",
    reads: Annotated[
        str, typer.Option(help="Site that a transcoder reads; default likewise.")
    ] = "",
    pooling: Annotated[
        str, typer.Option(help="Positions to one vector; most dictionaries know single positions.")
    ] = "last",
    config: Annotated[
        Path | None,
        typer.Option(
            help="Settings of the monitored model that a parameter decomposition is of; its "
            "weights are compared."
        ),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(
            help="Causal importance above which a subcomponent is active.", min=0.0, max=0.99
        ),
    ] = 0.1,
) -> None:
    """Convert one dictionary or decomposition between layouts; activations stay the same.

    Pickles are read, without running code, and only here.
    """
    from mad.errors import ConfigError

    if destination.exists() and (destination.is_file() or any(destination.iterdir())):
        raise ConfigError(f"{destination} exists; remove it, or name another place to write to")
    if from_format == "harvest":
        convert_counts(source, destination, to_format=to_format)
    elif from_format == "apd":
        convert_components(source, destination, to_format=to_format, config=config)
    elif {from_format, to_format} & set(FORMATS):
        convert_parameters(
            source,
            destination,
            from_format=from_format,
            to_format=to_format,
            config=config,
            threshold=threshold,
            pooling=pooling,
        )
    else:
        _convert(source, destination, (from_format, to_format), (site, reads, pooling))


def _convert(
    source: Path, destination: Path, between: tuple[str, str], place: tuple[str, str, str]
) -> None:
    from mad.components import formats
    from mad.components.pooling import parse_pooling

    (from_format, to_format), (site, reads, pooling) = between, place
    dictionary = formats.read(
        source,
        from_format,
        site=site,
        reads=reads,
        pooling=parse_pooling(pooling),
        pickles=True,
    )
    formats.write(dictionary, destination, to_format)
    look = dictionary.look
    origin = "" if look.is_own else f" from {', '.join(look.reads)}"
    screen.say(
        f"{dictionary.width} {dictionary.encoder.kind} latents of {look.view}{origin} "
        f"written to {destination}"
    )
    if to_format != "mad" and look.pooling != "last":
        screen.say(
            "the layout does not hold how positions become one vector: to read it back, name "
            f"--pooling {look.pooling}"
        )
    if to_format == "mad" and from_format != "mad":
        screen.say(
            "what it was trained on is unknown: keep that out of the trusted data, or p-values "
            "will promise too much"
        )
