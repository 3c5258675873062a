//! Which sources of a group somebody wants to hear (RFC 3376 sections 2 and 3.2, RFC 3810 sections 3 and 4.2).

use std::collections::BTreeSet;

use crate::ip::family::Family;

/// What the sources of a filter are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only these are heard.
    Include,
    /// All but these are.
    Exclude,
}

/// Which sources of a group are heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter<F: Family> {
    /// What the sources are.
    pub mode: Mode,
    /// They, in order.
    pub sources: BTreeSet<F::Addr>,
}

impl<F: Family> Filter<F> {
    /// Every source is heard.
    pub(crate) fn any() -> Filter<F> {
        Filter {
            mode: Mode::Exclude,
            sources: BTreeSet::new(),
        }
    }

    /// No source is heard, which is not to be in the group.
    pub(crate) fn none() -> Filter<F> {
        Filter {
            mode: Mode::Include,
            sources: BTreeSet::new(),
        }
    }

    /// True of the filter that lets everything through.
    pub(crate) fn is_any(&self) -> bool {
        self.mode == Mode::Exclude && self.sources.is_empty()
    }

    /// True of the filter that lets nothing through.
    pub(crate) fn is_none(&self) -> bool {
        self.mode == Mode::Include && self.sources.is_empty()
    }

    /// True when what `source` sends is heard.
    pub(crate) fn passes(&self, source: F::Addr) -> bool {
        self.sources.contains(&source) == (self.mode == Mode::Include)
    }

    /// What an interface has to hear so that each of these hears what it wants (RFC 3376 section 3.2, RFC
    /// 3810 section 4.2).
    pub(crate) fn merged<'a>(all: impl Iterator<Item = &'a Filter<F>>) -> Filter<F> {
        let mut included = BTreeSet::new();
        let mut excluded: Option<BTreeSet<F::Addr>> = None;
        for filter in all {
            match (filter.mode, &mut excluded) {
                (Mode::Include, _) => included.extend(filter.sources.iter().copied()),
                (Mode::Exclude, None) => excluded = Some(filter.sources.clone()),
                (Mode::Exclude, Some(all)) => all.retain(|one| filter.sources.contains(one)),
            }
        }
        match excluded {
            None => Filter {
                mode: Mode::Include,
                sources: included,
            },
            Some(mut sources) => {
                sources.retain(|one| !included.contains(one));
                Filter {
                    mode: Mode::Exclude,
                    sources,
                }
            }
        }
    }
}
