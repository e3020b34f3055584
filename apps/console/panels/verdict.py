"""Is the gateway well? One sentence over all that the viewer may see."""

from collections.abc import Sequence
from dataclasses import dataclass

from apps.console.matter import Matter
from apps.console.panels.level import Level
from apps.console.panels.tiles import Tile, problems
from apps.console.panels.words import counted

_NAMED = 3  # problems; the rest is below


@dataclass(frozen=True, slots=True)
class Verdict:
    level: Level
    word: str
    text: str


def verdict(tiles: Sequence[Tile], matters: Sequence[Matter]) -> Verdict:
    """As bad as the worst part. What is urgent of the matters needs attention, too; suggestions do not."""
    level = max((tile.level for tile in tiles), default=Level.IDLE)
    if any(one.is_urgent for one in matters):
        level = max(level, Level.ATTENTION)
    if level is Level.DOWN:
        return Verdict(level, "Something is down", _text(tiles, matters))
    if level is Level.ATTENTION:
        return Verdict(level, "Needs attention", _text(tiles, matters))
    if _serves(tiles):
        return Verdict(Level.WELL, "All is well", _suggestions(matters) or "Everything serves as it should.")
    return Verdict(Level.IDLE, "Ready", "Nothing serves yet. " + _suggestions(matters))


def _serves(tiles: Sequence[Tile]) -> bool:
    """Whether an agent does; of tiles without agents, whether any is well."""
    agents = [tile for tile in tiles if tile.key in ("agents", "declared-agents")]
    return any(tile.level is Level.WELL for tile in agents or tiles)


def _text(tiles: Sequence[Tile], matters: Sequence[Matter]) -> str:
    named = list(problems(list(tiles)))
    if not named:
        urgent = [one.title for one in matters if one.is_urgent]
        rest = f" And {counted(len(urgent) - 1, 'matter')} more." if len(urgent) > 1 else ""
        return urgent[0] + rest
    more = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    sentence = "; ".join(named[:_NAMED]) + more
    return sentence[0].upper() + sentence[1:] + "."


def _suggestions(matters: Sequence[Matter]) -> str:
    return f"{counted(len(matters), 'matter')} to look at when you have time." if matters else ""
