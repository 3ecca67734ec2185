"""The report of a study: its own sections, then what every report ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from irl_jax.report.page import command, key_values, page, section, timings, write
from irl_jax.train.run import RunDirectory


def write_study(
    run: RunDirectory,
    seconds: Mapping[str, float],
    title: str,
    sections: Sequence[Markup],
    *,
    subtitle: str = "",
    files: Sequence[str] = (),
) -> None:
    """Writes report.html of a run: its sections, then timings, configuration and files.

    Args:
        run: the run.
        seconds: stage -> duration.
        title: heading of the page.
        sections: what the study found, from `section`.
        subtitle: one sentence below the title: what was done, to what, with what.
        files: paths that the reader may want, each a line to copy.

    Raises:
        InputError: two sections have one heading, or there is no space or permission to write.
    """
    ends = [
        section("Timings", timings(seconds)),
        section("Configuration", key_values(run.config)),
    ]
    if files:
        ends.append(section("Files", command("\n".join(files))))
    write(run.report, page(title, [*sections, *ends], subtitle=subtitle))
