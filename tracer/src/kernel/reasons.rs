//! The reasons that the running kernel gives, by name and number.

use super::btf::Btf;

/// The reason by which the kernel says nothing.
pub const NOT_SPECIFIED: &str = "NOT_SPECIFIED";

/// Which of the kernel's lists a reason is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum List {
    /// `enum skb_drop_reason` and the subsystems' own lists.
    Drop,
    /// `enum sk_rst_reason`.
    Reset,
}

/// A reason of the running kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which list it is from.
    pub list: List,
    /// Its number, with the subsystem in the upper half.
    pub code: u32,
    /// Its name, without the prefix that all of its list share.
    pub name: String,
    /// `core`, `tcp_reset`, or the subsystem.
    pub subsystem: String,
}

/// All reasons of the running kernel.
#[derive(Clone, Debug, Default)]
pub struct Reasons {
    /// Sorted by list and number.
    known: Vec<Known>,
}

impl Reasons {
    /// From the kernel's BTF. Empty where the kernel gives no reasons.
    #[must_use]
    pub fn from_btf(btf: &Btf) -> Self {
        let mut known = Vec::new();
        for (name, value) in btf.enumerators("skb_drop_reason").unwrap_or_default() {
            let is_mark = name.ends_with("_MAX") || name.ends_with("_MASK") || value == 0;
            if let (false, Ok(code)) = (is_mark, u32::try_from(value)) {
                let name = strip(name, &["SKB_DROP_REASON_", "SKB_"]);
                known.push(Known {
                    list: List::Drop,
                    code,
                    name,
                    subsystem: "core".to_owned(),
                });
            }
        }
        for (name, value) in btf.enumerators("sk_rst_reason").unwrap_or_default() {
            if let (false, Ok(code)) = (name.ends_with("_MAX"), u32::try_from(value)) {
                let name = strip(name, &["SK_RST_REASON_"]);
                let subsystem = "tcp_reset".to_owned();
                known.push(Known {
                    list: List::Reset,
                    code,
                    name,
                    subsystem,
                });
            }
        }
        add_subsystems(btf, &mut known);
        let mut reasons = Self { known };
        reasons.sort();
        reasons
    }

    /// Adds those of a module.
    pub fn add_module(&mut self, btf: &Btf) {
        add_subsystems(btf, &mut self.known);
        self.sort();
    }

    fn sort(&mut self) {
        self.known.sort_by_key(|reason| (reason.list, reason.code));
        self.known.dedup_by_key(|reason| (reason.list, reason.code));
    }

    /// The reason with this number.
    #[must_use]
    pub fn get(&self, list: List, code: u32) -> Option<&Known> {
        let at = self
            .known
            .binary_search_by_key(&(list, code), |known| (known.list, known.code));
        Some(&self.known[at.ok()?])
    }

    /// All of them, sorted by list and number.
    #[must_use]
    pub fn all(&self) -> &[Known] {
        &self.known
    }

    /// How many drop reasons there are.
    #[must_use]
    pub fn drops(&self) -> usize {
        let drops = self.known.iter().filter(|known| known.list == List::Drop);
        drops.count()
    }

    /// Those called `name`, in any case and with or without the kernel's
    /// prefix: a drop reason, a reset reason, or both.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<&Known> {
        let upper = name.to_ascii_uppercase();
        let short = strip(&upper, &["SKB_DROP_REASON_", "SK_RST_REASON_", "SKB_"]);
        self.known
            .iter()
            .filter(|known| known.name == short || known.name == upper)
            .collect()
    }

    /// The names most like `name`, best first.
    #[must_use]
    pub fn similar(&self, name: &str) -> Vec<&str> {
        let upper = name.to_ascii_uppercase();
        let mut scored: Vec<(f64, &str)> = self
            .known
            .iter()
            .map(|known| (strsim::jaro_winkler(&upper, &known.name), &*known.name))
            .filter(|(score, name)| *score > 0.75 || name.contains(&upper))
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        scored.dedup_by_key(|(_, name)| *name);
        scored.into_iter().take(3).map(|(_, name)| name).collect()
    }
}

/// Lists of subsystems are enums called `…_drop_reason` whose values carry the
/// subsystem's number in their upper half.
fn add_subsystems(btf: &Btf, known: &mut Vec<Known>) {
    let subsystems = btf
        .enumerators("skb_drop_reason_subsys")
        .unwrap_or_default();
    for list in btf
        .enum_names()
        .filter(|name| name.ends_with("_drop_reason"))
    {
        for (name, value) in btf.enumerators(list).unwrap_or_default() {
            let Ok(code) = u32::try_from(value) else {
                continue;
            };
            let number = u64::from(code >> 16);
            let subsystem = subsystems
                .iter()
                .find(|(_, value)| *value == number && number != 0);
            let is_mark =
                name.starts_with('_') || name.ends_with("_MAX") || code.trailing_zeros() >= 16;
            if let (Some((subsystem, _)), false) = (subsystem, is_mark) {
                let subsystem = strip(subsystem, &["SKB_DROP_REASON_SUBSYS_"]).to_ascii_lowercase();
                known.push(Known {
                    list: List::Drop,
                    code,
                    name: name.to_owned(),
                    subsystem,
                });
            }
        }
    }
}

fn strip(name: &str, prefixes: &[&str]) -> String {
    let short = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
    short.unwrap_or(name).to_owned()
}
