"""Programs that run as two processes of one job."""

import os
import re
import socket
import subprocess
import sys

JOIN = """
import sys
from pathlib import Path
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{sys.argv[2]}", 2, int(sys.argv[1]))
directory = Path(sys.argv[3])
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def give_processes(monkeypatch, devices):
    """Processes that a test starts have so many devices, and compile as the tests do."""
    name = "--xla_force_host_platform_device_count"
    flags = re.sub(rf"{name}=\d+", f"{name}={devices}", os.environ["XLA_FLAGS"])
    monkeypatch.setenv("XLA_FLAGS", flags)


def two_processes(program, directory):
    """What each process printed; in the program, `directory` is that one."""
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", JOIN + program, str(i), port, directory],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    ends = [process.communicate(timeout=300) for process in processes]
    errors = "\n".join(errors for _, errors in ends)
    assert [process.returncode for process in processes] == [0, 0], errors
    return [out for out, _ in ends]
