from __future__ import annotations

import errno
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Literal

import pytest

from irl_jax.recipes.cli import parse, run
from irl_jax.types import InputError
from tests.experiments.conftest import complaint


@dataclass(frozen=True)
class Optim:
    lr: float = 1e-4  # peak learning rate
    warmup_steps: int = 10  # updates
    clip: float | None = 1.0  # norm of the gradient
    schedule: Literal["constant", "cosine"] = "constant"  # of the learning rate

    def __post_init__(self):
        if self.lr <= 0:
            raise InputError(f"optim.lr: expected a positive rate, got {self.lr}")


@dataclass(frozen=True)
class Config:
    seed: int = 0  # of everything random
    out: Path = Path("runs/demo")  # run directory
    widths: tuple[int, ...] = (64, 32)  # of the hidden layers
    remat: bool = False  # recompute activations
    optim: Optim = Optim(lr=3e-4)

    def __post_init__(self):
        if self.seed < 0:
            raise InputError(f"seed: expected 0 or more, got {self.seed}")


CONFIG = Config(out=Path("runs/other"))  # not the default of the class


def leaves(config, prefix=""):
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"--{prefix}{field.name}".replace("_", "-"), value


def test_help_keeps_the_headers_of_a_docstring_apart(capsys):
    about = """What it shows.

    In two
    lines.

    Claim: it shows
        something.
    Command: python -m program
    """
    with pytest.raises(SystemExit):
        run(pytest.fail, CONFIG, description=about, args=["--help"])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[2:10:2] == [
        "What it shows.",
        "In two lines.",
        "Claim: it shows something.",
        "Command: python -m program",
    ]
    assert lines[3:10:2] == [""] * 4


def test_help_lists_every_field_with_help_and_default(capsys):
    with pytest.raises(SystemExit) as stop:
        run(pytest.fail, CONFIG, description="What it shows.", args=["--help"])
    assert not stop.value.code
    text = " ".join(re.sub("[│|]\n[│|]", " ", capsys.readouterr().out).split())
    assert "What it shows." in text
    for flag, value in leaves(CONFIG):
        default = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        after = text.split(f" {flag}", 1)[1]
        assert f"(default: {default})" in after[:120], flag
    for comment in ("peak learning rate", "updates", "run directory", "norm of the gradient"):
        assert f" {comment} " in text


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], CONFIG),
        (["--optim.lr", "1e-5"], Config(CONFIG.seed, CONFIG.out, optim=Optim(lr=1e-5))),
        (
            ["--optim.warmup_steps=3"],
            Config(CONFIG.seed, CONFIG.out, optim=Optim(lr=3e-4, warmup_steps=3)),
        ),
        (
            ["--optim.warmup-steps", "3"],
            Config(CONFIG.seed, CONFIG.out, optim=Optim(lr=3e-4, warmup_steps=3)),
        ),
        (
            ["--optim.clip", "None"],
            Config(CONFIG.seed, CONFIG.out, optim=Optim(lr=3e-4, clip=None)),
        ),
        (
            ["--widths", "8", "4", "2", "--remat"],
            Config(CONFIG.seed, CONFIG.out, widths=(8, 4, 2), remat=True),
        ),
        (["--out", "/tmp/a b"], Config(out=Path("/tmp/a b"))),
        (["--seed", "1", "--seed", "2"], Config(2, CONFIG.out)),  # the last of a flag given twice
    ],
)
def test_flags_override_fields(args, expected):
    seen = []
    run(seen.append, CONFIG, args=args)
    assert seen == [expected]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--optim.lrr", "1"], "options: --optim.lrr, 1 Perhaps you meant: --optim.lr "),
        (["--optim.warmup_steps", "3", "--sede", "1"],
         "options: --sede, 1 Perhaps you meant: --seed "),
        (["--lr", "1"], "options: --lr, 1 Perhaps you meant: --optim.lr "),
        (["--optim.warmup_step", "1"], "Perhaps you meant: --optim.warmup-steps "),
        (["--qqq"], "options: --qqq For full helptext, run "),
        (["--optim.lr", "fast"], "--optim.lr: could not convert string to float: 'fast'"),
        (["--seed", "1.5"], "--seed: invalid literal for int() with base 10: '1.5'"),
        (["--seed"], "Missing value for argument '--seed'. Expected 1 values."),
        (["--optim.schedule", "linear"],
         "invalid choice 'linear' for argument '--optim.schedule'. "
         "Expected one of ('constant', 'cosine')."),
        (["--remat", "True"], "options: True "),
        (["stray"], "options: stray "),
    ],
)  # fmt: skip
def test_what_is_no_flag_or_of_another_type_is_told_by_tyro(args, says, capsys):
    with pytest.raises(SystemExit) as stop:
        run(pytest.fail, CONFIG, args=args)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert says in complaint(captured.err) and "error: " not in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--seed", "-1"], "seed: expected 0 or more, got -1"),
        (["--optim.lr", "0"], "optim.lr: expected a positive rate, got 0.0"),
    ],
)  # fmt: skip
def test_what_a_configuration_refuses_is_one_line_and_status_2(args, line, capsys):
    with pytest.raises(SystemExit) as stop:
        run(pytest.fail, CONFIG, args=args)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.err == f"error: {line}\n"
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("prefs.jsonl:3: no field 'chosen'\nsecond"),
         "error: prefs.jsonl:3: no field 'chosen' second\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/runs/x"),
         "error: /runs/x: permission denied\n"),
        (OSError(errno.ENOSPC, "No space left on device", b"/runs/y"),
         "error: /runs/y: no space left on device\n"),
        (OSError(errno.ENOSPC, "No space left on device"), "error: no space left on device\n"),
    ],
)  # fmt: skip
def test_errors_of_a_run_that_a_user_can_mend(error, line, capsys):
    def main(config):
        raise error

    with pytest.raises(SystemExit) as stop:
        run(main, CONFIG, args=[])
    assert stop.value.code == 2
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("error", [ValueError("bug"), OSError(errno.EIO, "I/O"), KeyError("k")])
def test_other_errors_keep_their_traceback(error):
    def main(config):
        raise error

    with pytest.raises(type(error)) as caught:
        run(main, CONFIG, args=[])
    assert caught.value is error


def test_a_real_unwritable_place_names_itself(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        run(lambda c: (c.out / "sub").mkdir(), CONFIG, args=["--out", str(tmp_path / "file")])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/file/sub: not a directory\n"


def test_ctrl_c_is_one_line_and_status_130(capsys):
    def main(config):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        run(main, CONFIG, args=[])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_sigterm_closes_what_is_open_and_exits_with_143(capsys):
    closed = []

    def main(config):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            closed.append(True)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        run(main, CONFIG, args=[])
    assert stop.value.code == 143
    assert closed == [True]
    assert capsys.readouterr().err == "terminated\n"
    assert signal.getsignal(signal.SIGTERM) is before


PROGRAM = textwrap.dedent("""
    from dataclasses import dataclass
    from irl_jax.recipes.cli import run

    @dataclass(frozen=True)
    class Config:
        lines: int = 5  # to print

    def main(config):
        for i in range(config.lines):
            print(i)

    run(main, Config())
    """)


def program(tmp_path, shell, **more):
    (tmp_path / "program.py").write_text(PROGRAM)
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), root])}
    env |= {"PYTHONUNBUFFERED": "", **more}
    command = f"set -o pipefail; {shlex.quote(sys.executable)} -m program {shell}"
    return subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True)


@pytest.mark.parametrize("lines", [1, 200_000])
def test_a_reader_that_leaves_is_not_an_error(tmp_path, lines):
    done = program(tmp_path, f"--lines {lines} | true")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 141)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_as_a_module_whatever_the_terminal_can_show(tmp_path, encoding):
    done = program(tmp_path, "--lines x", PYTHONIOENCODING=encoding)
    assert done.returncode == 2
    assert "--lines: invalid literal for int() with base 10: 'x'" in complaint(done.stderr)


def test_usage_names_the_module(tmp_path):
    assert program(tmp_path, "--help").stdout.startswith("usage: python -m program ")


def test_parse_leaves_the_default_alone():
    assert parse(CONFIG, ["--seed", "4"]).seed == 4
    assert CONFIG.seed == 0
