"""Every way in which a step is tried again, or is not.

python examples/retries.py
"""

from __future__ import annotations

import time

from dramaturg import (
    FatalError,
    RetryableError,
    RetryPolicy,
    StepFailed,
    StepTimeout,
    current_step,
    run,
    step,
    workflow,
)


def say(text: str) -> None:
    """Print a line with the attempt that it is from."""
    context = current_step()
    assert context is not None
    print(f"  attempt {context.attempt} of {context.max_attempts}: {text}")


# A number is the attempts after the first. Without any option a step has eight attempts over about ten minutes.
@step(retries=RetryPolicy(max_attempts=4, backoff="exponential", initial="50ms", multiplier=2.0, jitter=False))
def ask_rates(currency: str) -> float:
    """Ask a service that is away at first."""
    context = current_step()
    assert context is not None
    if context.attempt < 3:
        say("the service is away")
        raise ConnectionError("the service is away")
    say("answered")
    return 1.08


# The other side says itself when to come again.
@step(retries=2)
def send_text(number: str) -> str:
    """Send a text message through a gateway that allows one each moment."""
    context = current_step()
    assert context is not None
    if context.attempt == 1:
        say("too many requests: come again in 100 ms")
        raise RetryableError("too many requests", retry_after="100ms")
    say("sent")
    return f"text to {number}"


# Some errors do not pass by waiting: by their class, or said where it is known.
@step(retries=RetryPolicy(max_attempts=5, initial="50ms", give_up_on=(PermissionError,)))
def open_vault(code: str) -> str:
    """Open a vault."""
    if code == "stolen":
        say("this card is stolen")
        raise FatalError("this card is stolen")
    say("wrong code")
    raise PermissionError("wrong code")


# A time-out is an error like any other: it is retried, and the attempt that ran out of time is really ended.
@step(timeout="200ms", retries=RetryPolicy(max_attempts=2, initial="50ms"))
def render(page: str) -> str:
    """Draw a page that never gets ready."""
    say("drawing")
    # The interrupt is an exception: it arrives as soon as Python code runs again.
    while True:
        time.sleep(0.01)


@workflow
async def morning() -> list[str]:
    """One after the other; what fails for good reaches the code as an exception, and the run goes on."""
    report = [f"rate {await ask_rates('EUR')}", await send_text("555-0100")]
    for code in ("0000", "stolen"):
        try:
            await open_vault(code)
        except StepFailed as failure:
            report.append(f"vault: {failure.message} ({failure.error_type}) after {failure.attempts} attempt(s)")
    try:
        await render("front page")
    except StepTimeout as timeout:
        report.append(f"render: out of time after {timeout.attempts} attempts")
    # The same step with other options, for this call only.
    try:
        await render.options(retries=0)("back page")
    except StepTimeout as timeout:
        report.append(f"render once: out of time after {timeout.attempts} attempt")
    return report


def main() -> None:
    """Run it here and now; what is tried again waits for real."""
    for line in run(morning):
        print(line)


if __name__ == "__main__":
    main()
