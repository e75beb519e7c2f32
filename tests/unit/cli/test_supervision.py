from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from dramaturg.supervision import Death, Hang, Supervised, deaths_of
from dramaturg_coordinator.run_note import PLACES, SIZE, Noted, RunNote
from dramaturg_protocol.faults import Unreachable
from dramaturg_store.database import Database

RUN = Noted(1, "run")


def test_the_same_note_over_the_limit_is_a_hang() -> None:
    hang = Hang(2.0)

    looks = [hang.is_over(RUN, now, is_stopped=False) for now in (10.0, 10.5, 11.0, 11.5, 12.0, 12.5)]

    assert looks == [False, False, False, False, True, False]


def test_work_that_follows_work_is_no_hang() -> None:
    hang = Hang(2.0)

    assert not any(hang.is_over(Noted(serial, "run"), serial * 0.5, is_stopped=False) for serial in range(100))


def test_no_work_is_no_hang() -> None:
    hang = Hang(2.0)

    assert not any(hang.is_over(Noted(1, ""), now * 0.5, is_stopped=False) for now in range(100))


def test_time_in_which_the_process_was_stopped_does_not_count() -> None:
    hang = Hang(2.0)

    assert not any(hang.is_over(RUN, now * 0.5, is_stopped=True) for now in range(100))


def test_time_in_which_nobody_looked_does_not_count() -> None:
    hang = Hang(2.0)
    hang.is_over(RUN, 1.0, is_stopped=False)

    assert not hang.is_over(RUN, 1000.0, is_stopped=False)


def test_a_note_is_read_by_whoever_shares_the_memory() -> None:
    memory = mmap.mmap(-1, SIZE)
    note, reader = RunNote(memory), RunNote(memory)

    note.begin("0190-run")
    assert reader.read() == Noted(1, "0190-run")
    note.end()
    assert reader.read() == Noted(1, "")
    note.begin("x" * 1000)
    assert reader.read().run_id.startswith("x" * 200)


def test_each_local_step_that_is_under_way_is_noted_until_it_ends() -> None:
    memory = mmap.mmap(-1, SIZE)
    note, reader = RunNote(memory), RunNote(memory)
    note.begin("advanced")
    first, second, again = (note.begin_local(run_id) for run_id in ("first", "second", "first"))

    assert sorted(reader.read_local()) == ["first", "second"]
    note.end_local(first)
    note.end_local(second)
    assert reader.read_local() == ["first"]
    note.end_local(again)
    assert reader.read_local() == []
    assert reader.read().run_id == "advanced"


def test_more_local_steps_than_there_are_places_are_not_noted_and_do_no_harm() -> None:
    memory = mmap.mmap(-1, SIZE)
    note = RunNote(memory)
    places = [note.begin_local(f"{number:062}" * 2) for number in range(PLACES + 1)]

    assert len(note.read_local()) == PLACES
    for place in places:
        note.end_local(place)
    assert note.begin_local("another") is not None
    assert note.read_local() == ["another"]
    note.clear()
    assert note.read_local() == []


def test_a_death_is_told_of_the_run_that_was_advanced_and_of_those_with_local_steps_under_way() -> None:
    note = RunNote(mmap.mmap(-1, SIZE))
    assert deaths_of(note, "was killed by SIGKILL", hung_seconds=None) == []
    note.begin("advanced")
    for run_id in ("advanced", "local", "local"):
        note.begin_local(run_id)

    deaths = deaths_of(note, "was killed by SIGKILL", hung_seconds=None)

    assert [(death.run_id, death.is_certain) for death in deaths] == [("advanced", False), ("local", False)]
    assert (
        deaths[1].reason == "a coordinator's process was killed by SIGKILL while a local step of this run was under way"
    )


def test_a_hang_is_told_of_the_run_that_was_advanced_alone() -> None:
    note = RunNote(mmap.mmap(-1, SIZE))
    note.begin("advanced")
    note.begin_local("local")

    assert [(death.run_id, death.is_certain) for death in deaths_of(note, "was killed", hung_seconds=15.0)] == [
        ("advanced", True)
    ]


class Counts:
    def __init__(self) -> None:
        self.counted: list[str] = []
        self.is_away = True

    def count(self, run_id: str, reason: str, *, is_certain: bool) -> None:
        if self.is_away and self.counted:
            self.is_away = False
            raise Unreachable("away")
        self.counted.append(run_id)


def test_a_death_is_counted_once_however_often_it_is_tried() -> None:
    supervised = Supervised(RunNote(mmap.mmap(-1, SIZE)), [Death("a", "", False), Death("b", "", True)], lambda: None)
    counts = Counts()

    with pytest.raises(Unreachable):
        supervised.count_deaths(counts)
    supervised.count_deaths(counts)

    assert counts.counted == ["a", "b"]


def test_two_deaths_or_a_hang_are_deadly_for_one_code(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path}/deaths.db") as database:
        here, elsewhere = database.deaths("here"), database.deaths("elsewhere")

        here.count("unlucky", "was killed by SIGKILL", is_certain=False)
        here.count("crashes", "was killed by SIGKILL", is_certain=False)
        here.count("crashes", "was killed by SIGSEGV", is_certain=False)
        here.count("hangs", "hung", is_certain=True)

        assert here.deadly() == {"crashes": "was killed by SIGSEGV", "hangs": "hung"}
        assert elsewhere.deadly() == {}
        assert database.peers("here").deadly() == here.deadly()
