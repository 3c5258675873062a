//! What vnet promises, one file a promise: see `tests/`.
