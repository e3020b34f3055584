"""How well something is: one scale for all that the dashboard shows, in a word, an icon and a colour."""

from enum import IntEnum


class Level(IntEnum):
    """From the best to the worst, so that the worst of many is their maximum."""

    IDLE = 0  # there is nothing to judge
    WELL = 1
    ATTENTION = 2
    DOWN = 3

    @property
    def icon(self) -> str:
        """A name of Material Symbols, which unfold ships."""
        return _ICONS[self]

    @property
    def css(self) -> str:
        """A class of static/console/dashboard.css."""
        return f"is-{self.name.lower()}"


_ICONS = {
    Level.IDLE: "remove",
    Level.WELL: "check_circle",
    Level.ATTENTION: "warning",
    Level.DOWN: "error",
}
