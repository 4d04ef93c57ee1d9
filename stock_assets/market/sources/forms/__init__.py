"""How bars stand in files, one module a step.

`listing` names the files of a folder, `opening` makes a frame of one, `columns` finds our columns in it, `days` its
dates, `minutes` makes bars of sessions of bars of minutes, and `bars` puts the steps together.
"""
