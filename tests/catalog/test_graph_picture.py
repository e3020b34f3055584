"""The picture of an agent's graph: nothing overlaps, arrows end at their boxes, and all of it is told in words."""

import itertools
import re
from typing import Any

import pytest

from apps.catalog.graph_picture import WIDTH, Box, Picture, picture


def node(name: str, *targets: int, tools: tuple[str, ...] = (), as_tools: tuple[int, ...] = ()) -> dict[str, Any]:
    handoffs = [{"kind": "handoff", "name": f"to {one}", "target": one} for one in targets]
    lent = [{"kind": "tool", "name": f"ask_{one}", "target": one} for one in as_tools]
    return {"name": name, "model": "gpt", "tools": list(tools), "mcp_servers": [], "edges": [*handoffs, *lent]}


def drawn(*nodes: dict[str, Any]) -> Picture:
    found = picture(nodes)
    assert found is not None
    return found


def overlap(one: Box, other: Box) -> bool:
    return (
        one.x < other.x + WIDTH and other.x < one.x + WIDTH
        and one.y < other.y + other.height and other.y < one.y + one.height
    )  # fmt: skip


CHAIN = [node(f"A{one}", *([one + 1] if one < 39 else [0])) for one in range(40)]
STAR = [node("Root", *range(1, 40)), *(node(f"Leaf {one}", 0) for one in range(1, 40))]
TREE = [node(f"T{one}", *(child for child in (2 * one + 1, 2 * one + 2) if child < 40)) for one in range(40)]
ALL_TO_ALL = [node(f"M{one}", *(other for other in range(8))) for one in range(8)]


@pytest.mark.parametrize(
    "nodes", [[node("Only")], CHAIN, STAR, TREE, ALL_TO_ALL], ids=["one", "chain", "star", "tree", "all"]
)
def test_boxes_do_not_overlap_and_lie_within_the_picture(nodes: list[dict[str, Any]]) -> None:
    found = drawn(*nodes)
    assert len(found.boxes) == len(nodes)
    assert not any(overlap(one, other) for one, other in itertools.combinations(found.boxes, 2))
    assert all(box.x >= 0 and box.x + WIDTH <= found.width for box in found.boxes)
    assert all(box.y >= 0 and box.y + box.height <= found.height for box in found.boxes)


@pytest.mark.parametrize("nodes", [CHAIN, STAR, TREE, ALL_TO_ALL], ids=["chain", "star", "tree", "all"])
def test_arrows_begin_and_end_at_the_sides_of_their_boxes(nodes: list[dict[str, Any]]) -> None:
    found = drawn(*nodes)
    edges = [(source, edge["target"]) for source, one in enumerate(nodes) for edge in one["edges"]]
    assert len(found.arrows) == len(edges)
    for arrow, (source, target) in zip(found.arrows, edges, strict=True):
        numbers = [int(one) for one in re.findall(r"-?\d+", arrow.path)]
        begin, end = numbers[:2], numbers[-2:]
        if "H" in arrow.path:  # the last is a horizontal line, whose height is that of the curve before
            end = [numbers[-1], numbers[-2]]
        for (x, y), box in ((begin, found.boxes[source]), (end, found.boxes[target])):
            assert x in (box.x, box.x + WIDTH)
            assert box.y <= y <= box.y + box.height


def test_layers_go_by_the_steps_from_the_entry() -> None:
    found = drawn(node("A", 1, 2), node("B", 3), node("C", 3), node("D", 0), node("Apart"))
    lefts = [box.x for box in found.boxes]
    assert lefts[0] < lefts[1] == lefts[2] < lefts[3]
    assert lefts[4] == lefts[0]
    assert [box.is_entry for box in found.boxes] == [True, False, False, False, False]


def test_long_lists_of_tools_are_cut_in_the_box_and_whole_in_words() -> None:
    tools = tuple(f"tool{number}" for number in range(12))
    found = drawn(node("A", tools=tools))
    assert [line.text for line in found.boxes[0].lines] == ["gpt", *tools[:6], "6 more"]
    assert found.sentences == [f"A (the entry): model gpt; tools: {', '.join(tools)}."]


def test_words_tell_handoffs_and_agents_as_tools() -> None:
    found = drawn(node("A", 1, as_tools=(2,)), node("B", 0), node("C"))
    assert found.sentences == [
        "A (the entry): model gpt; hands off to to 1; agents as tools: ask_2 (C).",
        "B: model gpt; hands off to to 0.",
        "C: model gpt.",
    ]
    assert [arrow.title for arrow in found.arrows] == [
        "A hands off to B", "A uses, as its tool ask_2, C", "B hands off to A",
    ]  # fmt: skip


def test_targets_that_are_not_known_have_no_arrow() -> None:
    lost = {"kind": "handoff", "name": "Lost", "target": None}
    beyond = {"kind": "tool", "name": "beyond", "target": 200}
    found = drawn({**node("A"), "edges": [lost, beyond]})
    assert found.arrows == []
    assert found.sentences == ["A (the entry): model gpt; hands off to Lost; agents as tools: beyond."]


def test_nothing_is_drawn_of_an_agent_that_never_loaded() -> None:
    assert picture([]) is None
