"""The command line: parse options, call one function, print.

In: Arguments of `labelfix ...`.
Out: Text on stdout, progress and errors on stderr, an exit code.
"""
