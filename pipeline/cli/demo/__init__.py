"""`greenroom demo`: a push that passes, one that fails and is held, and its fix, on a deployment of its own."""
