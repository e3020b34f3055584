import threading

from django.db import connection

from apps.catalog import recording, registry
from apps.catalog.models import AgentSettings, Diagnostic, DropIn, State
from tests.catalog.conftest import DiscoveryFolder


def diagnostics() -> list[tuple[str, str]]:
    return list(Diagnostic.objects.values_list("agent_id", "code"))


def test_row_describes_the_agent(catalog: DiscoveryFolder) -> None:
    path = catalog.write(
        "Weather",
        """
        from agents import Agent, function_tool
        @function_tool
        def look(city: str) -> str:
            return city
        other = Agent(name="Other")
        agent = Agent(name="W", handoff_description="Weather.", model="gpt-4.1", tools=[look], handoffs=[other])
        """,
    )
    registry.refresh()

    row = DropIn.objects.get()
    assert (row.agent_id, row.folder, row.name, row.description) == ("default/weather", str(path), "W", "Weather.")
    assert (row.state, row.export, row.model) == (State.LIVE, "agent", "gpt-4.1")
    assert (row.tools, row.handoffs) == (["look"], ["Other"])
    assert row.digest == registry.entries()["default/weather"].digest
    assert row.loaded_at is not None


def test_row_has_the_whole_graph(catalog: DiscoveryFolder) -> None:
    catalog.write(
        "Weather",
        """
        from agents import Agent, function_tool
        @function_tool
        def look(city: str) -> str:
            return city
        helper = Agent(name="Helper", model="small", tools=[look])
        back = Agent(name="Back")
        agent = Agent(name="W", tools=[look, helper.as_tool("ask", "Asks.")], handoffs=[back])
        back.handoffs = [agent]
        """,
    )
    registry.refresh()

    assert DropIn.objects.get().graph == [
        {
            "name": "W", "model": "", "tools": ["look"], "mcp_servers": [],
            "edges": [
                {"kind": "handoff", "name": "Back", "target": 1}, {"kind": "tool", "name": "ask", "target": 2},
            ],
        },
        {
            "name": "Back", "model": "", "tools": [], "mcp_servers": [],
            "edges": [{"kind": "handoff", "name": "W", "target": 0}],
        },
        {"name": "Helper", "model": "small", "tools": ["look"], "mcp_servers": [], "edges": []},
    ]  # fmt: skip


def test_problems_come_and_go_with_the_state(catalog: DiscoveryFolder) -> None:
    catalog.write("Weather", "1 / 0")
    registry.refresh()
    assert DropIn.objects.get().state == State.BROKEN
    diagnostic = Diagnostic.objects.get()
    assert (diagnostic.code, diagnostic.line, diagnostic.severity) == ("import_error", 1, "error")

    catalog.write_agent("Weather", "W")
    registry.refresh()
    assert DropIn.objects.get().state == State.LIVE
    assert diagnostics() == []


def test_row_and_settings_outlive_the_folder(catalog: DiscoveryFolder) -> None:
    path = catalog.write_agent("Weather", "W")
    registry.refresh()
    AgentSettings.objects.create(drop_in=DropIn.objects.get(), aliases=["w"])
    (path / "agent.py").rename(path / "main.py")
    registry.refresh()

    assert DropIn.objects.get().state == State.GONE
    assert AgentSettings.objects.get().aliases == ["w"]
    assert diagnostics() == [("default/weather", "no_agent_file")]


def test_writing_the_same_again_writes_nothing(catalog: DiscoveryFolder) -> None:
    catalog.write_agent("Weather", "W")
    catalog.write("Broken", "1 / 0")
    registry.refresh()
    before = (list(DropIn.objects.values()), list(Diagnostic.objects.values()))
    recording.record(registry._found)

    assert (list(DropIn.objects.values()), list(Diagnostic.objects.values())) == before


def test_workers_that_record_at_once_write_each_row_once(catalog: DiscoveryFolder) -> None:
    catalog.write_agent("Weather", "W")
    catalog.write("Broken", "1 / 0")
    registry.refresh()
    DropIn.objects.all().delete()
    Diagnostic.objects.all().delete()
    start = threading.Barrier(4)

    def record() -> None:
        start.wait()
        while True:  # an in-memory SQLite answers "locked" at once instead of waiting
            try:
                recording.record(registry._found)
                break
            except Exception as error:
                if "locked" not in str(error):
                    raise
        connection.close()

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(DropIn.objects.values_list("agent_id", flat=True)) == ["default/broken", "default/weather"]
    assert diagnostics() == [("default/broken", "import_error")]


def test_text_that_a_database_refuses_is_made_fit() -> None:
    assert recording._text("a\0b\udc80" + "c" * 500, 10) == "ab?ccccccc"


def test_failing_database_is_survived_and_written_later(catalog: DiscoveryFolder) -> None:
    catalog.write_agent("Weather", "W")
    with connection.schema_editor() as editor:
        editor.alter_db_table(DropIn, "catalog_dropin", "catalog_hidden")
    try:
        registry.refresh()
        assert registry._found.agents.keys() == {"default/weather"}
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(DropIn, "catalog_hidden", "catalog_dropin")
    registry.refresh()

    assert DropIn.objects.get().agent_id == "default/weather"
