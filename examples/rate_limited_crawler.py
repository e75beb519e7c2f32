"""A polite crawler: at most two pages of a site at once, at most ten a second over all sites, however many runs there are.

python examples/rate_limited_crawler.py
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from dramaturg import Limit, run, step, workflow

SITES = {
    "https://a.example/": ["https://a.example/1", "https://a.example/2", "https://a.example/3", "https://b.example/"],
    "https://b.example/": ["https://b.example/1", "https://b.example/2", "https://a.example/"],
}
under_way: dict[str, int] = {}


def site_of(url: str) -> str:
    """The site of a page: the key of a limit may be a function of the arguments."""
    return urlsplit(url).hostname or ""


@step(concurrency=Limit(2, key=site_of), rate_limit="10/s", retries=3)
async def fetch(url: str) -> list[str]:
    """The links of a page. What waits for its turn holds no thread and no connection."""
    site = site_of(url)
    under_way[site] = under_way.get(site, 0) + 1
    print(f"{url} ({under_way[site]} of {site} at once)")
    await asyncio.sleep(0.05)
    under_way[site] -= 1
    return SITES.get(url, [])


@workflow
async def crawl(start: str) -> int:
    """Follow links until there are no new ones; how many pages there are."""
    seen = {start}
    new = [start]
    while new:
        found = await asyncio.gather(*[fetch(url) for url in new])
        new = sorted({link for links in found for link in links} - seen)
        seen.update(new)
    return len(seen)


def main() -> None:
    """Crawl two sites that link to each other."""
    print(f"{run(crawl, 'https://a.example/')} pages")


if __name__ == "__main__":
    main()
