"""Changes a repository: fetch, merge, rebase, cherry-pick, stash, tags, worktrees."""
