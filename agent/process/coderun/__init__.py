"""Code in Python, JavaScript and TypeScript, and the charts it makes."""
