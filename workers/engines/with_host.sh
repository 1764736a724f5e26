#!/bin/sh
# Runs a child process of the engine so that the kernel ends it with its host, from its first moment on.
exec setpriv --pdeathsig KILL "$MAEARI_CHILD_PYTHON" "$@"
