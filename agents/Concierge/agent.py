"""A hotel's front desk: a triage agent with handoffs, an agent used as a tool, and an input guardrail."""

import re

from agents import Agent, GuardrailFunctionOutput, RunContextWrapper, TResponseInputItem, input_guardrail

from tools import quote_room, read_menu

CARD_NUMBER = re.compile(r"\b(?:\d[ -]?){13,16}\b")


@input_guardrail
async def no_card_numbers(
    context: RunContextWrapper[None], agent: Agent[None], input: str | list[TResponseInputItem]
) -> GuardrailFunctionOutput:
    """Payment card numbers must not reach the model. A plain check: no second model is asked."""
    latest = input if isinstance(input, str) else str(input[-1].get("content", "")) if input else ""
    found = CARD_NUMBER.search(latest) is not None
    return GuardrailFunctionOutput(output_info={"card_number": found}, tripwire_triggered=found)


translator = Agent(
    name="Translator",
    instructions="Translate the text into the language that is asked for. Answer with the translation alone.",
    model="gpt-4.1-mini",
)

reservations = Agent(
    name="Reservations",
    handoff_description="Rooms, prices and dates of a stay.",
    instructions=(
        "You take reservations for the hotel. Ask for the day of arrival, the number of nights and of guests when you "
        "don't know them, then use quote_room. Never invent a price."
    ),
    model="gpt-4.1",
    tools=[quote_room],
)

restaurant = Agent(
    name="Restaurant",
    handoff_description="The menu, opening times and table bookings.",
    instructions="You are the maître d'hôtel. Use read_menu for anything about the dishes. Be warm and brief.",
    model="gpt-4.1",
    tools=[read_menu],
)

concierge = Agent(
    name="Concierge",
    handoff_description="A hotel's front desk: rooms, the restaurant, translations.",
    instructions=(
        "You are the concierge of a small hotel. Hand questions about rooms and prices to Reservations and questions "
        "about food to Restaurant. Use translate when a guest asks how to say something. Answer the rest yourself."
    ),
    model="gpt-4.1",
    handoffs=[reservations, restaurant],
    tools=[
        translator.as_tool(
            tool_name="translate",
            tool_description="Translate a sentence; name the language and the text.",
        )
    ],
    input_guardrails=[no_card_numbers],
)

# A specialist hands back what is not its own.
reservations.handoffs.append(concierge)
restaurant.handoffs.append(concierge)

agent = concierge
