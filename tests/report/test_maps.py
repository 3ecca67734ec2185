import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from irl_jax.report.maps import Map, grid_map, maps
from irl_jax.types import InputError

SVG = "{http://www.w3.org/2000/svg}"


def places(svg):
    """Name -> left, top, colour and opacity of the square that carries the tip."""
    found = {}
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        title = group.find(f"{SVG}title")
        if title is not None:
            path = next(group.iter(f"{SVG}path"))
            corners = np.array(re.findall(r"[-\d.]+", path.get("d")), float).reshape(-1, 2)
            style = path.get("style")
            colour = re.search(r"fill: (?:var\(--)?(\w+)", style)[1]
            strength = re.search(r"opacity: ([\d.]+)", style)
            found[title.text] = *corners.min(0), colour, float(strength[1]) if strength else 1.0
    return found


def test_a_grid_is_drawn_as_it_is_written():
    value = np.array([[1.0, -2.0, np.nan], [0.5, 0.0, 4.0]])
    found = places(maps({"reward": grid_map(value)}, unit="reward"))
    assert set(found) == {
        "row 0, column 0: 1", "row 0, column 1: −2", "row 1, column 0: 0.5",
        "row 1, column 1: 0", "row 1, column 2: 4",
    }  # fmt: skip
    at = {name[: len("row 0, column 0")]: each for name, each in found.items()}
    left, top, colour, strength = zip(*(at[name] for name in sorted(at)), strict=True)
    assert left[0] < left[1] < left[4] and left[0] == left[2] and left[1] == left[3]
    assert top[0] == top[1] < top[2] == top[3] == top[4]
    assert colour == ("orange", "blue", "orange", "none", "orange")
    np.testing.assert_allclose(strength, [0.25, 0.5, 0.125, 0.0, 1.0], atol=0.006)


def test_maps_side_by_side_have_one_scale():
    panels = {f"map {k}": grid_map(np.full((1, 2), float(k))) for k in range(1, 5)}
    svg = maps(panels, unit="visits")
    texts = [element.text for element in ET.fromstring(svg).iter(f"{SVG}text")]
    assert {*panels, "visits", "0", "4"} == set(texts)
    found = places(svg)
    strength = {name.split(": ")[1]: each[3] for name, each in found.items()}
    assert strength == pytest.approx({"1": 0.25, "2": 0.5, "3": 0.75, "4": 1.0}, abs=0.006)
    assert maps(panels, unit="visits") == svg


def test_ways_and_frames_are_drawn_where_asked():
    x, y, names = np.arange(3.0), np.zeros(3), ["a", "b", "c"]
    shapes = lambda **more: maps({"m": Map(x, y, np.ones(3), names, **more)}, unit="u").count(
        "<path"
    )
    assert shapes(ways=[(0, 1), (1, 2)]) == shapes() + 2
    assert shapes(marked=[2]) == shapes() + 1


@pytest.mark.parametrize("panels", [{}, {"m": grid_map(np.full((2, 2), np.nan))}])
def test_nothing_to_draw_is_refused(panels):
    with pytest.raises(InputError, match="maps: expected at least one map"):
        maps(panels, unit="u")
