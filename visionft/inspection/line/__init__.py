"""The inspector on the line: photos come from a camera, a film or a folder, and verdicts are handed on."""
