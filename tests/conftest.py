"""Settings of every test run, made before jax is imported.

Eight virtual CPU devices, so that sharded code meets real meshes; programs compiled
without optimisation, which takes two thirds of the time (`.ci/run` tests optimised ones as
well), and kept in `.cache/jax` between runs; property tests without a deadline
(the first example compiles). `--require-extras` fails a run in which a test was
skipped for want of an optional dependency. A run of a minute or more ends with the
seconds of each room. What the caller has set already is kept, and
processes that tests start inherit the same environment.
"""

import gc
import os
from collections import Counter
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
LONG = 60  # seconds of a run whose rooms are summed
MAPS = Path("/proc/self/maps")  # of Linux, a line for each map of memory that a process has
MOST_MAPS = 30_000  # of the 65,530 that it may have; a compiled program takes seven


def _set_environment() -> None:
    flags = os.environ.get("XLA_FLAGS", "")
    for name, value in (("force_host_platform_device_count", 8), ("backend_optimization_level", 0)):
        if f"--xla_{name}" not in flags:
            flags = f"{flags} --xla_{name}={value}".strip()
    os.environ["XLA_FLAGS"] = flags
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(ROOT / ".cache" / "torch"))  # not in /tmp
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


_set_environment()
hypothesis.settings.register_profile(
    "irl_jax",
    deadline=None,
    max_examples=20,
    derandomize="CI" in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("irl_jax")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-extras",
        action="store_true",
        help="fail if a test is skipped because an extra of irl_jax is not installed",
    )


def _require_extra(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config) -> None:
    """Turns a skip whose reason says what to `pip install` into a failure, if asked."""
    if config.getoption("--require-extras") and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if "pip install" in reason:
            report.outcome = "failed"
            report.longrepr = reason


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    _require_extra(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    _require_extra(report, collector.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """Forgets compiled programs between files, before a process has all maps of memory it may."""
    yield
    if (nextitem is None or nextitem.path != item.path) and MAPS.exists():
        with MAPS.open() as maps:
            if sum(1 for _ in maps) > MOST_MAPS:
                import jax

                jax.clear_caches()
                gc.collect()


@pytest.fixture(scope="session")
def float16():
    """float16, where XLA can convert it: on a CPU that takes F16C."""
    import jax
    import jax.numpy as jnp

    try:
        jax.jit(lambda x: x.astype(jnp.float32))(jnp.ones(1, jnp.float16))
    except jax.errors.JaxRuntimeError as error:
        pytest.skip(f"needs F16C of the CPU, which --xla_cpu_max_isa may forbid ({error})")
    return jnp.float16


def _room(nodeid: str) -> str:
    """`tests/models` of `tests/models/test_heads.py::test_bias`."""
    folder = Path(nodeid.partition("::")[0]).parent
    return "/".join(folder.parts[:2])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the seconds of each room, fixtures included, if they are worth a look."""
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[_room(report.nodeid)] += report.duration
    if seconds.total() >= LONG:
        terminalreporter.section("seconds by room")
        for room, spent in seconds.most_common():
            terminalreporter.write_line(f"{spent:8.1f} {room}")
