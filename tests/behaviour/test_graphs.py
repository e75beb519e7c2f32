"""Graphs: steps that need each other's results, run as data."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from dramaturg import (
    CycleError,
    DuplicateNameError,
    FatalError,
    Graph,
    GraphError,
    Limit,
    PayloadError,
    WorkflowFailed,
    step,
    step_ref,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.definitions import registry
from tests.behaviour.histories import events_of, has_gapless_numbers


def numbers_step() -> Any:
    @step
    def numbers(upto: int) -> list[int]:
        return [*range(1, upto + 1)]

    return numbers


def double_step() -> Any:
    @step
    def double(number: int) -> int:
        return number * 2

    return double


def total_step() -> Any:
    @step
    def total(numbers: list[int]) -> Decimal:
        return Decimal(sum(numbers))

    return total


def failing_step() -> Any:
    @step(retries=0)
    def refuse(*_: object) -> None:
        raise ValueError("no")

    return refuse


def show_step() -> Any:
    @step
    def show(*values: Any) -> str:
        return repr(values)

    return show


def test_results_go_from_node_to_node_with_their_types(env: WorkflowEnv) -> None:
    graph = Graph("sums")
    some = graph.add(numbers_step(), 3)
    whole = graph.add(total_step(), some)
    graph.add(show_step(), whole, {"first": some[0], "all": [some]}, name="shown")

    assert env.run(graph) == {
        "numbers": [1, 2, 3],
        "total": Decimal(6),
        "shown": "(Decimal('6'), {'first': 1, 'all': [[1, 2, 3]]})",
    }


def test_what_does_not_need_each_other_runs_at_the_same_time(env: WorkflowEnv) -> None:
    meeting = threading.Barrier(2, timeout=20)

    @step
    def meet() -> int:
        return meeting.wait()

    graph = Graph("meeting")
    graph.add(meet)
    graph.add(meet)

    assert sorted(env.run(graph).values()) == [0, 1]


def test_a_map_runs_a_step_for_each_item_of_a_list_that_is_known_only_then(env: WorkflowEnv) -> None:
    graph = Graph("mapped")
    graph.map(double_step(), graph.add(numbers_step(), 20), concurrency=3, name="doubled")
    graph.add(total_step(), graph.map(double_step(), [5, 6]))

    result = env.run(graph)

    assert result["doubled"] == [2 * number for number in range(1, 21)]
    assert result["total"] == Decimal(22)


def test_a_map_never_has_more_under_way_than_it_may(make_env: Callable[..., WorkflowEnv]) -> None:
    under_way: list[int] = []
    most: list[int] = []

    @step
    def watched(number: int) -> int:
        under_way.append(number)
        most.append(len(under_way))
        under_way.remove(number)
        return number

    graph = Graph("narrow")
    graph.map(watched, list(range(12)), concurrency=2)

    with make_env(threads=8) as env:
        env.run(graph)

    assert max(most) <= 2


def test_a_map_collects_what_failed_or_fails_with_it(env: WorkflowEnv) -> None:
    @step(retries=0)
    def picky(number: int) -> int:
        if number == 2:
            raise FatalError("not two")
        return number

    collecting, raising = Graph("collecting"), Graph("raising")
    collecting.map(picky, [1, 2, 3], on_error="collect")
    raising.map(picky, [1, 2, 3])

    found = env.run(collecting)["picky"]
    assert (found[0], found[1]["message"], found[2]) == (1, "not two", 3)
    with pytest.raises(WorkflowFailed, match="not two"):
        env.run(raising)


def test_a_map_over_what_is_no_list_fails(env: WorkflowEnv) -> None:
    graph = Graph("no_list")
    graph.map(double_step(), graph.add(total_step(), [1]))

    with pytest.raises(WorkflowFailed, match="what node 'double' maps over is a Decimal, not a list"):
        env.run(graph)


def test_what_a_failure_upstream_means_is_for_each_node_to_say(env: WorkflowEnv) -> None:
    graph = Graph("mixed")
    failed = graph.add(failing_step())
    graph.add(show_step(), failed, name="skipped", on_upstream_failure="skip")
    graph.add(show_step(), failed, name="ran", on_upstream_failure="run")
    graph.add(show_step(), name="beside")

    assert env.run(graph) == {"refuse": None, "skipped": None, "ran": "(None,)", "beside": "()"}


def test_a_failure_that_nobody_takes_up_fails_the_graph_after_all_else_was_done(env: WorkflowEnv) -> None:
    graph = Graph("failing")
    failed = graph.add(failing_step())
    heir = graph.add(show_step(), failed, name="heir")
    graph.add(show_step(), after=[heir], name="cleaner", on_upstream_failure="run")
    first = graph.add(show_step(), name="first")
    graph.add(show_step(), first, name="second")
    handle = env.start(graph)

    with pytest.raises(WorkflowFailed, match="no"):
        handle.result()

    names = Counter(each["name"] for each in events_of(handle, "step.completed"))
    assert names == {"show": 3}
    assert has_gapless_numbers(handle)


def test_a_retry_runs_what_failed_and_what_needs_it(env: WorkflowEnv) -> None:
    ran: list[str] = []
    broken = [True]

    @step(retries=0)
    def mark(name: str, *_: object) -> str:
        ran.append(name)
        if name == "b" and broken:
            raise ValueError("broken")
        return name

    graph = Graph("retried")
    graph.add(mark, "a", name="a")
    graph.add(mark, "c", graph.add(mark, "b", name="b"), name="c")
    handle = env.start(graph)
    with pytest.raises(WorkflowFailed):
        handle.result()

    broken.clear()
    handle.retry()

    assert handle.result() == {"a": "a", "b": "b", "c": "c"}
    assert Counter(ran) == {"a": 1, "b": 2, "c": 1}


def test_conditions_decide_what_is_left_out(env: WorkflowEnv) -> None:
    @step
    def judge(score: float) -> dict[str, Any]:
        return {"score": score, "kind": "book"}

    show = show_step()
    graph = Graph("conditional")
    verdict = graph.add(judge, 0.7)
    high = graph.add(show, when=verdict["score"] > 0.5, name="high")
    low = graph.add(show, when=verdict["score"] <= 0.5, name="low")
    graph.add(show, low, name="after_low")
    graph.add(show, high, low, name="joined", on_upstream_failure="run")
    graph.add(show, when=verdict["kind"].equals("book") & ~verdict["score"].is_in([1, 2]), name="both")
    graph.add(show, when=verdict["kind"].differs("book") | (verdict["score"] < 0.1), name="neither")
    graph.add(show, when=verdict["kind"], name="truth")

    assert env.run(graph) == {
        "judge": {"score": 0.7, "kind": "book"},
        "high": "()",
        "low": None,
        "after_low": None,
        "joined": "('()', None)",
        "both": "()",
        "neither": None,
        "truth": "()",
    }


def test_a_condition_about_what_is_not_there_fails_the_graph(env: WorkflowEnv) -> None:
    graph = Graph("wrong_part")
    graph.add(show_step(), when=graph.add(numbers_step(), 2)[5] > 1, name="x")

    with pytest.raises(WorkflowFailed, match="the result of node 'numbers' has no 5"):
        env.run(graph)


def test_a_graph_inside_a_graph_is_one_node(env: WorkflowEnv) -> None:
    inner = Graph("inner")
    inner.add(total_step(), inner.add(numbers_step(), 4))
    outer = Graph("outer")
    node = outer.add(inner)
    outer.add(show_step(), node["total"])

    assert env.run(outer) == {"inner": {"numbers": [1, 2, 3, 4], "total": Decimal(10)}, "show": "(Decimal('10'),)"}


@pytest.mark.selection
def test_the_json_of_a_graph_is_all_that_a_coordinator_needs(env: WorkflowEnv) -> None:
    with registry.isolated():
        graph = Graph("from_elsewhere")
        graph.add(total_step(), graph.map(double_step(), graph.add(numbers_step(), 3)))
        document = json.loads(graph.to_json())
    _ = numbers_step(), double_step(), total_step()

    for given in (document, json.dumps(document)):
        assert env.client.start("graph:from_elsewhere", given).result()["total"] == Decimal(12)
    assert env.client.start("graph:x", **document).result()["double"] == [2, 4, 6]


def test_steps_known_by_their_name_only_run_where_a_worker_knows_them(env: WorkflowEnv) -> None:
    numbers = numbers_step()
    graph = Graph("by_name")
    known = graph.add(step_ref("numbers"), 2)
    graph.add(step_ref("show_all", queue="default"), known)

    @step(name="show_all")
    def show_all(values: list[int]) -> str:
        return repr(values)

    assert env.run(graph) == {"numbers": [1, 2], "show_all": "[1, 2]"}
    assert numbers.name == "numbers"


def test_options_of_a_step_hold_in_a_graph(env: WorkflowEnv) -> None:
    tries: list[int] = []

    @step(retries=5)
    def shaky() -> None:
        tries.append(1)
        raise ValueError("again")

    graph = Graph("options")
    graph.add(shaky.options(retries=1))

    with pytest.raises(WorkflowFailed):
        env.run(graph)
    assert len(tries) == 2


def test_what_succeeded_in_a_graph_that_fails_is_undone(env: WorkflowEnv) -> None:
    undone: list[int] = []

    @step
    def undo(result: int) -> None:
        undone.append(result)

    @step(compensate=undo)
    def book() -> int:
        return 7

    graph = Graph("undone")
    graph.add(failing_step(), graph.add(book))

    with pytest.raises(WorkflowFailed):
        env.run(graph)
    assert undone == [7]


@pytest.mark.selection
def test_a_graph_survives_a_crash_at_every_turn(env: WorkflowEnv) -> None:
    ran: Counter[str] = Counter()

    @step
    def count(name: str, *_: object) -> list[str]:
        ran[name] += 1
        return [f"{name}{number}" for number in range(3)]

    graph = Graph("crashing")
    many = graph.add(count, "a", name="a")
    each = graph.map(count, many, name="each")
    graph.add(count, "end", each, name="end")
    handle = env.start(graph)
    for _ in range(3):
        env.turn()
        env.crash()
    handle.result()

    assert set(ran) == {"a", "a0", "a1", "a2", "end"}
    assert len(events_of(handle, "step.completed")) == 5


def test_a_graph_is_cancelled_as_any_workflow(env: WorkflowEnv) -> None:
    graph = Graph("cancelled")
    graph.add(show_step().options(), graph.add(step_ref("nobody_has_it", queue="nowhere")))
    handle = env.start(graph)
    env.turn()

    handle.cancel()

    assert handle.describe().status == "CANCELLED"


def test_a_frozen_graph_is_started_by_its_name(env: WorkflowEnv) -> None:
    graph = Graph("registered", version=3)
    graph.add(numbers_step(), 2)
    graph.freeze()

    handle = env.client.start("registered")

    assert handle.result() == {"numbers": [1, 2]}
    assert handle.describe().version == 3
    assert handle.describe().workflow == "registered"


def test_a_graph_takes_the_options_of_a_start_and_no_arguments(env: WorkflowEnv) -> None:
    graph = Graph("bound")
    graph.add(numbers_step(), 1)

    first = env.start(graph.options(idempotency_key="k"))
    again = env.client.start(graph, idempotency_key="k")

    assert first.run_id == again.run_id
    assert first.describe().workflow == "graph:bound"
    with pytest.raises(TypeError, match="takes no arguments"):
        env.client.start(graph, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"client\.start"):
        graph()


def test_a_wrong_document_is_refused_where_it_is_given(env: WorkflowEnv) -> None:
    with pytest.raises(GraphError, match="nodes: Field required"):
        env.client.start("graph:x", {"steps": []})
    with pytest.raises(GraphError, match="refers to node 'b', and there is none"):
        env.client.start("graph:x", {"nodes": [{"name": "a", "step": "s", "after": ["b"]}]})
    with pytest.raises(TypeError, match="one argument, the graph as JSON"):
        env.client.start("graph:x")


def test_a_cycle_is_named(env: WorkflowEnv) -> None:
    show = show_step()
    graph = Graph("circle")
    first = graph.add(show, name="a", after=["c"])
    graph.add(show, graph.add(show, first, name="b"), name="c")

    with pytest.raises(CycleError, match=r"a → b → c → a|b → c → a → b|c → a → b → c"):
        graph.freeze()
    with pytest.raises(CycleError):
        env.start(graph)


def test_wrong_nodes_are_refused_where_they_are_added() -> None:
    graph, other = Graph("wrong"), Graph("other")
    numbers = numbers_step()
    foreign = other.add(numbers, 1)
    graph.add(numbers, 1, name="one")

    @workflow
    async def flow() -> None: ...

    with pytest.raises(GraphError, match="has a node 'one' already"):
        graph.add(numbers, 1, name="one")
    with pytest.raises(TypeError, match="step 'numbers': missing a required argument: 'upto'"):
        graph.add(numbers)
    with pytest.raises(PayloadError, match="argument 'upto' of step 'numbers'"):
        graph.add(numbers, "many")
    with pytest.raises(GraphError, match="is of <graph 'other'>, not of <graph 'wrong'>"):
        graph.add(numbers, foreign)
    with pytest.raises(GraphError, match="is of <graph 'other'>"):
        graph.add(numbers, 1, after=[foreign])
    with pytest.raises(GraphError, match="about a node of <graph 'other'>"):
        graph.add(numbers, 1, when=foreign[0] > 1)
    with pytest.raises(TypeError, match="when= takes a condition"):
        graph.add(numbers, 1, when=True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a node is a step, a workflow or a graph"):
        graph.add(len, [])
    with pytest.raises(TypeError, match="goes into add"):
        graph.add(flow.options(id="x"))
    with pytest.raises(TypeError, match="too many positional arguments"):
        graph.add(flow, 1)
    with pytest.raises(TypeError, match="combine conditions with &"):
        assert foreign[0] > 1  # pyright: ignore[reportGeneralTypeIssues]
    with pytest.raises(GraphError, match="on_upstream_failure"):
        graph.add(numbers, 1, on_upstream_failure="stop")  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="has no nodes"):
        Graph("empty").freeze()
    graph.freeze()
    with pytest.raises(GraphError, match="is frozen"):
        graph.add(numbers, 1)


def test_nodes_of_one_step_are_numbered() -> None:
    graph = Graph("numbered")
    numbers = numbers_step()

    assert [graph.add(numbers, 1).name for _ in range(3)] == ["numbers", "numbers_2", "numbers_3"]


def test_two_graphs_of_one_name_are_told_apart_by_their_place() -> None:
    numbers = numbers_step()
    for number in range(2):
        again = Graph("made_anew")
        again.add(numbers, number)
        again.freeze()
    other = Graph("made_anew")
    other.add(numbers, 5)

    with pytest.raises(DuplicateNameError, match=r"made_anew.*test_graphs\.py"):
        other.freeze()


def test_a_graph_is_the_same_after_its_json() -> None:
    graph = Graph("there_and_back")
    some = graph.add(numbers_step(), 3)
    graph.map(double_step(), some, concurrency=2, on_error="collect", when=some[0] > 0)

    again = Graph.from_json(graph.to_json())

    assert again.to_json() == graph.to_json()
    assert again.name == "there_and_back"


def test_a_chart_shows_what_needs_what() -> None:
    inner = Graph("inner")
    inner.add(numbers_step(), 1)
    graph = Graph("chart")
    some = graph.add(numbers_step(), 3)
    graph.map(double_step(), some, name="each", when=some[0] > 0)
    graph.add(inner, after=some)

    assert graph.to_mermaid().splitlines() == [
        "flowchart TD",
        '  n1["numbers"]',
        '  n2[["each: double for each"]]',
        '  subgraph n3["inner"]',
        '    n3_1["numbers"]',
        "  end",
        '  n1 -->|"numbers[0] #gt; 0"| n2',
        "  n1 -.-> n3",
    ]


def test_limits_of_a_step_hold_in_a_graph(env: WorkflowEnv) -> None:
    under_way: list[str] = []
    most: Counter[str] = Counter()

    @step(concurrency=Limit(1, key="tenant"))
    def work(tenant: str, number: int) -> int:
        under_way.append(tenant)
        most[tenant] = max(most[tenant], under_way.count(tenant))
        under_way.remove(tenant)
        return number

    graph = Graph("limited")
    for number in range(4):
        graph.add(work, "ab"[number % 2], number)

    assert [*env.run(graph).values()] == [0, 1, 2, 3]
    assert most == {"a": 1, "b": 1}
    assert json.loads(graph.to_json())["nodes"][0]["options"] == {"concurrency": {"amount": 1, "key": "tenant"}}


def test_a_workflow_is_a_node_that_runs_as_a_child(env: WorkflowEnv) -> None:
    numbers, total = numbers_step(), total_step()

    @workflow
    async def add_up(upto: int) -> Decimal:
        return await total(await numbers(upto))  # type: ignore[no-any-return]

    @workflow
    async def breaks() -> None:
        raise ValueError("broken")

    graph = Graph("with_children")
    graph.add(show_step(), graph.add(add_up, graph.add(numbers, 4)[3]))
    graph.add(show_step(), graph.add(breaks), name="beside", on_upstream_failure="skip")
    handle = env.start(graph)

    assert handle.result() == {
        "numbers": [1, 2, 3, 4],
        "add_up": Decimal(10),
        "show": "(Decimal('10'),)",
        "breaks": None,
        "beside": None,
    }
    assert len(events_of(handle, "child.started")) == 2
    with pytest.raises(WorkflowFailed, match="broken"):
        env.client.start("graph:x", {"nodes": [{"name": "a", "workflow": "breaks"}]}).result()
