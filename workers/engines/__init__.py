"""One file per engine; each implements a protocol of `shared.protocols`."""
