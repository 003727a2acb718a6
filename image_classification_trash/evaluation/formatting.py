"""Measured figures in words, as tables and pages show them; needs no library, so that a light install can list models."""

from collections.abc import Mapping


def with_interval(figure: Mapping[str, float] | None, percent: bool = True) -> str:
    """`94.7% (92.3 to 96.7)`, or a dash where the figure has no meaning."""
    if figure is None:
        return "–"
    if percent:
        return f"{figure['value']:.1%} ({100 * figure['low']:.1f} to {100 * figure['high']:.1f})"
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
