"""The graph of an agent as a picture: boxes in layers from left to right, arrows between them, and the same in words.

Pure values for a template: boxes are HTML of a fixed size, arrows are SVG paths behind them. A layer holds what is as
many steps away from the entry, so that an arrow to the right leads to the next layer; one that leads back goes the
other way about, below everything where layers lie between.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 220  # of a box; pixels, as all that follows
_BETWEEN_LAYERS = 96
_BETWEEN_BOXES = 20
_EDGE = 16  # around it all
_LINE = 20
_PADDING = 10
_LETTERS = 24  # that fit on a line
_MOST_LINES = 7  # of tools and MCP servers in a box
_LANE = 12  # between arrows that lead back below
_TALL = 640  # that does not fit on a page: then layers begin at the top, where one looks first

ICONS = {"model": "neurology", "tool": "construction", "mcp": "hub", "more": "more_horiz"}


@dataclass(frozen=True, slots=True)
class Line:
    icon: str
    text: str
    title: str


@dataclass(frozen=True, slots=True)
class Box:
    name: str
    x: int
    y: int
    height: int
    lines: tuple[Line, ...]
    is_entry: bool


@dataclass(frozen=True, slots=True)
class Arrow:
    kind: str  # handoff or tool
    path: str  # of SVG
    title: str


@dataclass(frozen=True, slots=True)
class Picture:
    width: int
    height: int
    boxes: Sequence[Box]
    arrows: Sequence[Arrow]
    sentences: Sequence[str]
    has_handoffs: bool
    has_agents_as_tools: bool

    @property
    def box_width(self) -> int:
        return WIDTH


@dataclass(frozen=True, slots=True)
class _Edge:
    kind: str
    name: str
    source: int
    target: int


def picture(nodes: Sequence[Mapping[str, Any]]) -> Picture | None:
    """Of DropIn.graph; None where there is nothing to draw."""
    if not nodes:
        return None
    edges = [*_edges(nodes)]
    layers = _layers(len(nodes), edges)
    boxes = _boxes(nodes, layers)
    bottom = max(box.y + box.height for box in boxes)
    arrows, lanes = _arrows(nodes, edges, boxes, bottom)
    return Picture(
        width=max(box.x for box in boxes) + WIDTH + _EDGE + (_BETWEEN_LAYERS // 2 if arrows else 0),
        height=bottom + _EDGE + lanes * _LANE,
        boxes=boxes,
        arrows=arrows,
        sentences=[_sentence(node, number, nodes) for number, node in enumerate(nodes)],
        has_handoffs=any(edge.kind == "handoff" for edge in edges),
        has_agents_as_tools=any(edge.kind == "tool" for edge in edges),
    )


def _edges(nodes: Sequence[Mapping[str, Any]]) -> Iterator[_Edge]:
    """Those whose target is drawn."""
    for source, node in enumerate(nodes):
        for edge in node.get("edges", ()):
            if isinstance(edge["target"], int) and 0 <= edge["target"] < len(nodes):
                yield _Edge(edge["kind"], edge["name"], source, edge["target"])


# --- where each stands -----------------------------------------------------------------------------------------------


def _layers(count: int, edges: Sequence[_Edge]) -> list[list[int]]:
    """By the fewest steps from the entry; what it does not reach (a workflow's others) begins anew at the left."""
    targets: dict[int, list[int]] = defaultdict(list)
    for edge in edges:
        targets[edge.source].append(edge.target)
    depth: dict[int, int] = {}
    for root in range(count):
        if root in depth:
            continue
        depth[root], walk = 0, [root]
        for one in walk:  # grows while it is walked
            for target in targets[one]:
                if target not in depth:
                    depth[target] = depth[one] + 1
                    walk.append(target)
    layers: list[list[int]] = [[] for _ in range(max(depth.values()) + 1)]
    for one, at in depth.items():  # in the order in which they were found: near whoever leads to them
        layers[at].append(one)
    return layers


def _boxes(nodes: Sequence[Mapping[str, Any]], layers: Sequence[Sequence[int]]) -> list[Box]:
    lines = [_lines(node) for node in nodes]
    heights = [_height(node, lines[number]) for number, node in enumerate(nodes)]
    tall = [sum(heights[one] + _BETWEEN_BOXES for one in layer) - _BETWEEN_BOXES for layer in layers]
    boxes: dict[int, Box] = {}
    for number, layer in enumerate(layers):
        y = _EDGE + ((max(tall) - tall[number]) // 2 if max(tall) <= _TALL else 0)
        for one in layer:
            x = _EDGE + number * (WIDTH + _BETWEEN_LAYERS)
            boxes[one] = Box(_name(nodes[one]), x, y, heights[one], lines[one], is_entry=one == 0)
            y += heights[one] + _BETWEEN_BOXES
    return [boxes[one] for one in range(len(nodes))]


def _name(node: Mapping[str, Any]) -> str:
    return str(node.get("name") or "(no name)")


def _lines(node: Mapping[str, Any]) -> tuple[Line, ...]:
    model = [Line(ICONS["model"], str(node["model"]), "model")] if node.get("model") else []
    servers = [Line(ICONS["mcp"], str(one), "MCP server") for one in node.get("mcp_servers", ())]
    tools = [Line(ICONS["tool"], str(one), "tool") for one in node.get("tools", ())]
    others = [*servers, *tools]
    if len(others) > _MOST_LINES:
        left = len(others) - _MOST_LINES + 1
        others = [*others[: _MOST_LINES - 1], Line(ICONS["more"], f"{left} more", "listed below the picture")]
    return (*model, *others)


def _height(node: Mapping[str, Any], lines: Sequence[Line]) -> int:
    """Two lines for a name that needs them; a longer one is cut off there, and stands whole in the list below."""
    for_name = 2 if len(_name(node)) > _LETTERS else 1
    return 2 * _PADDING + _LINE * (for_name + len(lines))


# --- arrows ----------------------------------------------------------------------------------------------------------


def _arrows(
    nodes: Sequence[Mapping[str, Any]], edges: Sequence[_Edge], boxes: Sequence[Box], bottom: int
) -> tuple[list[Arrow], int]:
    """With the number of lanes that they take below the boxes."""
    arrows, lanes = [], 0
    for edge in dict.fromkeys(edges):
        source, target = boxes[edge.source], boxes[edge.target]
        layers_back = (source.x - target.x) // (WIDTH + _BETWEEN_LAYERS)
        if layers_back > 1:
            lanes += 1
            path = _below(source, target, bottom + lanes * _LANE)
        elif layers_back == 1:
            path = _back(source, target)
        elif layers_back == 0:
            path = _beside(source, target)
        else:
            path = _forward(source, target)
        what = "hands off to" if edge.kind == "handoff" else f"uses, as its tool {edge.name},"
        arrows.append(Arrow(edge.kind, path, f"{_name(nodes[edge.source])} {what} {_name(nodes[edge.target])}"))
    return arrows, lanes


def _middle(box: Box) -> int:
    return box.y + box.height // 2


def _forward(source: Box, target: Box) -> str:
    x1, y1, x2, y2 = source.x + WIDTH, _middle(source) - 6, target.x, _middle(target) - 6
    bend = _BETWEEN_LAYERS // 2
    return f"M{x1} {y1} C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"


def _back(source: Box, target: Box) -> str:
    """To the layer before: beside the arrow that leads here, which it may answer."""
    x1, y1, x2, y2 = source.x, _middle(source) + 8, target.x + WIDTH, _middle(target) + 8
    bend = _BETWEEN_LAYERS // 2
    return f"M{x1} {y1} C{x1 - bend} {y1} {x2 + bend} {y2} {x2} {y2}"


def _beside(source: Box, target: Box) -> str:
    """Within a layer, or to itself: out at the right and in again."""
    x, y1, y2 = source.x + WIDTH, _middle(source) + 2, _middle(target) + 10
    if source == target:
        y1, y2 = _middle(source) - 8, _middle(source) + 10
    bend = min(_BETWEEN_LAYERS - 24, 36 + abs(y2 - y1) // 12)
    return f"M{x} {y1} C{x + bend} {y1} {x + bend} {y2} {x} {y2}"


def _below(source: Box, target: Box, lane: int) -> str:
    """Past the layers between: down in the gap before the source, along, and up in the gap behind the target."""
    x1, x2 = source.x - 20, target.x + WIDTH + 20
    return (
        f"M{source.x} {_middle(source) + 8} H{x1 + 6} Q{x1} {_middle(source) + 8} {x1} {_middle(source) + 14} "
        f"V{lane - 6} Q{x1} {lane} {x1 - 6} {lane} H{x2 + 6} Q{x2} {lane} {x2} {lane - 6} "
        f"V{_middle(target) + 14} Q{x2} {_middle(target) + 8} {x2 - 6} {_middle(target) + 8} H{target.x + WIDTH}"
    )


# --- in words --------------------------------------------------------------------------------------------------------


def _sentence(node: Mapping[str, Any], number: int, nodes: Sequence[Mapping[str, Any]]) -> str:
    edges = node.get("edges", ())
    parts = [
        f"model {node['model']}" if node.get("model") else "",
        _listed("hands off to", (one["name"] for one in edges if one["kind"] == "handoff")),
        _listed("agents as tools:", (_tool(one, nodes) for one in edges if one["kind"] == "tool")),
        _listed("tools:", node.get("tools", ())),
        _listed("MCP servers:", node.get("mcp_servers", ())),
    ]
    said = "; ".join(filter(None, parts)) or "no tools, no handoffs"
    return f"{_name(node)}{' (the entry)' if number == 0 else ''}: {said}."


def _tool(edge: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> str:
    target = edge["target"]
    is_known = isinstance(target, int) and 0 <= target < len(nodes)
    return f"{edge['name']} ({_name(nodes[target])})" if is_known else str(edge["name"])


def _listed(words: str, names: Any) -> str:
    listed = ", ".join(map(str, names))
    return f"{words} {listed}" if listed else ""
