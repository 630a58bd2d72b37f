"""The batch system: what a cluster wants to be told, the text of a job, and how to submit and follow one.

Light: the standard library and yaml alone, so that it answers at once on a login node and in every task of a job.
"""
