"""The project from a notebook or a script: nets as tables, runs in processes of their own, their curves as they grow.

What is here is reached as `nin_multi.train`, `nin_multi.compare` and `nin_multi.open_run`.
"""
