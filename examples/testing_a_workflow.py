"""Tests of a workflow: months in milliseconds, mocked steps, crashes, and code that a replay could not repeat.

Under pytest the fixture workflow_env is there by itself, and the file's tests run as they stand:

pytest examples/testing_a_workflow.py
python examples/testing_a_workflow.py
"""

from __future__ import annotations

from datetime import timedelta

from dramaturg import StepFailed, current_step, now, sleep, step, workflow
from dramaturg.testing import WorkflowEnv, replay, simulate

# ---- What is tested; it would be imported from the application. ----


@step(retries=3)
def charge(customer: str, cents: int) -> str:
    """Ask a payment provider, through a client that a lifespan gives."""
    context = current_step()
    assert context is not None
    return str(context.state["payments"].charge(customer, cents, key=context.idempotency_key))


@step
def remind(customer: str, days: int) -> str:
    """Write a mail."""
    return f"{customer}: {days} days left"


@workflow
async def trial(customer: str) -> str:
    """A month for free, a reminder in the last week, then it costs something."""
    await sleep("23d")
    await remind(customer, 7)
    await sleep("7d")
    try:
        return await charge(customer, 990)
    except StepFailed as failure:
        return f"not paid: {failure.message}"


# ---- The tests. ----


def test_a_trial_ends_with_a_charge_after_thirty_days(workflow_env: WorkflowEnv) -> None:
    mock = workflow_env.mock(charge, return_value="receipt 1")
    before = workflow_env.now

    assert workflow_env.run(trial, "ada") == "receipt 1"

    mock.assert_called_once_with("ada", cents=990)
    assert workflow_env.now - before == timedelta(days=30)


def test_the_reminder_comes_a_week_before(workflow_env: WorkflowEnv) -> None:
    mock = workflow_env.mock(remind, return_value="mailed")
    workflow_env.mock(charge, return_value="receipt 1")
    handle = workflow_env.start(trial, "ada")

    workflow_env.advance("22d")
    mock.assert_not_called()
    workflow_env.advance("1d")
    mock.assert_called_once_with("ada", 7)

    assert handle.describe().status == "WAITING"


def test_a_provider_that_is_away_is_asked_again(workflow_env: WorkflowEnv) -> None:
    mock = workflow_env.mock(charge, side_effect=[ConnectionError("away"), ConnectionError("away"), "receipt 1"])

    assert workflow_env.run(trial, "ada") == "receipt 1"
    assert mock.call_count == 3


def test_who_cannot_pay_is_told(workflow_env: WorkflowEnv) -> None:
    workflow_env.mock(charge, side_effect=ValueError("no money"))

    assert workflow_env.run(trial, "ada") == "not paid: no money"


def test_the_step_itself_passes_its_key_on(workflow_env: WorkflowEnv) -> None:
    class Payments:
        """The provider's client, as a fake."""

        def __init__(self) -> None:
            self.keys: set[str] = set()

        def charge(self, customer: str, cents: int, key: str) -> str:
            self.keys.add(key)
            return f"{cents} from {customer}"

    payments = Payments()
    workflow_env.state(payments=payments)

    assert workflow_env.run(trial, "ada") == "990 from ada"
    assert len(payments.keys) == 1


def test_a_crash_in_any_week_changes_nothing(workflow_env: WorkflowEnv) -> None:
    reminded = workflow_env.mock(remind, return_value="mailed")
    workflow_env.mock(charge, return_value="receipt 1")
    handle = workflow_env.start(trial, "ada")
    for _ in range(5):
        workflow_env.advance("7d")
        workflow_env.crash()

    assert handle.result() == "receipt 1"
    assert reminded.call_count == 1


def test_a_recorded_run_still_fits_the_code(workflow_env: WorkflowEnv) -> None:
    workflow_env.mock(charge, return_value="receipt 1")
    handle = workflow_env.start(trial, "ada")
    handle.result()

    # In a real project: replay(trial, Path("histories/trial.json")), which `dramaturg export` wrote in production.
    replay(trial, handle.events())


def test_it_ends_the_same_whatever_breaks() -> None:
    @step
    def noted(text: str) -> str:
        return text

    @workflow
    async def twice() -> tuple[str, str]:
        first = await noted("a")
        await sleep("1d")
        return first, await noted(f"b of {now():%Y}")

    # Coordinators die, commits lose their answers, messages come twice or never: 30 worlds, each repeatable by its seed.
    simulate(twice, seeds=range(30))


def main() -> None:
    """Without pytest: each test with an engine of its own that rebuilds every run after every turn."""
    for name, test in list(globals().items()):
        if not name.startswith("test_"):
            continue
        if test.__code__.co_argcount:
            with WorkflowEnv(replay_every_turn=True) as env:
                test(env)
        else:
            test()
        print(f"passed: {name.removeprefix('test_').replace('_', ' ')}")


if __name__ == "__main__":
    main()
