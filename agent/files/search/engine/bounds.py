"""What bounds a search; each one that cuts an answer short is told in a header."""

LIMIT_S = 60.0
"""Wall clock of one search; official clients wait longer than that by default."""

ANSWER_MAX_BYTES = 256 * 1024 * 1024
"""JSON of one answer, which waits on the disk until it is complete."""

CONTENT_MAX_BYTES = 64 * 1024
"""Of one line's content; lines of any length are matched all the same."""

LINE_MAX_BYTES = 16 * 1024 * 1024
"""Of one line held in memory. Behind it a text is still found, an expression is not."""

COLLECTED_MAX_BYTES = 64 * 1024 * 1024
"""Matches gathered in memory to be sorted; more are searched for in order."""

MEMORY_MAX_BYTES = 512 * 1024 * 1024
"""Data of each process: a file without line ends must not take the sandbox's memory."""

BLOCK_BYTES = 1024 * 1024
"""Read of a file at a time."""

HEAD_BYTES = 512
"""A NUL byte among so many makes a file binary (contract 10 §11)."""

CONTEXT_MAX_LINES = 100
"""Lines told before and after a match."""

WORKERS_MAX = 4
"""Processes that read files at once when there is no ripgrep."""

BATCH_FILES = 64
"""Files that a worker is given at a time."""

GROUP_HITS = 4096
"""Matches of one file turned into JSON at a time."""
