//! Numbers by labels that can have any number of values: few of them get a number of
//! their own, all others share one.
//!
//! Once a label has its own number it keeps it, so that no number ever falls. The first
//! half of the places goes to who comes first. The other half is for who has, while still
//! counted as `other`, an even share of all packets (one N-th of them, for N places): at
//! most N labels can have that at a time. Its own number begins at 0 then, and what came
//! before stays in `other`: the sum is always that of all packets.

use std::{collections::BTreeMap, ops::AddAssign};

use super::counters::{Series, Value};

/// The label of what has no number of its own.
const OTHER: &str = "other";
/// Bytes that a label has at most: tables, chains and namespaces are named by others.
const MAX_TEXT: usize = 64;
/// For each place, labels without one that are watched.
const WATCHED: usize = 4;

/// Packets, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub packets: u64,
    /// How long.
    pub bytes: u64,
}

impl Amount {
    /// [`Amount::packets`].
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    /// [`Amount::bytes`].
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, more: Self) {
        self.packets = self.packets.saturating_add(more.packets);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

/// Amounts by `N` labels.
#[derive(Debug)]
pub struct Top<const N: usize> {
    names: [&'static str; N],
    places: usize,
    own: BTreeMap<[String; N], Amount>,
    other: Amount,
    /// Packets of labels without a number of their own, less than they had where they are
    /// many.
    watched: BTreeMap<[String; N], u64>,
    total: u64,
}

impl<const N: usize> Top<N> {
    /// With this many numbers, and one for the rest.
    #[must_use]
    pub fn new(names: [&'static str; N], places: usize) -> Self {
        Self {
            names,
            places,
            own: BTreeMap::new(),
            other: Amount::default(),
            watched: BTreeMap::new(),
            total: 0,
        }
    }

    /// Adds to the number of these labels.
    pub fn add(&mut self, labels: [&str; N], amount: Amount) {
        let labels = labels.map(bounded);
        self.total = self.total.saturating_add(amount.packets);
        if let Some(own) = self.own.get_mut(&labels) {
            *own += amount;
        } else if self.own.len() < self.places.div_ceil(2) {
            self.own.insert(labels, amount);
        } else {
            self.other += amount;
            if self.own.len() < self.places {
                self.watch(labels, amount.packets);
            } else {
                self.watched.clear();
            }
        }
    }

    /// Counts for a label what may give it a number of its own (after Misra and Gries, who
    /// find all that have a large share with few counters).
    fn watch(&mut self, labels: [String; N], packets: u64) {
        if let Some(count) = self.watched.get_mut(&labels) {
            *count = count.saturating_add(packets);
        } else if self.watched.len() < self.places.saturating_mul(WATCHED) {
            self.watched.insert(labels.clone(), packets);
        } else {
            let least = self.watched.values().copied().min().unwrap_or(0);
            let less = least.min(packets).max(1);
            self.watched.retain(|_, count| {
                *count = count.saturating_sub(less);
                *count > 0
            });
            if packets > less {
                self.watched.insert(labels.clone(), packets - less);
            }
        }
        let count = self.watched.get(&labels).copied().unwrap_or(0);
        if count > 0 && count.saturating_mul(self.places as u64) >= self.total {
            self.watched.remove(&labels);
            self.own.insert(labels, Amount::default());
        }
    }

    /// The numbers, that of the rest last.
    pub fn series(&self, value: fn(&Amount) -> u64) -> Vec<Series> {
        let series = |labels: Vec<String>, amount: &Amount| Series {
            labels: self.names.into_iter().zip(labels).collect(),
            value: Value::Count(value(amount)),
        };
        let rest: [String; N] = std::array::from_fn(|_| OTHER.to_owned());
        let mut other = self.other;
        // Somebody may have given something this very name.
        if let Some(own) = self.own.get(&rest) {
            other += *own;
        }
        self.own
            .iter()
            .filter(|(labels, _)| **labels != rest)
            .map(|(labels, amount)| series(labels.to_vec(), amount))
            .chain([series(rest.to_vec(), &other)])
            .collect()
    }
}

/// A text of bounded length, without characters that a reader could stumble over.
fn bounded(text: &str) -> String {
    let plain = |letter: char| {
        if letter.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            letter
        }
    };
    let mut text: String = text.chars().take(MAX_TEXT + 1).map(plain).collect();
    if text.len() > MAX_TEXT {
        let mut end = MAX_TEXT - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(packets: u64) -> Amount {
        Amount {
            packets,
            bytes: packets * 100,
        }
    }

    fn numbers(top: &Top<1>) -> BTreeMap<String, u64> {
        let series = top.series(Amount::packets);
        let count = series.len();
        let numbers: BTreeMap<_, _> = series
            .into_iter()
            .map(|series| match series.value {
                Value::Count(count) => (series.labels[0].1.clone(), count),
                Value::Real(_) => unreachable!(),
            })
            .collect();
        assert_eq!(numbers.len(), count, "a label twice");
        numbers
    }

    #[test]
    fn numbers_never_fall_and_their_sum_is_exact() {
        let mut top = Top::new(["of"], 8);
        let mut sum = 0;
        let mut before = BTreeMap::new();
        // A small generator of numbers that look like none.
        let mut state = 1_u64;
        for step in 0..20_000_u64 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let label = match (state >> 33) % 10 {
                0..6 => format!("large-{}", (state >> 40) % 3),
                _ => format!("small-{}", state >> 50),
            };
            let amount = (state >> 20) % 5;
            sum += amount;
            top.add([&label], packets(amount));
            if step % 100 == 0 {
                let now = numbers(&top);
                assert!(now.len() <= 9);
                assert_eq!(now.values().sum::<u64>(), sum);
                for (label, count) in &before {
                    assert!(now[label] >= *count, "{label} fell");
                }
                before = now;
            }
        }
        for large in ["large-0", "large-1", "large-2"] {
            assert!(before.contains_key(large), "{large} has no number");
        }
    }

    #[test]
    fn who_comes_late_and_is_large_gets_a_number() {
        let mut top = Top::new(["of"], 4);
        for early in ["a", "b"] {
            top.add([early], packets(10));
        }
        for n in 0..1000 {
            top.add([&format!("small-{n}")], packets(1));
        }
        top.add(["late"], packets(1000));
        assert_eq!(numbers(&top)["late"], 0);
        top.add(["late"], packets(5));
        let now = numbers(&top);
        assert_eq!(now["late"], 5);
        assert_eq!(now[OTHER], 2000);
        assert_eq!(now["a"], 10);
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let mut top = Top::new(["of"], 10);
        for n in 0..100_000 {
            top.add([&format!("{n}")], packets(n % 3));
            assert!(top.watched.len() <= 40 && top.own.len() <= 10);
        }
        let mut none = Top::new(["of"], 0);
        none.add(["a"], packets(1));
        assert_eq!(numbers(&none), BTreeMap::from([(OTHER.to_owned(), 1)]));
    }

    #[test]
    fn what_is_named_other_is_counted_with_the_others() {
        let mut top = Top::new(["of"], 4);
        top.add([OTHER], packets(3));
        top.add(["a"], packets(1));
        top.add(["b"], packets(1));
        assert_eq!(numbers(&top)[OTHER], 4);
    }

    #[test]
    fn hostile_texts_are_cut() {
        assert_eq!(bounded("input"), "input");
        assert_eq!(bounded(&"x".repeat(64)), "x".repeat(64));
        let cut = bounded(&"ü".repeat(500));
        assert!(cut.len() <= MAX_TEXT && cut.ends_with('…'), "{cut}");
        assert_eq!(bounded("a\nb\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m");
        let wide = bounded(&"\n".repeat(60));
        assert!(wide.len() <= MAX_TEXT, "{wide}");
    }
}
