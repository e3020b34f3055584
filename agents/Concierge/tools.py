"""What the hotel's agents can do. A real one would ask the booking system."""

from dataclasses import dataclass
from datetime import date

from agents import function_tool


@dataclass(frozen=True)
class Room:
    kind: str
    price: int  # euros a night
    sleeps: int


ROOMS = (Room("single", 95, 1), Room("double", 140, 2), Room("suite", 260, 4))

MENU = {
    "breakfast": "porridge with berries, eggs any style, rye bread; 07:00 to 10:30",
    "lunch": "soup of the day, lentil salad, club sandwich; 12:00 to 14:30",
    "dinner": "mushroom risotto, trout with almonds, beef cheeks; 18:00 to 22:00",
}


@function_tool
def quote_room(arrival: date, nights: int, guests: int) -> str:
    """Find the cheapest room for a stay and its price.

    Args:
        arrival: The day of arrival.
        nights: How many nights.
        guests: How many people.
    """
    if nights < 1 or guests < 1:
        return "A stay has at least one night and one guest."
    room = next((room for room in ROOMS if room.sleeps >= guests), None)
    if room is None:
        return f"No room sleeps {guests}; the largest sleeps {ROOMS[-1].sleeps}. Suggest two rooms."
    return f"A {room.kind} room from {arrival:%d %B %Y}, {nights} night(s): {room.price * nights} euros."


@function_tool
def read_menu(meal: str) -> str:
    """Read what the restaurant serves, and when.

    Args:
        meal: breakfast, lunch or dinner.
    """
    return MENU.get(meal.lower(), f"There is {', '.join(MENU)}.")
