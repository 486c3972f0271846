"""The programme on the workstation: command line, models, data, training, attacks, audit and the record.

Knows how to ask for an artefact (`export`), for measurements (`devices`) and for a report (`reports`);
does not know how any of the three is made. Importing `harness` alone imports no torch.
"""

__version__ = "0.1.0"
