"""The names of effects and timers. A command's id is `FRAME#VISIT.ATTEMPT`; reads that the engine makes for a
decision and questions to `confirm` hang below the action they serve (`#3.1/fact/order`, `#3.1/confirm`)."""

from __future__ import annotations

from jamjet_dsl.kernel.model import Frame


def action_id(frame: Frame) -> str:
    """The id of the frame's present attempt."""
    return f"{frame.path}#{frame.visit}.{frame.attempt}"


def visit_prefix(frame: Frame) -> str:
    """What every id of the frame's present visit starts with."""
    return f"{frame.path}#{frame.visit}."


def base_of(cmd: str) -> str:
    """The action that an id belongs to: itself, or what stands before `/fact/` or `/confirm`."""
    frame, mark, rest = cmd.rpartition("#")
    return f"{frame}{mark}{rest.partition('/')[0]}"


def frame_of(cmd: str) -> str:
    """The path of the frame that an id belongs to."""
    return cmd.rpartition("#")[0]


def fact_id(cmd: str, name: str) -> str:
    """The id of the read of fact `name` for the decision on `cmd`."""
    return f"{cmd}/fact/{name}"


def confirm_id(cmd: str) -> str:
    """The id of the question whether `cmd` happened."""
    return f"{cmd}/confirm"


def timer_id(cmd: str, what: str) -> str:
    """The id of a timer of an action: `timeout`, `remind`, `retry` or `wait`."""
    return f"{cmd}/{what}"
