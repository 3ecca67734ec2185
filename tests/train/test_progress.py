import io

from irl_jax.train import progress
from irl_jax.train.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bars_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    file = Terminal()
    with Progress(file) as bars:
        reward, policy = bars.stage("reward", 4), bars.stage("policy", 10, done=5)
        reward(4, {"loss": 0.5})
        policy(6, {"accuracy": 0.75, "loss": 0.25, "reward": 1.0})
    text = file.getvalue()
    assert "4/4" in text and "6/10" in text
    assert "reward 1  loss 0.25  accuracy 0.75" in text


def test_now_and_then_a_line_elsewhere(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    file = io.StringIO()
    with Progress(file) as bars:
        advance = bars.stage("policy", 100, done=20)
        for step in range(21, 101):
            clock[0] += 1.0
            advance(step, {"loss": step / 100})
    assert file.getvalue().splitlines() == [
        "policy 50/100  0:50 left  loss 0.5",
        "policy 80/100  0:20 left  loss 0.8",
        "policy 100/100  0:00 left  loss 1",
    ]


def test_the_time_that_is_left_leaves_out_the_compilation(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    file = io.StringIO()
    with Progress(file) as bars:
        advance = bars.stage("policy", 43)
        for step in range(1, 43):
            clock[0] += 1.0 if step > 1 else 90.0
            advance(step, {"loss": 1.0})
    assert file.getvalue().splitlines() == [
        "policy 1/43  loss 1",
        "policy 31/43  0:12 left  loss 1",
    ]
