"""The names of frames, effects and timers. A command's id is `FRAME#VISIT.ATTEMPT`; reads that the engine makes for a
decision and questions to `confirm` hang below the action they serve (`#3.1/fact/order`, `#3.1/confirm`). A frame is
called after the one around it, the state with its visit (and its attempt, from the second on), and its own key:
`gather@4/web`, `gather@4/web/do@1/3`, `check@7.2/fact_check`."""

from __future__ import annotations

from jamjet_dsl.kernel.model import Frame


def action_id(frame: Frame) -> str:
    """The id of the frame's present attempt."""
    return f"{frame.path}#{frame.visit}.{frame.attempt}"


def visit_prefix(frame: Frame) -> str:
    """What every id of the frame's present visit starts with."""
    return f"{frame.path}#{frame.visit}."


def child_path(frame: Frame, key: str) -> str:
    """The path of a frame that the frame's present attempt opens."""
    around = f"{frame.path}/" if frame.path else ""
    again = f".{frame.attempt}" if frame.attempt > 1 else ""
    return f"{around}{frame.state}@{frame.visit}{again}/{key}"


def base_of(cmd: str) -> str:
    """The action that an id belongs to: itself, or what stands before `/fact/` or `/confirm`."""
    frame, mark, rest = cmd.rpartition("#")
    return f"{frame}{mark}{rest.partition('/')[0]}"


def frame_of(cmd: str) -> str:
    """The path of the frame that an id belongs to."""
    return cmd.rpartition("#")[0]


def inside(path: str, around: str) -> bool:
    """Whether a frame is the other one, or lies in it."""
    return not around or path == around or path.startswith(f"{around}/")


def concerns(cmd: str, around: str) -> bool:
    """Whether an effect is one of a frame, or of one inside it."""
    return not around or inside(frame_of(cmd), around)


def fact_id(cmd: str, name: str, depth: int = 0) -> str:
    """The id of the read of fact `name` for the decision on `cmd`, by the policy of the agent so many agents outside
    the one that calls."""
    return f"{cmd}/fact/{depth}:{name}" if depth else f"{cmd}/fact/{name}"


def fact_of(cmd: str) -> tuple[int, str]:
    """Depth and name of the fact that an id stands for."""
    depth, mark, name = cmd.rpartition("/")[2].rpartition(":")
    return (int(depth), name) if mark else (0, name)


def confirm_id(cmd: str) -> str:
    """The id of the question whether `cmd` happened."""
    return f"{cmd}/confirm"


def timer_id(cmd: str, what: str) -> str:
    """The id of a timer of an action: `timeout`, `remind`, `retry` or `wait`."""
    return f"{cmd}/{what}"


def trace_key(run_id: str, cmd: str) -> str:
    """What is the same for all attempts at the action of a visit, and for no other action of any run."""
    return f"{run_id}/{cmd.rpartition('.')[0]}"
