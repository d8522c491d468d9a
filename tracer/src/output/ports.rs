//! Which ports a folded line stands for.

use super::text::number;

/// So many different ports are told apart for one line.
const MOST: usize = 1_000;

/// A set of ports of bounded size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ports {
    sorted: Vec<u16>,
    more: bool,
}

impl Ports {
    /// Adds a port.
    pub fn add(&mut self, port: u16) {
        if let Err(place) = self.sorted.binary_search(&port) {
            if self.sorted.len() < MOST {
                self.sorted.insert(place, port);
            } else {
                self.more = true;
            }
        }
    }

    /// Adds all ports of another set.
    pub fn extend(&mut self, other: &Self) {
        for port in &other.sorted {
            self.add(*port);
        }
        self.more |= other.more;
    }

    /// The port, where there is only one.
    pub fn only(&self) -> Option<u16> {
        match self.sorted[..] {
            [port] => Some(port),
            _ => None,
        }
    }

    /// `(37 ports)`; nothing for a single one.
    pub fn note(&self) -> Option<String> {
        if self.sorted.len() < 2 {
            return None;
        }
        let more = if self.more { "+" } else { "" };
        Some(format!(
            "({}{more} ports)",
            number(self.sorted.len() as u64)
        ))
    }
}
