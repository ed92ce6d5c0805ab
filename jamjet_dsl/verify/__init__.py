"""Model checking: what a program can and cannot do, decided by driving the kernel through everything it may do.

    analysis --asked_of--> properties -----------------------------------------------.
    definition --abstracted--> AbstractProgram --explore--> Explored (nodes, steps) --decide--> Answer

An answer is proved, violated, guarded or unknown.
`abstract` takes the data out of a definition, `values` and `program` evaluate what is left over unknown values, `world`
says what may happen to a run at rest, `explore` finds every state that can be come to, `labels` say what a step means,
`decide` answers, `concrete` looks for a real run that goes the way of a counterexample. docs/verify.md says what of all
this is sound.
"""
