//! The rule sets that one network namespace had, each by its generation, and
//! which of them was in force at a moment.

use std::{collections::VecDeque, path::PathBuf, sync::Arc};

use super::{
    ChainAt,
    listing::{Listed, Listing},
};

/// Generations that are kept of a namespace.
const MAX_KEPT: usize = 8;

/// What is known of one namespace's rule sets. Times are nanoseconds of the
/// kernel's monotonic clock.
#[derive(Debug, Default)]
pub struct History {
    /// The namespace's own number, 0 where the kernel does not tell.
    pub cookie: u64,
    /// A file that stands for the namespace; `None` for the tracer's own.
    pub namespace: Option<PathBuf>,
    /// All changes up to then are known of, if not what they made of it.
    pub sure_ns: u64,
    /// A rule set is about to be read.
    pub is_read: bool,
    /// Oldest first.
    kept: VecDeque<Kept>,
}

/// A rule set, and when it was in force.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its first generation, and the last one with the same rules.
    pub generations: (u32, u32),
    /// The listing is of this generation for certain.
    pub is_certain: bool,
    /// From then on it was in force.
    pub from_ns: u64,
    /// And until then at least.
    pub until_ns: u64,
    /// When it was noticed that another was in force.
    pub ended_ns: Option<u64>,
    /// Its rules.
    pub listing: Arc<Listing>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Sought<'a> {
    /// Family of the table, where it is known.
    pub family: Option<&'a str>,
    /// Table and chain.
    pub chain: &'a ChainAt,
    /// Handle of the rule; 0 for the chain's policy.
    pub rule: u64,
}

impl Kept {
    fn was_in_force(&self, ns: u64) -> bool {
        self.is_certain && (self.from_ns..=self.until_ns).contains(&ns)
    }

    fn find(&self, at: Sought<'_>) -> Option<Listed<'_>> {
        let [table, chain] = self.listing.handles(at.family, at.chain)?;
        self.listing.find(at.family, table, chain, at.rule)
    }

    /// How unlikely it was in force; the less of two was the more likely one.
    fn doubt(&self, ns: u64) -> (u8, u64) {
        match self.ended_ns {
            _ if ns < self.from_ns => (1, self.from_ns - ns),
            Some(ended) if ns >= ended => (2, ns - ended),
            _ => (0, 0),
        }
    }
}

impl History {
    /// The newest rule set.
    pub fn newest(&self) -> Option<&Kept> {
        self.kept.back()
    }

    /// Forgets all, since it was of another namespace that had the same number.
    pub fn begin(&mut self, cookie: u64, namespace: Option<PathBuf>) {
        self.kept.clear();
        self.cookie = cookie;
        self.namespace = namespace;
    }

    /// Adds a rule set that was read.
    pub fn add(&mut self, kept: Kept) {
        let newest = self.kept.back_mut().filter(|newest| newest.is_certain);
        if let Some(same) = newest.filter(|newest| newest.generations.1 == kept.generations.0) {
            same.until_ns = same.until_ns.max(kept.until_ns);
            return;
        }
        self.changed(kept.from_ns);
        self.kept.push_back(kept);
        if self.kept.len() > MAX_KEPT {
            self.kept.pop_front();
        }
    }

    /// The newest rule set was still in force then, in this generation, which
    /// has the same rules as the one that was read.
    pub fn confirm(&mut self, generation: u32, ns: u64) {
        if let Some(newest) = self.kept.back_mut().filter(|newest| newest.is_certain) {
            newest.generations.1 = generation;
            newest.until_ns = newest.until_ns.max(ns);
        }
        self.sure_ns = self.sure_ns.max(ns);
    }

    /// Whether the newest rule set is still in force in this generation, before which
    /// so many changes of elements alone were heard of. Of one change, what it was and
    /// that there is a new generation may be heard apart: once something else has
    /// changed, the rest says nothing.
    pub fn is_still(&self, generation: u32, elements: u32) -> bool {
        self.newest().is_some_and(|newest| {
            let last = newest.generations.1;
            let may_differ = newest.ended_ns.is_none() && !newest.listing.has_maps();
            generation == last || (may_differ && generation == last.wrapping_add(elements))
        })
    }

    /// The newest rule set is no longer in force.
    pub fn changed(&mut self, ns: u64) {
        if let Some(newest) = self.kept.back_mut() {
            newest.ended_ns.get_or_insert(ns);
        }
    }

    /// Forgets what ended before then, but not the newest.
    pub fn forget(&mut self, ns: u64) {
        let is_old = |kept: &Kept| kept.ended_ns.is_some_and(|ended| ended < ns);
        while self.kept.front().is_some_and(is_old) && self.forget_oldest() {}
    }

    /// Forgets the oldest; false if there is none beside the newest.
    pub fn forget_oldest(&mut self) -> bool {
        self.kept.len() > 1 && self.kept.pop_front().is_some()
    }

    /// About how much memory it takes.
    pub fn size(&self) -> usize {
        self.kept.iter().map(|kept| kept.listing.size()).sum()
    }

    /// What the rule set said at a moment, and whether that is certain. Else it
    /// is what one said that was in force before or afterwards.
    pub fn find(&self, at: Sought<'_>, ns: u64) -> Option<(Listed<'_>, bool)> {
        let is_there = |found: &Listed<'_>| found.rule.is_some() || at.rule == 0;
        let then = self.kept.iter().find(|kept| kept.was_in_force(ns));
        if let Some(found) = then.and_then(|kept| kept.find(at)).filter(is_there) {
            return Some((found, true));
        }
        let mut nearest: Vec<&Kept> = self.kept.iter().collect();
        nearest.sort_by_key(|kept| kept.doubt(ns));
        let mut found: Vec<_> = nearest.iter().filter_map(|kept| kept.find(at)).collect();
        let chosen = found.iter().position(is_there).unwrap_or(0);
        let chosen = (chosen < found.len()).then(|| found.swap_remove(chosen))?;
        let neighbours = self.neighbours(ns).into_iter().flatten();
        let said: Vec<_> = neighbours
            .filter_map(|kept| kept.find(at))
            .filter(is_there)
            .collect();
        let is_certain = !said.is_empty() && said.iter().all(|said| *said == chosen);
        Some((chosen, is_certain))
    }

    /// The two generations between whose certain times this one lies, if none was
    /// between them. Which rule it was, the kernel has told: it was in one of the
    /// two, and if only one has it, or both say the same of it, that is what it was.
    fn neighbours(&self, ns: u64) -> Option<[&Kept; 2]> {
        let certain = || self.kept.iter().filter(|kept| kept.is_certain);
        let before = certain().rfind(|kept| kept.from_ns <= ns && kept.until_ns < ns)?;
        let after = certain().find(|kept| kept.from_ns > ns)?;
        (before.generations.1.wrapping_add(1) == after.generations.0).then_some([before, after])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A rule set of one chain with these rules, by handle.
    fn kept(generation: u32, from: u64, rules: &[(u64, &str)]) -> Kept {
        let lines = rules
            .iter()
            .map(|(handle, text)| format!("\t\t{text} # handle {handle}\n"));
        let lines: String = lines.collect();
        let text = format!(
            "table inet t {{ # handle 1\n\tchain c {{ # handle 1\n\
             \t\ttype filter hook input priority filter; policy drop;\n{lines}\t}}\n}}\n"
        );
        Kept {
            generations: (generation, generation),
            is_certain: true,
            from_ns: from * SECOND,
            until_ns: from * SECOND,
            ended_ns: None,
            listing: Arc::new(Listing::parse(&text)),
        }
    }

    fn at(history: &History, rule: u64, seconds: u64) -> (String, bool) {
        let sought = Sought {
            family: Some("inet"),
            chain: &ChainAt::Handles { table: 1, chain: 1 },
            rule,
        };
        let Some((found, certain)) = history.find(sought, seconds * SECOND) else {
            return said("nothing", false);
        };
        let text = found
            .rule
            .map_or(found.base.unwrap_or("-"), |(_, text)| text);
        said(text, certain)
    }

    fn said(text: &str, certain: bool) -> (String, bool) {
        (text.to_owned(), certain)
    }

    #[test]
    fn a_change_that_is_heard_in_two_parts_is_no_change_of_elements() {
        let mut history = History::default();
        history.add(kept(7, 1, &[(2, "drop")]));
        assert!(history.is_still(7, 0));
        assert!(history.is_still(8, 1));
        assert!(!history.is_still(8, 0));
        assert!(!history.is_still(9, 1));
        // A rule, it was said; the word of the new generation comes later.
        history.changed(2 * SECOND);
        assert!(!history.is_still(8, 1));
    }

    #[test]
    fn a_replaced_rule_is_told_as_it_was() {
        let mut history = History::default();
        assert_eq!(at(&history, 2, 5), said("nothing", false));
        history.add(kept(7, 10, &[(2, "one drop")]));
        history.confirm(7, 20 * SECOND);
        history.changed(30 * SECOND);
        history.add(kept(8, 40, &[(2, "two drop")]));
        history.confirm(8, 50 * SECOND);
        for (seconds, expected) in [
            // Before the first reading.
            (5, said("one drop", false)),
            (10, said("one drop", true)),
            (20, said("one drop", true)),
            // It was changed between the two.
            (25, said("one drop", false)),
            (29, said("one drop", false)),
            (30, said("two drop", false)),
            (39, said("two drop", false)),
            (40, said("two drop", true)),
            (50, said("two drop", true)),
            (51, said("two drop", false)),
        ] {
            assert_eq!(at(&history, 2, seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn what_one_change_left_alone_is_certain_all_along() {
        let mut history = History::default();
        history.add(kept(7, 10, &[(2, "one drop"), (3, "old drop")]));
        history.changed(30 * SECOND);
        history.add(kept(8, 40, &[(2, "one drop"), (4, "new drop")]));
        let both = |history: &History, rule| at(history, rule, 25);
        assert_eq!(both(&history, 2), said("one drop", true));
        // Only one generation has it, so that it was that one.
        assert_eq!(both(&history, 3), said("old drop", true));
        assert_eq!(both(&history, 4), said("new drop", true));
        assert!(at(&history, 0, 25).1);
        // Neither has it.
        assert!(!both(&history, 9).1);
        // The rules stayed the same for another generation.
        history.confirm(9, 50 * SECOND);
        history.add(kept(10, 60, &[(2, "one drop"), (4, "newer drop")]));
        assert_eq!(both(&history, 2), said("one drop", true));
        assert_eq!(at(&history, 2, 55), said("one drop", true));
        assert_eq!(at(&history, 4, 55), said("new drop", false));
        // Another one was in between.
        history.add(kept(12, 80, &[(2, "one drop")]));
        assert_eq!(at(&history, 2, 70), said("one drop", false));
    }

    #[test]
    fn a_listing_of_an_uncertain_generation_is_certain_at_no_time() {
        let mut history = History::default();
        let mut uncertain = kept(7, 10, &[(2, "one drop")]);
        uncertain.is_certain = false;
        history.add(uncertain);
        history.confirm(7, 20 * SECOND);
        for seconds in [0, 10, 15, 20, 30] {
            assert_eq!(at(&history, 2, seconds), said("one drop", false));
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut history = History::default();
        for n in 0..100 {
            history.add(kept(n, u64::from(n), &[(2, "drop")]));
        }
        assert_eq!(history.kept.len(), MAX_KEPT);
        history.forget(98 * SECOND);
        assert_eq!(history.kept.len(), 3);
        history.changed(100 * SECOND);
        history.forget(200 * SECOND);
        assert_eq!(history.kept.len(), 1);
        assert!(!history.forget_oldest());
        assert_eq!(history.newest().unwrap().generations.1, 99);
    }
}
