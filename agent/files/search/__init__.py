"""Finding text in files, finding names, and replacing text."""
