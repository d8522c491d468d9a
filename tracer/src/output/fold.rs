//! Which rows are folded into one: many flows that differ in one port only,
//! such as a client's connections or a port scan.

use std::{cmp::Ordering, collections::HashMap};

use super::{
    aggregate::Row,
    key::{Key, Wild},
};

/// From so many on, flows that differ in one port only are one row.
const MANY: usize = 3;

/// Folds rows. Each flow goes to the larger of the two groups that it could
/// belong to: those that share all but the sender's port, or all but the
/// receiver's. No port range has to be assumed.
pub(super) fn fold(rows: HashMap<Key, Row>) -> HashMap<Key, Row> {
    let mut sizes: HashMap<Key, usize> = HashMap::new();
    for key in rows.keys() {
        if key.wild != Wild::Nothing {
            // It was worth folding before.
            *sizes.entry(key.clone()).or_default() += MANY;
        }
        for (open, _) in [Wild::Src, Wild::Dst]
            .iter()
            .filter_map(|side| key.open(*side))
        {
            *sizes.entry(open).or_default() += 1;
        }
    }
    let mut folded: HashMap<Key, Row> = HashMap::new();
    for (key, mut row) in rows {
        let key = match target(&key, &sizes) {
            Some((open, port)) => {
                row.ports.add(port);
                open
            }
            None => key,
        };
        folded.entry(key).or_default().merge(&row);
    }
    folded
}

/// The folded key that a flow belongs to, and its port.
fn target(key: &Key, sizes: &HashMap<Key, usize>) -> Option<(Key, u16)> {
    let size = |open: &(Key, u16)| sizes.get(&open.0).copied().unwrap_or_default();
    let src = key.open(Wild::Src)?;
    let dst = key.open(Wild::Dst)?;
    let larger = match size(&src).cmp(&size(&dst)) {
        Ordering::Less => dst,
        Ordering::Equal if key.client() == Wild::Dst => dst,
        Ordering::Greater | Ordering::Equal => src,
    };
    (size(&larger) >= MANY).then_some(larger)
}
