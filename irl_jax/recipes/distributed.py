"""Several processes of one run: they begin together, and they end together.

Every command and experiment takes `--distributed`:

- `auto` (the default) joins the processes that Cloud TPU, Slurm, Open MPI or Kubernetes
  started, and does nothing where there is no such cluster;
- `HOST:PORT,N,I` says that this is process I of N, and where process 0 listens;
- `off` runs this process alone.

Process 0 alone prints on stdout and shows progress; each tells its own mistake. A process that
fails says so to the others, and all end with its status: without this they would wait for it in
their next collective. It does so by the key-value store of JAX's coordination service, for which
JAX has no public name, nor for the clusters that it knows.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
from jax._src import distributed as service
from jax._src.clusters import ClusterEnv
from jax.errors import JaxRuntimeError

from irl_jax.types import InputError

FLAG = "--distributed"
HELP = (
    f"{FLAG} auto|off|HOST:PORT,N,I: the processes of a cluster, this one alone, or process I of "
    "N, of which process 0 listens at HOST:PORT."
)
ENDED = "irl_jax/ended"  # key: which process ended the run, and with what status, or
DONE = "done"  # that all have done their work
WATCHED_MS = 3_600_000  # a question to the store waits so long for an answer
TOLD_MS = 10_000  # how long the processes wait for one another before they exit
GRACE = 10.0  # seconds in which a process may end by itself: all stop together on SIGTERM
LAST = 5.0  # seconds that process 0 stays: where it is gone, JAX aborts the others
FOREVER_MS = 10**9  # a process that is done waits for the others, 11 days at most


def begin(args: Sequence[str]) -> list[str]:
    """Joins the other processes of the run, if there are any, before a device is touched.

    Args:
        args: the command line.

    Returns:
        The command line without `--distributed`.

    Raises:
        InputError: the flag's value is none, or the others were not found.
    """
    rest, value = [], "auto"
    given = iter(args)
    for arg in given:
        name, equals, text = arg.partition("=")
        if name != FLAG:
            rest.append(arg)
        elif (value := text if equals else next(given, "")) == "":
            raise InputError(f"{FLAG}: expected auto, off or HOST:PORT,N,I after it")
    if value != "off" and not {"-h", "--help", "--help-all"} & set(args):
        _join(value)
    return rest


def _join(value: str) -> None:
    where = () if value == "auto" else address(value)
    try:
        if jax.distributed.is_initialized() or (not where and _alone()):
            return
        jax.distributed.initialize(*where)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{FLAG} {value}: {reason}; {FLAG} off runs this process alone") from error
    if jax.process_count() > 1:
        _watcher.start()
        if jax.process_index() > 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print goes there, too


def _alone() -> bool:
    """Whether no cluster that JAX knows has started other processes beside this one."""
    known = [env for env in ClusterEnv._cluster_types if not env.opt_in_only_method]
    found = next((env for env in known if env.is_env_present()), None)
    return found is None or found.get_process_count() == 1


def address(value: str) -> tuple[str, int, int]:
    """HOST:PORT, N and I of `HOST:PORT,N,I`.

    Raises:
        InputError: it is no such text.

    Example:
        >>> address("10.0.0.2:1234,4,3")
        ('10.0.0.2:1234', 4, 3)
    """
    place, *numbers = value.split(",")
    host, _, port = place.rpartition(":")
    if len(numbers) != 2 or not all(x.isdecimal() for x in (port, *numbers)) or not host:
        raise InputError(f"{FLAG}: expected auto, off or HOST:PORT,N,I, got {value}")
    count, index = map(int, numbers)
    if not index < count:
        raise InputError(f"{FLAG}: process {index} of {count}; expected 0 to {count - 1}")
    return place, count, index


def check_one_process(what: str) -> None:
    """Raises `InputError` if there are several processes."""
    if jax.process_count() > 1:
        raise InputError(
            f"{what} runs in one process, and there are {jax.process_count()}; start one, with "
            f"{FLAG} off"
        )


def name() -> str:
    """`process 1: ` where there are several, else nothing."""
    if not jax.distributed.is_initialized() or jax.process_count() == 1:
        return ""
    return f"process {jax.process_index()}: "


@contextmanager
def ending_together() -> Iterator[None]:
    """Ends all processes with the status of the first that fails; waits for them otherwise.

    With one process it does nothing. With several, a failure does not return: the process exits
    when all know of it.
    """
    with ExitStack() as stack:
        stack.push(_ended)
        yield


def _ended(kind: object, error: BaseException | None, _: object) -> None:
    """Waits for the others after a success, and tells them of a failure."""
    if not name():
        return
    code = error.code if isinstance(error, SystemExit) else 1
    if error is None or code in (None, 0):
        _client().wait_at_barrier("irl_jax/done", FOREVER_MS)
        if jax.process_index() == 0:
            _client().key_value_set(ENDED, DONE)
        _watcher.join()
        return
    if not isinstance(error, SystemExit) and not _heard.is_set():
        traceback.print_exception(error)
    try:
        _client().key_value_set(ENDED, f"{jax.process_index()} {code}")
    except JaxRuntimeError as refused:
        if "ALREADY_EXISTS" not in str(refused):
            raise
    _leaving.set()
    _watcher.join()  # which exits


_leaving = threading.Event()  # set when this process has ended by itself
_heard = threading.Event()  # set when one has ended the run: what fails then, fails for that


def _client() -> Any:
    return service.global_state.client


def _watch() -> None:
    """Exits with the status of the first process that ends the run."""
    client = _client()
    while True:
        try:
            ended = client.blocking_key_value_get(ENDED, WATCHED_MS)
            break
        except JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                return  # process 0 is gone, and JAX ends this process, too
    if ended == DONE:
        return
    _heard.set()
    index, status = ended.split()
    if not _leaving.wait(GRACE):
        print(f"{name()}ended, as process {index} was", file=sys.stderr)
    try:
        client.wait_at_barrier("irl_jax/told", TOLD_MS)
    except JaxRuntimeError as error:
        print(f"{name()}not all processes know: {error}", file=sys.stderr)
    if jax.process_index() == 0:
        time.sleep(LAST)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(status))


_watcher = threading.Thread(target=_watch, daemon=True)
