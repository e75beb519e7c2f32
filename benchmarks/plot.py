"""Two charts as one SVG: throughput against bare Dramatiq, and what a step costs along a run of 2,000."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

COLOURS = ("#4063d8", "#d9822b", "#2e8b57")
_LEFT, _WIDTH, _ROW, _HEIGHT = 60, 620, 14, 220


def write(path: Path, ratios: Mapping[str, Mapping[str, float]], costs: Mapping[str, Sequence[float]]) -> None:
    """Draw them.

    Parameters:
      ratios: by stack, by workload: so many times bare Dramatiq.
      costs: by stack: milliseconds per step in each part of a long run.
    """
    colours = dict(zip(ratios, COLOURS, strict=False))
    parts, top = list(_bars(ratios, colours)), 60
    top += (len(colours) * _ROW + 12) * len(_names(ratios)) + 40
    if costs:
        parts += _lines(costs, colours, top)
        top += _HEIGHT + 60
    for number, (name, colour) in enumerate(colours.items()):
        parts.append(f'<rect x="{_LEFT + number * 180}" y="12" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(_LEFT + number * 180 + 18, 22, name))
    size = f'viewBox="0 0 {_LEFT + _WIDTH + 60} {top}"'
    style = 'font-family="sans-serif" font-size="12"'
    background = '<rect width="100%" height="100%" fill="white"/>'
    content = "\n".join([background, *parts])
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{content}\n</svg>\n')


def _names(ratios: Mapping[str, Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for each in ratios.values() for name in each))


def _bars(ratios: Mapping[str, Mapping[str, float]], colours: Mapping[str, str]) -> Iterable[str]:
    yield _text(_LEFT, 46, "steps (W5: runs) a second, as a multiple of bare Dramatiq on the same broker (dashed: 1)")
    longest = max([1.0, *(value for each in ratios.values() for value in each.values())])
    y = 60
    for workload in _names(ratios):
        yield _text(_LEFT - 8, y + len(colours) * _ROW / 2 + 4, workload, "end")
        for stack, colour in colours.items():
            value = ratios[stack].get(workload, 0.0)
            yield f'<rect x="{_LEFT}" y="{y}" width="{value / longest * _WIDTH:.1f}" height="11" fill="{colour}"/>'
            yield _text(_LEFT + value / longest * _WIDTH + 4, y + 10, f"{value:.2f}")
            y += _ROW
        y += 12
    x = _LEFT + _WIDTH / longest
    yield f'<line x1="{x:.1f}" y1="54" x2="{x:.1f}" y2="{y}" stroke="black" stroke-dasharray="4 3"/>'


def _lines(costs: Mapping[str, Sequence[float]], colours: Mapping[str, str], top: int) -> Iterable[str]:
    yield _text(_LEFT, top, "W4: milliseconds per step, from the first of the run to the last")
    highest = max(value for each in costs.values() for value in each) * 1.1
    bottom = top + _HEIGHT + 10
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * _HEIGHT
        yield f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + _WIDTH}" y2="{y:.1f}" stroke="#ccc"/>'
        yield _text(_LEFT - 8, y + 4, f"{highest * share:.1f}", "end")
    for stack, values in costs.items():
        step = _WIDTH / (len(values) - 1)
        points = " ".join(f"{_LEFT + i * step:.1f},{bottom - v / highest * _HEIGHT:.1f}" for i, v in enumerate(values))
        yield f'<polyline points="{points}" fill="none" stroke="{colours[stack]}" stroke-width="2"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
