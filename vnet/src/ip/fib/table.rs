//! The routes of a table by prefix: a list in order while they are few, a trie once they are more. Even an empty trie is
//! large, and most vnets have three routes.

use prefix_trie::PrefixMap;

use crate::ip::family::Family;

/// Prefixes up to which they are in a list, which is searched from one end to the other.
const FEW: usize = 8;

type Trie<F, L> = PrefixMap<<F as Family>::Net, L>;
/// What of a table is in a list, and what in a trie.
type Halves<'a, F, L> = (&'a [(<F as Family>::Net, L)], Option<&'a Trie<F, L>>);

/// The routes to a prefix, in a list of a kind `L`, by that prefix, whose bits behind it are zero.
pub(super) enum Table<F: Family, L> {
    /// In the order of the prefixes: what is around another one is before it.
    Few(Vec<(F::Net, L)>),
    /// There have been more than [`FEW`], and at least one since.
    Many(Box<Trie<F, L>>),
}

impl<F: Family, L> Default for Table<F, L> {
    /// Empty, without memory.
    fn default() -> Table<F, L> {
        Table::Few(Vec::new())
    }
}

impl<F: Family, L> Table<F, L> {
    pub(super) fn get(&self, net: F::Net) -> Option<&L> {
        match self {
            Table::Few(few) => few.iter().find(|(n, _)| *n == net).map(|(_, l)| l),
            Table::Many(many) => many.get(&net),
        }
    }

    pub(super) fn get_mut(&mut self, net: F::Net) -> Option<&mut L> {
        match self {
            Table::Few(few) => few.iter_mut().find(|(n, _)| *n == net).map(|(_, l)| l),
            Table::Many(many) => many.get_mut(&net),
        }
    }

    /// Adds the routes to a prefix to which there are none.
    pub(super) fn insert(&mut self, net: F::Net, list: L) {
        match self {
            Table::Few(few) if few.len() < FEW => {
                let at = few.partition_point(|(n, _)| *n < net);
                few.reserve_exact(1);
                few.insert(at, (net, list));
            }
            Table::Few(few) => {
                let mut many: Trie<F, L> = std::mem::take(few).into_iter().collect();
                many.insert(net, list);
                *self = Table::Many(Box::new(many));
            }
            Table::Many(many) => {
                many.insert(net, list);
            }
        }
    }

    pub(super) fn remove(&mut self, net: F::Net) {
        match self {
            Table::Few(few) => few.retain(|(n, _)| *n != net),
            Table::Many(many) => drop(many.remove(&net)),
        }
    }

    /// Removes the prefixes whose routes `keep` rejects.
    pub(super) fn retain(&mut self, keep: impl Fn(&L) -> bool) {
        match self {
            Table::Few(few) => few.retain(|(_, list)| keep(list)),
            Table::Many(many) => many.retain(|_, list| keep(list)),
        }
    }

    fn split(&self) -> Halves<'_, F, L> {
        match self {
            Table::Few(few) => (few, None),
            Table::Many(many) => (&[], Some(many)),
        }
    }

    /// All prefixes, in order, and the routes to them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (F::Net, &L)> {
        let (few, many) = self.split();
        let few = few.iter().map(|(net, list)| (*net, list));
        few.chain(many.into_iter().flat_map(|many| many.iter()))
    }

    /// The same, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (F::Net, &mut L)> {
        let (few, many) = match self {
            Table::Few(few) => (&mut few[..], None),
            Table::Many(many) => (&mut [][..], Some(many)),
        };
        let few = few.iter_mut().map(|(net, list)| (*net, list));
        few.chain(many.into_iter().flat_map(|many| many.iter_mut()))
    }

    /// The prefixes that `net` is in, itself included, the shortest first.
    pub(super) fn cover(&self, net: F::Net) -> impl Iterator<Item = (F::Net, &L)> {
        let (few, many) = self.split();
        let around =
            move |n: F::Net| F::prefix_len(n) <= F::prefix_len(net) && F::contains(n, F::addr(net));
        let few = few.iter().filter(move |(n, _)| around(*n));
        let few = few.map(|(net, list)| (*net, list));
        few.chain(many.into_iter().flat_map(move |many| many.cover(&net)))
    }

    /// The routes to the longest prefix that an address is in.
    pub(super) fn longest(&self, addr: F::Addr) -> Option<&L> {
        let host = F::host(addr);
        match self {
            Table::Few(_) => self.cover(host).last().map(|(_, list)| list),
            Table::Many(many) => many.get_lpm(&host).map(|(_, list)| list),
        }
    }

    /// Whether there are longer prefixes in `net`.
    pub(super) fn has_longer(&self, net: F::Net) -> bool {
        let is_longer = |n: F::Net| F::prefix_len(n) > F::prefix_len(net);
        match self {
            Table::Few(few) => few
                .iter()
                .any(|(n, _)| is_longer(*n) && F::contains(net, F::addr(*n))),
            // The first of them may be the prefix itself.
            Table::Many(many) => many.children(&net).take(2).any(|(n, _)| is_longer(n)),
        }
    }
}
