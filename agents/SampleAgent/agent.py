"""The smallest useful agent: one function tool.

This is an ordinary file of the OpenAI Agents SDK. Copy the folder, rename it, change the tool: that is all it takes.
"""

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agents import Agent, function_tool


@function_tool
def current_time(city_timezone: str = "UTC") -> str:
    """Tell the current date and time.

    Args:
        city_timezone: An IANA time zone such as "Europe/Berlin" or "America/New_York".
    """
    try:
        now = datetime.now(ZoneInfo(city_timezone))
    except (ZoneInfoNotFoundError, ValueError):
        return f"{city_timezone!r} is not an IANA time zone. Try a name such as Europe/Berlin."
    return now.strftime("%A, %d %B %Y, %H:%M (%Z)")


agent = Agent(
    name="Sample Agent",
    handoff_description="Answers questions, and knows what time it is anywhere.",
    instructions=(
        "You are a friendly assistant. Answer briefly. "
        "When a question depends on the date or the time of day, look it up with current_time instead of guessing."
    ),
    tools=[current_time],
)
