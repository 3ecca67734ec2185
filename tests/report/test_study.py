"""What the report of every study ends with."""

import re

from irl_jax.report.page import section
from irl_jax.report.study import write_study
from irl_jax.train.run import RunDirectory


def test_timings_configuration_and_files_come_after_the_studys_own_sections(tmp_path):
    with RunDirectory(tmp_path / "run", {"optim": {"lr": 0.25}}) as run:
        write_study(
            run, {"train": 60.0, "measure": 30.0}, "A study", [section("Results", "They are in.")],
            subtitle="of nothing", files=["/some/export"],
        )  # fmt: skip
    html = run.report.read_text()
    headings = re.findall(r"<h2>(.*?)</h2>", html)
    assert headings == ["Results", "Timings", "Configuration", "Files"]
    assert "<h1>A study</h1>" in html and "of nothing" in html
    assert "optim.lr" in html and "0.25" in html and "/some/export" in html
    assert "67 %" in html and "33 %" in html  # of a minute and a half
    with RunDirectory(tmp_path / "run", {"optim": {"lr": 0.25}}) as run:
        write_study(run, {"train": 1.0}, "A study", [])
    assert "Files" not in run.report.read_text()
