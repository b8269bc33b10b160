"""`pcalm-conformance compare`: is it right, fast and lean, and does it learn; any implementations on one page.

cells       the problems, and copies of one that look like others and have its answer
clocks      what a tree of processes has computed and waited, seen from outside
timing      implementations in turns, and their figures
memory, training, suite    the other questions
records     what is kept of it; tables and page are made from records
command     the command line
"""
