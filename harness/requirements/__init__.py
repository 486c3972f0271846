"""What a user requires of a deployed classifier, line by line, and whether a finished run meets it.

Works on a run folder alone: knows no model, no device and no attack, and imports no torch. A new kind of requirement is one entry in
`kinds.KINDS` and, where no reader there fits, one function that reads its figure.
"""
