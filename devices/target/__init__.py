"""What runs on a device that is reached by SSH, beside the worker: it keeps files, starts the worker and tells how it fares.

Standard library only, Python >= 3.10. It travels in the worker's archive. Knows no job, no runtime and no result.
"""
