//! Fewer routes for the same ways: where all prefixes in a block of addresses are reached by one gateway, a
//! route to the block does for them.
//!
//! A block is the least one with all of these prefixes in it, and at least half of its addresses are theirs, so that
//! routes look like what somebody would write. Of the others nobody has one: they take the way of the
//! prefixes around them and are refused where these are. They go in no loop, for the ways of prefixes do not, and each
//! router that has a route to such an address sends it where it sends the prefixes of the least block with the
//! address in it; that is the same block for every router. A router with a route of its own for some of them, such as
//! a default route, would send them elsewhere, perhaps back: what such a route has to do with is no block, unless all of
//! it is in prefixes.

use ipnet::IpNet;

/// The prefixes of a topology of one family, as a tree of blocks.
pub(super) struct Blocks {
    /// Each after those in it.
    blocks: Vec<Block>,
}

struct Block {
    net: IpNet,
    /// The number of the prefix that is the whole of it.
    prefix: Option<usize>,
    /// The blocks in it, which are parts of its halves.
    parts: Vec<usize>,
    /// Enough of its addresses are in prefixes.
    is_dense: bool,
    /// The part of it that is in prefixes.
    share: f64,
}

/// A number for where addresses are sent, or none where they are not sent to a gateway.
pub(super) type Gateway = Option<u32>;

impl Blocks {
    /// The blocks of prefixes, each of which is there once, by network and length. What is `written` somewhere is the
    /// destination of a route that a router does not have from here.
    pub(super) fn of(prefixes: &[IpNet], written: &[IpNet]) -> Blocks {
        let mut blocks = Blocks { blocks: Vec::new() };
        if !prefixes.is_empty() {
            blocks.add(prefixes, 0, false);
        }
        for block in &mut blocks.blocks {
            let meets = |w: &IpNet| w.contains(&block.net) || block.net.contains(w);
            // All of a whole block is in prefixes.
            block.is_dense &= block.share >= 1.0 || !written.iter().any(meets);
        }
        blocks
    }

    /// Adds the block of these prefixes, of which the first has that number.
    fn add(&mut self, prefixes: &[IpNet], first: usize, is_within_prefix: bool) -> usize {
        let (low, high) = (prefixes[0], prefixes[prefixes.len() - 1]);
        let net = least_with(low, high);
        let prefix = (low == net).then_some(first);
        let own = usize::from(prefix.is_some());
        let rest = &prefixes[own..];
        let middle = rest.partition_point(|p| !bit(p, net.prefix_len()));
        let halves = [(&rest[..middle], 0), (&rest[middle..], middle)];
        let parts: Vec<usize> = halves
            .into_iter()
            .filter(|(half, _)| !half.is_empty())
            .map(|(half, skipped)| {
                let is_within_prefix = is_within_prefix || prefix.is_some();
                self.add(half, first + own + skipped, is_within_prefix)
            })
            .collect();
        let share = match prefix {
            Some(_) => 1.0,
            None => parts.iter().map(|part| self.share_in(*part, &net)).sum(),
        };
        self.blocks.push(Block {
            net,
            prefix,
            parts,
            // Inside a prefix, all other addresses are those of the prefix.
            is_dense: share >= if is_within_prefix { 1.0 } else { 0.5 },
            share,
        });
        self.blocks.len() - 1
    }

    fn share_in(&self, part: usize, whole: &IpNet) -> f64 {
        let part = &self.blocks[part];
        let bits = part.net.prefix_len() - whole.prefix_len();
        part.share * 0.5_f64.powi(bits.into())
    }

    /// The routes of a vnet, where `gateway` is where it sends each prefix by its number. Routes that it has already
    /// are `written`: what they are about is left as it is.
    pub(super) fn routes(
        &self,
        gateway: impl Fn(usize) -> Gateway,
        written: &[IpNet],
    ) -> Vec<(IpNet, u32)> {
        let mut routes = Vec::new();
        // Where each block is sent that is sent to one place.
        let mut sent: Vec<Option<Gateway>> = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let own = block.prefix.map(&gateway);
            let common = own.or_else(|| sent[block.parts[0]]);
            let mut parts = block.parts.iter();
            let is_alike = common.is_some() && parts.all(|part| sent[*part] == common);
            // What is written for a part of the block is not to come between.
            let is_cut = !block.parts.is_empty() && written.iter().any(|w| block.net.contains(w));
            let is_free =
                || block.is_dense && !is_cut && !written.iter().any(|w| w.contains(&block.net));
            let is_one = match own {
                Some(_) => !is_cut,
                None => is_free(),
            };
            if is_alike && (is_one || common == Some(None)) {
                sent.push(common);
                continue;
            }
            for part in &block.parts {
                if let Some(Some(to)) = sent[*part]
                    && (is_cut || own != Some(Some(to)))
                {
                    routes.push((self.blocks[*part].net, to));
                }
            }
            if let Some(Some(to)) = own {
                routes.push((block.net, to));
            }
            sent.push(None);
        }
        if let (Some(root), Some(Some(Some(to)))) = (self.blocks.last(), sent.last()) {
            routes.push((root.net, *to));
        }
        routes.sort_unstable();
        routes
    }
}

/// The bits of an address, from the left.
fn bits(net: &IpNet) -> u128 {
    match net {
        IpNet::V4(net) => u128::from(net.network().to_bits()) << 96,
        IpNet::V6(net) => net.network().to_bits(),
    }
}

/// The bit after so many.
fn bit(net: &IpNet, after: u8) -> bool {
    bits(net) << after >> 127 == 1
}

/// The least block with both in it.
fn least_with(a: IpNet, b: IpNet) -> IpNet {
    let same = (bits(&a) ^ bits(&b)).leading_zeros() as u8;
    let len = same.min(a.prefix_len()).min(b.prefix_len());
    let block = IpNet::new(a.network(), len).expect("it is not longer than a prefix");
    block.trunc()
}

#[cfg(test)]
mod tests;
