"""Large programs for the benchmark: agents of eighty lines each, all different in name, all clean.

    python bench/generate.py 10000 > large.jam

Each agent is the size and shape of the loan example: tools of all effect classes, a policy, checks, a model
call, a question to a person that grants an irreversible call, a bounded loop, handlers, and a test.
"""

from __future__ import annotations

import sys

LINES_PER_AGENT = 80

_AGENT = """\
record Application@ { account: string  ssn: string  amount: money  income: money }
record Report@      { score: int 300..850  flags: list<string> 0..20 }
record Receipt@     { id: string }
enum   Outcome@     { approved@  declined@  needs_review@ }

tool credit_bureau@(ssn: string) -> Report@ { effect reads  cost $0.40  timeout 20s  raises NotFound@ }
tool lookup_payment@(run: string) -> Receipt@? { effect reads  timeout 10s }
tool disburse@(account: string, amount: money) -> Receipt@ {
  effect  irreversible
  key     run.id
  confirm lookup_payment@(run.id)
  timeout 60s  raises Rejected@
}

/// Scores an application, lets a person decide, pays out exactly once.
agent loan@ version 3 {
  input  app: Application@
  output outcome: Outcome@, receipt: Receipt@?
  budget { steps 25  tokens 20k  cost $2.00  time 7d  exceeded -> escalated }
  policy {
    allow credit_bureau@, lookup_payment@, disburse@
    require approval officer_review before disburse@
    forbid disburse@ when app.amount > $50_000
    redact app.ssn
  }
  check every path to paid passes officer_review
  check no path calls disburse@ twice
  on error any -> escalated
  on denied    -> escalated

  start state fetch_report {
    call credit_bureau@(app.ssn) as report retry Timeout, Unavailable 4 times backoff 2s x 2 max 30s jitter full
    on error NotFound@ -> officer_review
    -> triage
  }

  state triage {
    when report.flags.exists(f, f == "fraud")         -> declined
    when report.score >= 720 && app.amount <= $10_000 -> officer_review
    when report.score < 580                           -> declined
    otherwise                                         -> explain
  }

  state explain {
    think "Explain the risk of this loan to an officer in five sentences."
      given report, income = app.income  model small  max prompt 2k  max tokens 1500  timeout 60s  as summary: string
    on error any -> officer_review
    -> officer_review
  }

  state officer_review {
    ask role "loan_officer" to disburse@(app.account, app.amount)
      "Lend {app.amount} to account {app.account}?"
      show report?, summary?
      options approve approves, decline, recheck
      timeout 48h  as review
    on approve -> pay
    on decline -> declined
    on recheck -> fetch_report limit 2 else escalated
    on timeout -> escalated
  }

  state pay {
    call approved disburse@ as receipt
    on error Rejected@ -> declined  on in_doubt -> escalated  -> paid
  }

  final  paid      { outcome = approved@  receipt = receipt }
  final  declined  { outcome = declined@ }
  failed escalated { outcome = needs_review@ }
}

test "a clean applicant is paid once, after approval" for loan@ {
  input app = { account: "a1", ssn: "x", amount: $9_000, income: $80_000 }
  mock credit_bureau@ returns { score: 760, flags: [] }
  mock disburse@ returns { id: "r1" }
  mock officer_review answers approve
  expect path fetch_report, triage, officer_review, pay, paid
}

"""


def generate(lines: int) -> str:
    """A program of about `lines` lines (whole agents, at least one) in which `jam check` finds nothing."""
    return "".join(_AGENT.replace("@", f"_{n}") for n in range(max(1, lines // LINES_PER_AGENT)))


if __name__ == "__main__":
    sys.stdout.write(generate(int(sys.argv[1])))
