"""A server that has imported torch and its like, so that the jobs of a workflow under test start at once.

The `python` on the PATH of jobs is a client that hands its command line to the server, which forks. The script then
runs in the client's folder and environment, with the client's streams and exit status.

    python tests/support/warm.py SOCKET      the server
"""

import contextlib
import json
import os
import runpy
import signal
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path

SLOW = [
    "torch",
    "torch.distributed.fsdp",
    "transformers",
    "transformers.models.llama.modeling_llama",
    "accelerate",
    "peft",
    "safetensors.torch",
    "pyarrow.parquet",
    "pyarrow.compute",
    "pandas",
    "altair",
    "jinja2",
    "yaml",
]

CLIENT = """#!{python} -IS
import json, os, socket, sys
arguments = sys.argv[1:]
if not arguments or not arguments[0].endswith(".py"):
    os.execv({python!r}, [{python!r}, *arguments])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(json.dumps([arguments, os.getcwd(), dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    sys.exit(int(server.recv(16) or 1))
"""


def write_client(folder: Path, address: Path) -> None:
    """Write `folder/python`, the client of the server that listens at the socket `address`."""
    path = folder / "python"
    path.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    path.chmod(0o755)


def serve(address: str) -> None:
    """Run the server at the socket `address` until this process is ended."""
    for name in SLOW:
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children that are done are not kept
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(64)
        while True:
            client, _ = server.accept()
            if not os.fork():
                server.close()
                status = work(client)
                with contextlib.suppress(BrokenPipeError):
                    client.sendall(str(status).encode())
                os._exit(status)
            client.close()


def work(client: socket.socket) -> int:
    """Run what a client asks for, as `python SCRIPT …` would, and return its exit status."""
    _, streams, _, _ = socket.recv_fds(client, 1, 3)
    message = b"".join(iter(lambda: client.recv(1 << 16), b""))
    arguments, folder, environment = json.loads(message)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
    status: object = 0
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status if isinstance(status, int) else int(status is not None)


if __name__ == "__main__":
    serve(sys.argv[1])
