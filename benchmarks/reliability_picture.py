"""Draws a reliability diagram as SVG: how sure the answers were, and how many of them were right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inference.calibration import Bin

SIDE = 320
MARGIN = 48
GAP = 56


def picture(diagrams: Mapping[str, Sequence[Bin]]) -> str:
    """One square a diagram, side by side; a dot's area is its share of the answers."""
    width = 2 * MARGIN + len(diagrams) * SIDE + (len(diagrams) - 1) * GAP
    height = 2 * MARGIN + SIDE
    squares = [
        _square(title, bins, MARGIN + number * (SIDE + GAP)) for number, (title, bins) in enumerate(diagrams.items())
    ]
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'font-family="sans-serif" font-size="12" fill="#222">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            *squares,
            "</svg>",
            "",
        )
    )


def _square(title: str, bins: Sequence[Bin], left: int) -> str:
    lines = [
        f'<g transform="translate({left},{MARGIN})">',
        f'<text x="{SIDE / 2}" y="-14" text-anchor="middle" font-weight="bold">{title}</text>',
        f'<rect width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/>',
        f'<line x1="0" y1="{SIDE}" x2="{SIDE}" y2="0" stroke="#999" stroke-dasharray="4 4"/>',
        f'<text x="{SIDE / 2}" y="{SIDE + 34}" text-anchor="middle">confidence</text>',
        f'<text transform="translate(-34,{SIDE / 2}) rotate(-90)" text-anchor="middle">share right</text>',
    ]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        lines.append(f'<text x="{tick * SIDE}" y="{SIDE + 16}" text-anchor="middle">{tick:g}</text>')
        lines.append(f'<text x="-6" y="{SIDE - tick * SIDE + 4}" text-anchor="end">{tick:g}</text>')
    points = [(each.confidence * SIDE, SIDE - each.right * SIDE, each.share) for each in bins]
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    lines.append(f'<polyline points="{joined}" fill="none" stroke="#1f6feb"/>')
    lines += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2 + 12 * share**0.5:.1f}" fill="#1f6feb" fill-opacity="0.55"/>'
        for x, y, share in points
    ]
    return "\n".join([*lines, "</g>"])
