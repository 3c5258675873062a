//! Side by side with other stacks: see `src/bin/compare.rs`.
