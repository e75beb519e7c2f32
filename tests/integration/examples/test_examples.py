"""Each example runs as a user starts it: in a process and a folder of its own, without any service."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

EXAMPLES = Path(__file__).parents[3] / "examples"


def run(name: str, *arguments: str, cwd: Path) -> list[str]:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=100)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()


def test_every_example_is_run_here_and_told_of_in_the_readme() -> None:
    here = set(re.findall(r'run\(\s*"(\w+\.py)"', Path(__file__).read_text()))
    told = set(re.findall(r"\((\w+\.py)\)", (EXAMPLES / "README.md").read_text()))

    assert here == told == {path.name for path in EXAMPLES.glob("*.py")}


def test_checkout_retries_what_passes_and_gives_up_what_does_not(tmp_path: Path) -> None:
    printed = run("checkout.py", cwd=tmp_path)

    outcomes = [line.strip() for line in printed if not line.startswith("  to the customer")]
    assert outcomes == [
        "A-1, good",
        "paid",
        "A-2, busy bank",
        "paid",
        "A-3, slow bank",
        "paid",
        "A-4, stolen",
        "given up after 1 attempt(s)",
    ]
    assert sum("thank you, your receipt has key" in line for line in printed) == 3


def test_a_saga_undoes_the_orders_that_do_not_arrive(tmp_path: Path) -> None:
    printed = [line.strip() for line in run("order_saga.py", cwd=tmp_path)]

    refused = printed.index("A-2")
    assert "parcel to Ada" in printed[:refused]
    for order, ended in [("A-2", "nobody delivers there"), ("A-3", "cancelled")]:
        undone = [line for line in printed if line.startswith(f"{order}: ")][2:]
        assert undone == [f"{order}: goods put back on shelf 7", f"{order}: receipt of {order} refunded, 4200 cents"]
        assert any(ended in line for line in printed)


def test_word_count_adds_up_what_its_steps_counted(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/one.txt").write_text("curtain stage stage lamp")
    (tmp_path / "texts/two.md").write_text("stage curtain prompt")
    (tmp_path / "texts/three.pdf").write_text("stage stage stage")

    printed = run("word_count.py", "texts", cwd=tmp_path)

    assert [line.split() for line in printed] == [["3", "stage"], ["2", "curtain"], ["1", "lamp"], ["1", "prompt"]]


def test_an_order_ships_its_parcels_as_runs_of_their_own(tmp_path: Path) -> None:
    assert run("child_workflows.py", cwd=tmp_path) == [
        "the book delivered",
        "the vase: FAILED, it fell off the van",
        "the lamp delivered",
        "Ada says thank you",
        "order: COMPLETED",
        "  ask_later: COMPLETED",
        "  ship: COMPLETED",
        "  ship: COMPLETED",
        "  ship: FAILED",
    ]


def test_a_subscription_is_billed_for_years(tmp_path: Path) -> None:
    assert run("subscription_billing.py", cwd=tmp_path) == [
        "after 900 days: WAITING, 2 years in the books",
        "Ada leaves after 31 months",
        "the last run has 33 events",
    ]


def test_lines_are_counted_in_chunks_and_added_up(tmp_path: Path) -> None:
    printed = run("map_reduce.py", "5000", cwd=tmp_path)

    assert printed[-1].startswith("5000 lines in ")
    assert sum(int(line.split()[0]) for line in printed[:-1]) == 5000


def test_an_import_shows_its_progress_and_reports_bad_rows(tmp_path: Path) -> None:
    printed = run("batch_import.py", "1200", cwd=tmp_path)

    assert printed[-1] == "2 row(s) were left out: 'nobody' is no address; 'a@b@c' is no address"
    assert any("1200 of 1200, 2 bad" in line for line in printed)


def test_many_starts_of_one_order_ship_it_once_even_the_next_time(tmp_path: Path) -> None:
    first = run("idempotent_starts.py", cwd=tmp_path)
    again = run("idempotent_starts.py", cwd=tmp_path)

    assert first.count("shipping 2 parcel(s) of A-1") == 1
    assert "1 run for 4 starts" in first
    assert first[-1] == "other arguments under the same key: IdempotencyMismatch"
    assert again == [line for line in first if not line.startswith("shipping")]


def test_an_expense_is_approved_rejected_or_left_lying(tmp_path: Path) -> None:
    printed = [line.strip() for line in run("approval.py", cwd=tmp_path)]

    assert "waits for ada or grace: Shall we pay bob 2500.00 for a trip to the conference?" in printed
    assert "bob may not approve his own expenses" in printed
    assert "grace came too late: ada had decided" in printed
    ends = ["12.50 paid to bob", "2500.00 paid to bob", "rejected by grace", "expired"]
    assert [line for line in printed if line in ends] == ends


def test_a_contract_is_signed_level_by_level_by_whoever_answers(tmp_path: Path) -> None:
    printed = [line.strip() for line in run("multi_level_approval.py", cwd=tmp_path)]

    assert "the order of paper is in force, signed by tom" in printed
    assert "to dirk: please look at the lease of a car for the department" in printed
    assert "the lease of a car was rejected by dirk (department): we buy" in printed
    assert "the merger is in force, signed by tom, dirk, bert, lena" in printed


def test_a_callback_from_outside_is_waited_for(tmp_path: Path) -> None:
    printed = [line.strip() for line in run("hook_wait.py", cwd=tmp_path)]

    assert "A-1 shipped, payment P-1" in printed
    assert "A-2: the card was refused" in printed
    assert "A-3: the provider never answered" in printed
    assert printed.count("provider: they know already") == 2
    assert sum("Field required" in line for line in printed) == 2


def test_a_month_of_onboarding_passes_in_a_moment(tmp_path: Path) -> None:
    printed = [line.strip() for line in run("onboarding.py", cwd=tmp_path)]

    assert "account of ada@example.com: active since 29 January" in printed
    assert "waits for approval company check since 7d, times out in 7d; a timer, due in 2d" in printed
    assert "account of office@example.com: quiet" in printed
    assert printed.count("to sales: nobody@example.com still waits for your check") == 4
    assert printed[-2:] == ["not taken on", "it is 19 March 2030 there"]


def test_retries_shows_each_way(tmp_path: Path) -> None:
    printed = run("retries.py", cwd=tmp_path)

    assert printed[-6:] == [
        "rate 1.08",
        "text to 555-0100",
        "vault: wrong code (PermissionError) after 1 attempt(s)",
        "vault: this card is stolen (dramaturg_protocol.errors.FatalError) after 1 attempt(s)",
        "render: out of time after 2 attempts",
        "render once: out of time after 1 attempt",
    ]
    assert "  attempt 3 of 4: answered" in printed


def test_parallel_shows_what_asyncio_has(tmp_path: Path) -> None:
    printed = run("parallel.py", cwd=tmp_path)

    assert printed[:2] == ["best of 3: south at 1190", "1 answered, failed: there is no shop 'nowhere'"]
    assert printed[2].endswith("2 were asked")
    assert printed[3:5] == ["the tax office was too slow", "tax 226 on 1190"]


def test_the_ai_pipeline_pays_for_each_answer_once(tmp_path: Path) -> None:
    printed = run("ai_pipeline.py", cwd=tmp_path)

    assert "  round 2: 100 points, 0 remarks" in printed
    assert printed[-2:] == ["a title about theatre", "3 sections after 2 rounds, 182 tokens paid for once"]


def test_a_document_that_cannot_be_read_waits_for_a_person(tmp_path: Path) -> None:
    assert run("document_processing.py", cwd=tmp_path) == [
        "a.txt -> 2026-031: 1190.00 due 01.07.2026",
        "b.txt -> 2026-032: 59.90 due 15.07.2026",
        "c.txt -> c.txt: a letter, filed",
        "d.txt -> PAUSED: somebody has to read it",
        "d.txt -> 2026-033: 75.00 due 01.08.2026",
    ]


def test_the_etl_loads_what_can_be_loaded(tmp_path: Path) -> None:
    first = run("etl.py", cwd=tmp_path)
    again = run("etl.py", cwd=tmp_path)

    assert first[0] == "flowchart TD"
    assert first[-3:] == [
        "load: 3",
        "warn: 1 order(s) of customers that nobody knows",
        "clean_up: incoming may be archived",
    ]
    assert again == first


def test_a_graph_arrives_as_json(tmp_path: Path) -> None:
    printed = run("graph_from_json.py", cwd=tmp_path)

    assert "run graph:thumbnails: COMPLETED" in printed
    assert "refused: graph 'thumbnails': nodes wait for each other: small → album → mail → found → small" in printed
    assert printed[-1] == "sent «my holiday: holiday/1.jpg@64, holiday/2.jpg@64, holiday/3.jpg@64»"


def test_a_trip_gives_back_what_it_cannot_use(tmp_path: Path) -> None:
    printed = [line.strip() for line in run("trip_booking.py", cwd=tmp_path)]

    assert "Ada travels to Rome" in printed
    assert "without a car: there are no roads in Venice" in printed
    assert "ticket to Atlantis cancelled for Ada" in printed
    paris = printed[printed.index("Paris") :]
    assert paris.index("90000 cents back to Ada") < paris.index("room in Paris cancelled")
    assert "ticket to Paris cancelled for Ada" in paris


def test_actors_of_an_application_are_steps_and_stay_actors(tmp_path: Path) -> None:
    assert run("existing_dramatiq_actors.py", cwd=tmp_path) == [
        "1: invited",
        "2: invited",
        "404: NoSuchCustomerError after 1 attempt(s)",
        "2 mails by the workflow",
        "ada@example.com: a plain message",
    ]


def test_runs_of_each_version_go_on_over_deploys(tmp_path: Path) -> None:
    printed = run("versioned_deploy.py", cwd=tmp_path)

    assert printed[:2] == [
        "careless: 1 open run(s) replayed, 1 would be BLOCKED",
        "gated: 1 open run(s) replayed, 0 would be BLOCKED",
    ]
    assert printed[2].endswith("0 would be BLOCKED")
    assert printed[3:] == [
        "old: version 1: old reserved, old shipped",
        "gated: version 1: gated reserved, gated checked, gated shipped",
        "new: version 2: version 2, new checked, new shipped",
        "pinned: version 1: pinned reserved, pinned checked, pinned shipped",
    ]


def test_the_tests_of_a_workflow_pass(tmp_path: Path) -> None:
    printed = run("testing_a_workflow.py", cwd=tmp_path)

    assert len(printed) == 8
    assert all(line.startswith("passed: ") for line in printed)


def test_a_backup_runs_each_night_and_reports(tmp_path: Path) -> None:
    printed = run("nightly_backup.py", cwd=tmp_path)

    assert printed[:7] == [f"2030-01-0{night}: 23000 rows of 3 tables" for night in range(1, 8)]
    assert printed[7] == "7 backups, the next one Tuesday 08 January 2030 02:30 CET"


def test_an_hourly_check_makes_up_for_an_outage_as_far_as_its_window_reaches(tmp_path: Path) -> None:
    printed = run("hourly_check.py", cwd=tmp_path)

    outage = printed.index("nobody is there for ten hours")
    assert printed[:outage] == ["checked 00:00", "checked 01:00", "checked 02:00"]
    assert printed[outage + 1 :] == [
        "checked 10:00",
        "checked 11:00",
        "checked 12:00",
        "fired 6, missed 7",
        "backfilled 08:00, 09:00",
        "checked 08:00",
        "checked 09:00",
    ]


def test_a_clean_up_that_is_put_off_is_cancelled_before_it_begins(tmp_path: Path) -> None:
    assert run("delayed_cleanup.py", cwd=tmp_path) == [
        "acme: PENDING, waits for its start, in 20d",
        "the files of blue are deleted",
        "the files of acme stay",
    ]


def test_customers_are_billed_at_nine_on_their_own_clock(tmp_path: Path) -> None:
    printed = run("monthly_billing.py", cwd=tmp_path)

    assert [line.split("  ")[0] for line in printed[:4]] == [
        "28 Feb 09:00 EST",
        "31 Mar 09:00 EDT",
        "28 Feb 09:00 CET",
        "31 Mar 09:00 CEST",
    ]
    assert len(printed) == 6


def test_a_cart_is_told_and_asked_while_it_is_under_way(tmp_path: Path) -> None:
    printed = [line.strip() for line in run("signals_cart.py", cwd=tmp_path)]

    assert "total: 620, shown: {'items': ['paper', 'pen']}" in printed
    assert "with a voucher: 600" in printed
    assert "update 'redeem' is refused: ValueError: a voucher of 5000 cents for a cart of 600" in printed
    assert "receipt for ada: 600 cents" in printed
    assert printed[-1] == "bob left ['ink'] behind"


def test_the_crawler_is_polite(tmp_path: Path) -> None:
    printed = run("rate_limited_crawler.py", cwd=tmp_path)

    fetched = [line.split()[0] for line in printed[:-1]]
    assert printed[-1] == "7 pages"
    assert len(fetched) == len(set(fetched)) == 7
    assert {int(match) for match in re.findall(r"\((\d+) of", "\n".join(printed))} <= {1, 2}
