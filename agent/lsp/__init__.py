"""Language servers: one for each project and family of languages, asked over HTTP."""
