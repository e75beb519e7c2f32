"""Steps as Dramatiq actors: bound to a broker when a worker starts, never at import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import dramatiq
from dramatiq.broker import Broker

from dramaturg_protocol.definitions import DEFAULT_QUEUE, StepDefinition
from dramaturg_protocol.errors import ConfigurationError, StepCancelled, WorkerShutdown

# What other middleware of a broker must not do to a step: the coordinator decides on retries and time-outs, and its
# history holds results. `throws` keeps middleware that tells of errors, like Sentry's, from telling of what is none.
_NO_ERRORS: Final = (StepCancelled, WorkerShutdown)
_OPTIONS: Final[dict[str, Any]] = {
    "max_retries": 0,
    "retry_when": None,
    "on_retry_exhausted": None,
    "throws": _NO_ERRORS,
    "max_age": None,
    "time_limit": float("inf"),
    "on_success": None,
    "on_failure": None,
    "pipe_ignore": None,
    "store_results": False,
}


class StepActor(dramatiq.Actor[..., None]):
    """The Dramatiq actor of a step; what it does comes from the task, whatever arguments it is shown with."""

    @property
    def step_priority(self) -> int:
        """The priority of the step's messages."""
        return self.priority


class SharedActor(StepActor):
    """An actor of the application's that is a step too: each message is worked on as what it is.

    It stands in for the actor on its broker while a worker serves steps; the application's own object stays as it is.

    Parameters:
      step_priority: of the step's messages; the actor's own may differ.
      is_step: whether the calling thread is processing a step.
    """

    def __init__(
        self,
        actor: dramatiq.Actor[..., Any],
        step_priority: int,
        run: Callable[..., None],
        is_step: Callable[[], bool],
    ) -> None:
        # Not Actor.__init__, which declares: the name is taken, by the very actor.
        vars(self).update(vars(actor))
        self.actor = actor
        self._step_priority = step_priority
        self.options = _OptionsOfBoth(actor.options, is_step)
        self._run = run
        self._is_step = is_step

    @property
    def step_priority(self) -> int:
        """The priority of the step's messages."""
        return self._step_priority

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the message at hand is about."""
        work: Callable[..., Any] = self._run if self._is_step() else self.actor
        return work(*args, **kwargs)


class _OptionsOfBoth(dict[str, Any]):
    """An actor's options, as middleware asks for them: for a step those of a step."""

    def __init__(self, options: Mapping[str, Any], is_step: Callable[[], bool]) -> None:
        super().__init__(options)
        self._is_step = is_step

    def get(self, key: str, default: Any = None) -> Any:
        """The option that holds for the message at hand."""
        if key not in _OPTIONS or not self._is_step():
            return super().get(key, default)
        own = super().get(key) if key == "throws" else None
        # A tuple of tuples is one for isinstance.
        return _OPTIONS[key] if own is None else (own, *_NO_ERRORS)


class Declaring:
    """Declares the steps of a worker on its broker.

    Parameters:
      run: what an actor does: run the attempt whose message the calling thread is processing.
      is_step: whether the calling thread is processing a step.
    """

    def __init__(self, broker: Broker, run: Callable[..., None], is_step: Callable[[], bool]) -> None:
        self._broker = broker
        self._run = run
        self._is_step = is_step

    def declare_all(self, steps: Mapping[str, StepDefinition]) -> None:
        """Declare an actor for each step that has code here and no actor of ours yet.

        Raises:
          ConfigurationError: another actor of the broker has the name of a step.
        """
        for definition in list(steps.values()):
            if definition.fn is not None:
                self.declare(definition)

    def declare(self, definition: StepDefinition) -> None:
        """Declare the actor of one step, unless it is declared.

        Raises:
          ConfigurationError: another actor of the broker has its name.
        """
        known = actor_of(self._broker, definition.name)
        if isinstance(known, StepActor):
            return
        if known is not None:
            self._share(known, definition)
            return
        StepActor(
            self._run,
            broker=self._broker,
            actor_name=definition.name,
            queue_name=definition.queue or DEFAULT_QUEUE,
            priority=definition.options.get("priority", 0),
            options=dict(_OPTIONS),
        )

    def forget_all(self) -> None:
        """Take the actors of steps off the broker, and leave it the application's own."""
        actors = actors_of(self._broker)
        for name, actor in list(actors.items()):
            if isinstance(actor, SharedActor):
                actors[name] = actor.actor
            elif isinstance(actor, StepActor):
                del actors[name]

    def _share(self, known: dramatiq.Actor[..., Any], definition: StepDefinition) -> None:
        if known is not definition.actor:
            raise ConfigurationError(
                f"step {definition.name!r} and a Dramatiq actor of broker {self._broker!r} have the same name: "
                f'give one of them another with name="…", or make the actor the step: step({definition.name})'
            )
        priority = definition.options.get("priority", known.priority)
        actors_of(self._broker)[known.actor_name] = SharedActor(known, priority, self._run, self._is_step)
        self._broker.declare_queue(definition.queue or DEFAULT_QUEUE)


def actor_of(broker: Broker, name: str) -> dramatiq.Actor[..., Any] | None:
    """The actor that has a name on a broker, of ours or not."""
    return actors_of(broker).get(name)


def actors_of(broker: Broker) -> dict[str, dramatiq.Actor[..., Any]]:
    """The broker's own table of its actors, by name."""
    return broker.actors  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
