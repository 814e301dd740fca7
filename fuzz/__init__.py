"""Fuzzing of every parser that reads data from outside, guided by coverage: docs/fuzzing.md.

`targets/` has a target for each parser: a function that reads arbitrary bytes, calls the parser,
and raises where it breaks a promise. `corpus/` has the inputs that reach new code; the unit tests
replay them.
"""
