"""What a device is and how it is reached from here: profiles, transports, sessions with engines, timing in rounds.

Knows no PyTorch, no attack and no verdict, and no runtime: an engine is bytes in, bytes out.
"""
