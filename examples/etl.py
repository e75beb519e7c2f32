"""An ETL as a graph: extract from several files at once, clean, join, load; the shape says what waits for what.

python examples/etl.py
"""

from __future__ import annotations

import csv
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from dramaturg import Graph, run, step

FILES = {
    "customers.csv": "id,name\n1,Ada\n2,Grace\n3,Edsger\n",
    "orders_may.csv": "id,customer,cents\n10,1,1250\n11,2,990\n12,1,\n",
    "orders_june.csv": "id,customer,cents\n13,3,4000\n14,9,100\n",
}
WAREHOUSE = Path("warehouse.db")


@dataclass
class Totals:
    """What was loaded, and what was left out."""

    rows: list[tuple[str, int]]
    rejected: int


@step(retries=3)
def extract(path: str) -> list[dict[str, str]]:
    """Read one file."""
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


@step
def list_order_files(folder: str) -> list[str]:
    """Which files there are is known only when it runs."""
    return sorted(str(path) for path in Path(folder).glob("orders_*.csv"))


@step
def clean(orders: list[dict[str, str]]) -> list[dict[str, str]]:
    """Leave out what has no amount."""
    return [order for order in orders if order["cents"]]


@step
def total(customers: list[dict[str, str]], months: list[list[dict[str, str]]]) -> Totals:
    """Join orders with their customers, and add up."""
    names = {customer["id"]: customer["name"] for customer in customers}
    sums: dict[str, int] = {}
    rejected = 0
    for order in (order for month in months for order in month):
        name = names.get(order["customer"])
        if name is None:
            rejected += 1
        else:
            sums[name] = sums.get(name, 0) + int(order["cents"])
    return Totals(rows=sorted(sums.items()), rejected=rejected)


# A step may run twice, so it writes such that twice is as good as once.
@step(retries=5)
def load(rows: list[tuple[str, int]]) -> int:
    """Write to the warehouse."""
    with sqlite3.connect(WAREHOUSE) as connection:
        connection.execute("create table if not exists totals (name text primary key, cents integer)")
        connection.executemany("insert or replace into totals values (?, ?)", rows)
    connection.close()
    return len(rows)


@step
def warn(rejected: int) -> str:
    """Tell somebody."""
    return f"{rejected} order(s) of customers that nobody knows"


@step
def clean_up(folder: str) -> str:
    """What has to be done however the rest went."""
    return f"{folder} may be archived"


def build(folder: str) -> Graph:
    """The graph; building it runs nothing."""
    g = Graph("etl")
    customers = g.add(extract, f"{folder}/customers.csv", name="customers")
    files = g.add(list_order_files, folder)
    # One step for each file, at most four at a time.
    raw = g.map(extract, files, concurrency=4, name="orders")
    months = g.map(clean, raw)
    # Nodes as arguments: their results, and that they are waited for.
    totals = g.add(total, customers, months)
    loaded = g.add(load, totals["rows"])
    g.add(warn, totals["rejected"], when=totals["rejected"] > 0)
    g.add(clean_up, folder, after=[loaded], on_upstream_failure="run")
    return g.freeze()


def main() -> None:
    """Write some files, run the graph over them, and draw it."""
    folder = Path("incoming")
    folder.mkdir(exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    g = build(str(folder))
    print(g.to_mermaid())
    result = run(g)
    for node, value in result.items():
        print(f"{node}: {value}")


if __name__ == "__main__":
    main()
