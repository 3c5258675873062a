//! The policy by which addresses are selected.

use super::record::{Op, VnetOp};
use crate::instance::privilege::Privilege;
use crate::instance::vnet::Vnet;
use crate::ip::v6::policy::{AddressPolicy, Policy};
use crate::netif::AdminError;

impl Vnet {
    /// Sets the policy table by which source addresses are selected, and destinations ordered (RFC 6724); with `None`,
    /// it is that of section 2.1. It takes effect with the next packet whose source address is not given, and the next
    /// name that is resolved.
    ///
    /// ```
    /// use vnet::{System, net::AddressPolicy};
    ///
    /// let host = System::virtual_time(1).create("host")?;
    /// let row = |prefix: &str, precedence, label| -> Result<_, Box<dyn std::error::Error>> {
    ///     Ok(AddressPolicy { prefix: prefix.parse()?, precedence, label })
    /// };
    /// // Addresses of IPv4 are tried first (RFC 6724 section 10.3).
    /// let table = vec![row("::/0", 40, 1)?, row("::ffff:0:0/96", 100, 4)?];
    /// host.set_address_policy(Some(table.clone()))?;
    /// assert_eq!(host.inspect()?.address_policy, Some(table));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Rows that are no table; see [`AddressPolicy::validate`].
    pub fn set_address_policy(&self, table: Option<Vec<AddressPolicy>>) -> Result<(), AdminError> {
        self.require(Privilege::Tunables)?;
        if let Some(table) = &table {
            AddressPolicy::validate(table)?;
        }
        self.configure(|stack, _| {
            stack.ip.policy = Policy::new(table.clone());
            Ok(Op::Vnet(VnetOp::SetAddressPolicy { table }))
        })
    }
}
