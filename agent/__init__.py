"""The toolbox agent: the daemon inside a sandbox that serves the toolbox API."""
