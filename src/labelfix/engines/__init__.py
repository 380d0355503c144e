"""Engines that compute rows of samples on several machines.

In: work over shards, as of `labelfix.utils.shards`. Out: the same rows that one machine computes.
Each engine is a module that alone knows its library; `plan` opens the one that is asked for.
"""
