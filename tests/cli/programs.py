"""Small programs, and helpers to run `jam` as a process where only a process will do."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOAN = ROOT / "examples" / "loan_underwriting"

SOUND = """\
agent little version 1 {
  input  n: int
  output size: string
  start state look {
    when n > 10 -> big
    otherwise   -> small
  }
  final big   { size = "big" }
  final small { size = "small" }
}
"""

PAY = """\
/// Pays.
tool pay(to: string, amount: money) -> string {
  via     python "pay_tools:pay"
  effect  irreversible
  key     run.id
  timeout 30s
  raises  Refused
}

agent payer version 1 {
  input  to: string, amount: money
  output receipt: string?
  budget { steps 9  time 1h  exceeded -> failed_run }
  policy { allow pay  require approval review before pay }
  on denied -> failed_run

  start state review {
    ask role "officer" to pay(to, amount) "Pay {amount} to {to}?"
      show to
      options approve approves, decline
      answer { note: string? }
      timeout 20m
      as answer
    on approve -> go
    on decline -> declined
    on timeout -> failed_run
  }

  state go {
    call approved pay as receipt
    on error Refused -> failed_run
    -> paid
  }

  final  paid       { receipt = receipt }
  final  declined   {}
  failed failed_run {}
}

test "approved and paid" for payer {
  input to = "Ada"
  input amount = $5
  mock review answers approve
  mock pay returns "r1"
  expect path review, go, paid
  expect receipt == "r1"
}

test "nobody pays twice" for payer {
  input to = "Ada"
  input amount = $5
  mock review answers decline
  expect calls(pay) == 0
}
"""

PAY_TOOLS = """\
import os, time
from pathlib import Path

HERE = Path(__file__).parent


def pay(to, amount):
    mode = (HERE / "mode").read_text() if (HERE / "mode").exists() else "fine"
    with (HERE / "calls").open("a") as out:
        out.write(f"{to} {amount}\\n")
    if mode == "slow":
        time.sleep(1.5)
    if mode == "crash":
        raise RuntimeError("the bank is on fire")
    if mode == "wrong":
        return 7
    if mode == "escape":
        return "\\x1b[31mred\\x1b[0m\\u202e evil"
    return f"paid {amount}"
"""

MAIL = """\
agent listener version 1 {
  output heard: string?
  var    last: string = ""
  event  said(text: string)
  start state listen {
    wait for event said(m) timeout 30m
    on timeout -> gone
    -> done { set last = m.text }
  }
  final  done { heard = last }
  failed gone {}
}
"""


LOOK = """\
tool pay(to: string, amount: money) -> string {
  via     python "pay_tools:pay"
  effect  reads
  timeout 30s
}

agent looker version 1 {
  input  to: string, amount: money
  output receipt: string
  policy { allow pay }
  start state look {
    call pay(to, amount) as receipt
    -> done
  }
  final done { receipt = receipt }
}
"""

NAP = """\
agent napper version 1 {
  start state nap { wait 20ms  -> done }
  final done {}
}
"""


def write_pay(folder: Path) -> Path:
    """The paying program and its tools in a folder; gives the program."""
    (folder / "pay_tools.py").write_text(PAY_TOOLS)
    path = folder / "pay.jam"
    path.write_text(PAY)
    return path


def process(*args: object, cwd: Path, **more: object) -> subprocess.Popen[str]:
    """`jam ARGS` as a process of its own, with pipes."""
    env = {k: v for k, v in os.environ.items() if k not in ("JAM_DB", "NO_COLOR", "COLUMNS")}
    env["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "jamjet_dsl.cli", *map(str, args)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.Popen(command, cwd=cwd, env=env, text=True, **pipes)  # type: ignore[call-overload, no-any-return]


def terminal(*args: object, cwd: Path, env: dict[str, str] | None = None, seconds: float = 30) -> tuple[int, str]:
    """`jam ARGS` on a terminal of its own: its exit code and all it wrote there."""
    master, slave = pty.openpty()
    everything = {k: v for k, v in os.environ.items() if k not in ("JAM_DB", "NO_COLOR", "COLUMNS")}
    everything |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **(env or {})}
    command = [sys.executable, "-m", "jamjet_dsl.cli", *map(str, args)]
    child = subprocess.Popen(command, cwd=cwd, env=everything, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen, until = b"", time.monotonic() + seconds
    while time.monotonic() < until:
        if select.select([master], [], [], 0.1)[0]:
            try:
                data = os.read(master, 65536)
            except OSError:
                break
            if not data:
                break
            seen += data
        elif child.poll() is not None:
            break
    os.close(master)
    try:
        return child.wait(5), seen.decode(errors="replace")
    finally:
        child.kill()


def until(path: Path, seconds: float = 20) -> None:
    """Wait until a file is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come into being"
        time.sleep(0.02)
