"""Data sets from files in their published formats; nothing is ever downloaded.

A file that is missing is a `FileNotFoundError` that says what to put where, one that is damaged a
`ValueError` that names it.
"""
