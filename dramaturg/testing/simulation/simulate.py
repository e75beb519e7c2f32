"""`simulate`: does a workflow end the same under crashes, losses and duplicates?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dramaturg.embedded import rules_of
from dramaturg.orders import Target, target_of
from dramaturg.steps import StepFunction
from dramaturg.testing.simulation.clients import Call
from dramaturg.testing.simulation.experiments import Experiment, Finding, ending_of, reduce, try_seed, world_of
from dramaturg.testing.simulation.processes import NAMESPACE
from dramaturg.testing.simulation.world import Violation
from dramaturg.workflows import BoundWorkflow, Workflow
from dramaturg_protocol.config import Settings
from dramaturg_protocol.ordering import start_order

_RUN_ID = "simulated-run"


def simulate(
    wf: Workflow[..., Any] | BoundWorkflow[..., Any] | StepFunction[..., Any],
    /,
    *args: Any,
    seeds: Iterable[int] = range(200),
    **kwargs: Any,
) -> None:
    """Run a workflow under crashes, losses and duplicates, and compare its end with that of an undisturbed run.

    Coordinators, database, broker and workers are simulated in this thread, on a clock of their own, so that hundreds
    of runs take seconds. Each seed gives an order of things and faults: killed and frozen coordinators, commits whose
    answer is lost, messages that are doubled, lost, late or not in order, killed workers, an emptied broker. After each
    operation the engine's invariants are asked. The functions of steps really run, here, at least once an attempt; their
    time-outs do not pass. Waits take no time.

    Parameters:
      wf: the workflow, or a step.
      args, kwargs: its arguments.
      seeds: which worlds to try; each is the same whenever it is tried.

    Raises:
      AssertionError: a seed ends differently, or an invariant does not hold. It says which seed, what went wrong there in
        order, reduced to what it takes, and the difference.
      PayloadError: an argument cannot be encoded.
      TypeError: the arguments do not fit.
    """
    settings = Settings()
    rules = rules_of(settings)
    target = target_of(wf)
    call = Call(0.0, order=_order(target, args, kwargs, int(settings.max_payload)))
    calm = world_of(Experiment([call], {}), rules, 0, is_calm=True)
    try:
        record = calm.run()[_RUN_ID]
    except Violation as violation:
        raise AssertionError(f"{target.name} does not end well even undisturbed: {violation}") from None
    experiment = Experiment([call], {_RUN_ID: [ending_of(record)]})
    for seed in seeds:
        finding = try_seed(experiment, rules, seed)
        if finding is not None:
            raise AssertionError(_report(target.name, reduce(experiment, rules, finding)))


def _order(target: Target, args: tuple[Any, ...], kwargs: dict[str, Any], max_payload: int) -> Any:
    return start_order(
        target.name,
        target.schema.encode_call(args, kwargs, limit=max_payload),
        {name: value for name, value in target.options.items() if name in ("version", "tags")},
        namespace=NAMESPACE,
        schema=target.schema,
        message_id="simulated-start",
        run_id=_RUN_ID,
    )


def _report(name: str, finding: Finding) -> str:
    return (
        f"{name} does not end under faults as it does undisturbed\n  {finding}\n"
        f"  to see it again: simulate({name}, …, seeds=[{finding.seed}])"
    )
