//! The rule of packets that nobody looked at closely, from others that somebody did.

use std::collections::HashMap;

use droptrace_types::{Cause, Counts, Detail, Key};

/// Details of one interval, by what decided. Under many new flows only some packets
/// are looked at closely. What stands at the same place in the same interval is the
/// same rule, if it was not replaced meanwhile: so it is inferred, not observed.
pub struct Fellows(HashMap<Decided, Box<Detail>>);

/// Network namespace, where the packet was freed, and the address of what decided.
type Decided = (u32, u64, u64);

fn decided(cause: &Cause) -> Decided {
    (cause.netns, cause.location, cause.rule)
}

impl Fellows {
    /// Of what was counted in an interval. Empty if nobody needs one.
    pub fn of(counts: &[(Key, Counts, Option<Box<Detail>>)]) -> Self {
        let is_ruled = |key: &Key| key.cause.rule != 0;
        let needs_one = |(key, _, detail): &(Key, _, Option<_>)| detail.is_none() && is_ruled(key);
        let mut details = HashMap::new();
        if counts.iter().any(needs_one) {
            for (key, _, detail) in counts {
                if let Some(detail) = detail.as_ref().filter(|_| is_ruled(key)) {
                    details
                        .entry(decided(&key.cause))
                        .or_insert_with(|| detail.clone());
                }
            }
        }
        Self(details)
    }

    /// What is known of another packet about which the same decided.
    pub fn find(&self, key: &Key) -> Option<&Detail> {
        self.0.get(&decided(&key.cause)).map(|detail| &**detail)
    }
}
