"""Histories that are kept and replayed against the code of now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dramaturg import Graph, NonDeterminismError, WorkflowFailed, info, patched, sleep, step, uuid4, workflow
from dramaturg.histories import export_of
from dramaturg.testing import WorkflowEnv, replay
from dramaturg_protocol.definitions import registry
from tests.behaviour.histories import events_of


def price_step() -> Any:
    @step
    def price(item: str) -> int:
        return len(item)

    return price


def recorded(env: WorkflowEnv) -> dict[str, Any]:
    """What `export` gives of a run of an old version of `shop`."""
    with registry.isolated():
        price = price_step()

        @workflow
        async def shop(item: str) -> int:
            await sleep("1d")
            return await price(item) + await price(item)  # type: ignore[no-any-return]

        handle = env.start(shop, "lamp")
        handle.result()
        return export_of(env.client, handle.run_id)


def test_an_exported_history_fits_the_code_that_made_it_and_no_other(env: WorkflowEnv, tmp_path: Path) -> None:
    document = recorded(env)
    file = tmp_path / "shop.json"
    file.write_text(json.dumps(document))
    price = price_step()

    @workflow
    async def shop(item: str) -> int:
        await sleep("2d")
        first, second = await price(item), await price(item)
        return first + second  # type: ignore[no-any-return]

    @workflow(name="shop", version=2)
    async def other(item: str) -> int:
        return await price(item)  # type: ignore[no-any-return]

    for given in (document, json.dumps(document), file):
        replay(shop, given)
    with pytest.raises(NonDeterminismError) as caught:
        replay(other, file)
    message = str(caught.value)
    assert "event 2 recorded «timer #1" in message
    assert "the code asks for «step price #1" in message
    assert f"test_replayed_histories.py:{other.fn.__code__.co_firstlineno + 2}" in message


def test_the_events_of_a_handle_are_a_history(env: WorkflowEnv) -> None:
    price = price_step()

    @workflow
    async def flow() -> int:
        return await price("lamp")  # type: ignore[no-any-return]

    handle = env.start(flow)
    handle.result()

    replay(flow, handle.events())


def test_a_failed_a_cancelled_and_an_open_run_are_replayed_too(env: WorkflowEnv) -> None:
    price = price_step()

    @workflow
    async def flow(way: str) -> None:
        await price(way)
        if way == "fail":
            raise ValueError(way)
        await sleep("1d")

    failed, cancelled, terminated, open_ = (env.start(flow, way) for way in ("fail", "cancel", "terminate", "open"))
    with pytest.raises(WorkflowFailed):
        failed.result()
    env.run_until_idle()
    cancelled.cancel()
    terminated.terminate()

    for handle in (failed, cancelled, terminated, open_):
        replay(flow, export_of(env.client, handle.run_id))


def test_a_history_in_which_the_code_was_told_late_of_a_reset_still_fits(env: WorkflowEnv) -> None:
    price = price_step()

    @workflow
    async def flow() -> None:
        await price("lamp")
        await price(str(uuid4()))

    handle = env.start(flow)
    handle.result()
    (kept, _) = [event.number for event in handle.events() if event.type == "step.completed"]
    handle.reset(to_event=kept)
    handle.result()
    document = export_of(env.client, handle.run_id)
    replay(flow, document)

    events = document["events"]
    (_, before, after) = [event for event in events if event["type"] == "step.scheduled"]
    assert before["data"]["input"] != after["data"]["input"]
    (reset,) = [event for event in events if event["type"] == "run.reset"]
    after["data"]["input"] = before["data"]["input"]
    with pytest.raises(NonDeterminismError):
        replay(flow, document)
    del reset["data"]["early"]
    replay(flow, document)


def test_a_graph_is_replayed_too(env: WorkflowEnv) -> None:
    graph = Graph("replayed_graph")
    graph.map(price_step(), ["a", "bc"])
    handle = env.start(graph)
    handle.result()

    replay(graph, handle.events())


def test_what_is_no_history_of_the_workflow_is_refused(env: WorkflowEnv) -> None:
    document = recorded(env)

    @workflow
    async def elsewhere() -> None: ...

    @workflow
    async def shop(item: str) -> None: ...

    with pytest.raises(ValueError, match="of workflow 'shop', not of"):
        replay(elsewhere, document)
    with pytest.raises(ValueError, match="no history that was exported"):
        replay(shop, {"events": []})
    with pytest.raises(ValueError, match=r"begins with run\.started"):
        replay(shop, [])
    with pytest.raises(ValueError, match="event 2 is missing"):
        replay(shop, {**document, "events": [document["events"][0], document["events"][2]]})
    with pytest.raises(ValueError, match="event 1 is none of this version's"):
        replay(shop, {**document, "events": [{**document["events"][0], "type": "run.dreamt"}]})


@pytest.mark.selection
def test_several_versions_serve_their_own_runs(env: WorkflowEnv) -> None:
    @workflow(name="versioned")
    async def first() -> int:
        await sleep("1d")
        return info().version

    old = env.start(first)
    env.run_until_idle()

    @workflow(name="versioned", version=2)
    async def second() -> tuple[int, bool]:
        gate = patched("gate")
        await sleep("1d")
        return info().version, gate

    env.crash()
    new, pinned = env.client.start("versioned"), env.client.start("versioned", version=1)

    assert (old.result(), new.result(), pinned.result()) == (1, (2, True), 1)
    started = events_of(new, "run.started")[0]
    assert started["version"] == 2
    assert started["fingerprint"] != events_of(pinned, "run.started")[0]["fingerprint"]
    assert started["python"].startswith("3.")
