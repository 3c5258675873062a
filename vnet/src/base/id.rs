//! Generational identifiers: a slot is reused, an identifier is not, so a stale one resolves to
//! nothing instead of to another object.

use slotmap::new_key_type;

new_key_type! {
    /// An interface within one vnet. Never valid in another vnet.
    pub struct IfId;
}
