"""``mad convert --from harvest``: counts of pairs that goodfire-ai/spd harvested."""

from pathlib import Path

from mad.cli import screen
from mad.errors import ConfigError


def convert_counts(source: Path, destination: Path, *, to_format: str) -> None:
    """Write the counts as ours, and say what an active set costs by the codes that they tell."""
    from mad.codes.sets.chow_liu import TreeCode
    from mad.codes.sets.independent import IndependentCode, silence_and_correction
    from mad.codes.statistics import PairCounts
    from mad.components.formats.parameters import harvest
    from mad.fit.counted import FROM_PAIRS, save_counts

    if to_format != "mad":
        raise ConfigError(f"harvested counts can be written as mad, and not as {to_format}")
    found = harvest.read(source, pickles=True)
    counts = {layer: PairCounts(one.positions, one.both) for layer, one in found.items()}
    save_counts(destination, counts)
    rows = []
    for layer, pairs in counts.items():
        tree = TreeCode.counted(pairs)
        used = pairs.both.diagonal()
        silence, correction = silence_and_correction(IndependentCode.fit(pairs.alone).rate)
        coins = float(silence.sum() + (used * correction).sum() / max(pairs.inputs, 1))
        rows.append(
            (
                layer,
                str(len(used)),
                str(int((used > 0).sum())),
                f"{float(used.sum()) / max(pairs.inputs, 1):.3g}",
                f"{coins:.4g}",
                f"{tree.mean_bits(pairs):.4g}",
            )
        )
    columns = ("layer", "components", "used", "active", "bits as coins", "bits as a tree")
    screen.table(f"Active sets of {next(iter(counts.values())).inputs} positions", columns, rows)
    if not all(one.is_exact for one in found.values()):
        screen.say(
            f"counts of {harvest.EXACT} and more were added up in single precision, and are too "
            "small: harvest in shards, and merge"
        )
    screen.say(
        f"written to {destination}: enough for the codes {', '.join(FROM_PAIRS)}; the others need "
        "the sets themselves"
    )
