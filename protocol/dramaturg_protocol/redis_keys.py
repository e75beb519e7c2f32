"""The Redis keys that coordinators, workers and clients share, in one place.

Dramatiq's own keys keep their names: the list ``{namespace}:{queue}`` of message ids and the hash
``{namespace}:{queue}.msgs`` of their bodies. Ours begin with ``{namespace}:dramaturg:``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: The queue and the actor of a start message that a service without this library sends.
START_QUEUE: Final = "dramaturg.start"
START_ACTOR: Final = "start"

#: The field of an entry in a reports stream that holds a report's text.
REPORT_FIELD: Final = "r"

#: The field of an entry in the control stream that holds the ids of attempts, as JSON.
CONTROL_FIELD: Final = "c"


@dataclass(frozen=True, slots=True)
class RedisKeys:
    """The keys of one namespace."""

    namespace: str

    def queue(self, queue: str) -> str:
        """A list of message ids; Dramatiq's."""
        return f"{self.namespace}:{queue}"

    def bodies(self, queue: str) -> str:
        """A hash of message bodies by id; Dramatiq's."""
        return f"{self.namespace}:{queue}.msgs"

    def reports(self, partition: int) -> str:
        """The stream that the owner of a partition reads: reports of workers."""
        return f"{self.namespace}:dramaturg:reports:{partition}"

    @property
    def wakes(self) -> str:
        """A stream that every coordinator tails: there is something in the inbox."""
        return f"{self.namespace}:dramaturg:wakes"

    @property
    def epochs(self) -> str:
        """A hash: the highest epoch seen, by partition. A publisher with a lower one is refused."""
        return f"{self.namespace}:dramaturg:epochs"

    @property
    def control(self) -> str:
        """A stream that every worker process tails: attempts that nobody waits for any more."""
        return f"{self.namespace}:dramaturg:control"

    @property
    def incarnation(self) -> str:
        """When a coordinator first saw this Redis, in ms; missing means that it was emptied."""
        return f"{self.namespace}:dramaturg:incarnation"

    def deliveries(self, queue: str) -> str:
        """A hash: how often a message was fetched, by id."""
        return f"{self.namespace}:dramaturg:deliveries:{queue}"

    def news(self, run_id: str) -> str:
        """A channel: the run was closed, or a request to it was answered; the database says which."""
        return f"{self.namespace}:dramaturg:news:{run_id}"

    @property
    def garbage(self) -> str:
        """A list of what stood in a queue and is no message: queue, id and text."""
        return f"{self.namespace}:dramaturg:garbage"
