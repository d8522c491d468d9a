//! Where in the kernel's memory the tables of a network namespace are.

use std::io;

use super::{
    Kernel, bridge,
    family::Family,
    layout::{BridgeLayout, BridgeReach, IpLayout, Layout, Way},
    walk::{self, long, text, word},
};

/// Tables of a family, and hooks of a family at one place, at most.
const MAX_TABLES: usize = 16;
const MAX_HOOKS: u16 = 256;
/// Hooks of a family.
const HOOKS: usize = 5;
/// Bytes of a table at most.
const MAX_BYTES: u32 = 64 << 20;

// In a `struct ebt_table` without types:
const NAME: usize = 16;
const NAME_END: usize = 48;
/// Its pointer to its rules stands before.
const TABLE_END: usize = 112;

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub family: Family,
    pub name: String,
    /// Its own address.
    pub address: u64,
    /// Address of its pointer to its rules.
    pub pointer: u64,
    /// A bit for each hook that it is at.
    pub hooks: u32,
}

/// The rules of a table.
pub struct Rules {
    pub head: Head,
    /// What they hang on: it changes with every change of theirs.
    pub info: u64,
    /// Address from which [`walk::Rule::counters_at`] counts.
    pub counters: u64,
    /// From one CPU's counters there to the next one's; 0 where there is one set.
    pub stride: u32,
    pub memory: Vec<u8>,
}

/// What a table says of its rules.
pub enum Head {
    Ip(walk::Head),
    Bridge(bridge::Head),
}

/// What tells that a namespace has other tables than before.
pub type Signs = Vec<u8>;

/// Reads the kernel's memory, with bounds.
pub struct Reader<'a, K> {
    pub kernel: &'a mut K,
    pub layout: &'a Layout,
}

impl<K: Kernel> Reader<'_, K> {
    fn bytes(&mut self, address: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.kernel.read(address, &mut bytes)?;
        Ok(bytes)
    }

    /// A word that the kernel has at an address.
    pub fn long(&mut self, address: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.kernel.read(address, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// The `struct net` that the calling thread is in.
    pub fn own_net(&mut self) -> io::Result<u64> {
        let task = self.kernel.whereabouts()?.task;
        let proxy = self.long(task.wrapping_add(self.layout.task_nsproxy.into()))?;
        self.long(proxy.wrapping_add(self.layout.nsproxy_net.into()))
    }

    /// Inode number of a `struct net`.
    pub fn inode(&mut self, net: u64) -> io::Result<u32> {
        let bytes = self.bytes(net.wrapping_add(self.layout.net_inum.into()), 4)?;
        word(&bytes, 0).ok_or(io::ErrorKind::UnexpectedEof.into())
    }

    /// What changes when tables come or go.
    pub fn signs(&mut self, net: u64) -> io::Result<Signs> {
        let mut signs = Vec::new();
        for family in Family::ALL {
            if let Some(way) = self.layout.way(family) {
                let (at, len) = anchors(way);
                signs.extend(self.bytes(net.wrapping_add(at), len)?);
            }
        }
        Ok(signs)
    }

    /// The tables of a family, of those that have one of `names`, if there are such.
    pub fn tables(
        &mut self,
        net: u64,
        family: Family,
        names: Option<&[String]>,
    ) -> io::Result<Vec<Place>> {
        let mut places = Vec::new();
        for address in self.candidates(net, family)? {
            // What is no table cannot always be read.
            let place = self.place(address, family).ok().flatten();
            let is_listed = |place: &Place| names.is_none_or(|names| names.contains(&place.name));
            if let Some(place) = place.filter(is_listed)
                && !places.contains(&place)
            {
                places.push(place);
            }
        }
        Ok(places)
    }

    /// Addresses at which there may be a table.
    fn candidates(&mut self, net: u64, family: Family) -> io::Result<Vec<u64>> {
        let Some(way) = self.layout.way(family) else {
            return Ok(Vec::new());
        };
        let (at, len) = anchors(way);
        let anchors = self.bytes(net.wrapping_add(at), len)?;
        let mut found = Vec::new();
        match way {
            Way::List { link, .. } => {
                let mut node = long(&anchors, 0).unwrap_or(0);
                while node != net.wrapping_add(at) && node != 0 && found.len() < MAX_TABLES {
                    found.push(node.wrapping_sub(link.into()));
                    node = self.long(node)?;
                }
            }
            Way::Pointers { .. } => {
                found.extend([0, 8].map(|at| long(&anchors, at).unwrap_or(0)));
                found.retain(|address| *address != 0);
            }
            Way::Hooks { entries: form, .. } => {
                for i in 0..HOOKS {
                    let entries = long(&anchors, i * 8).unwrap_or(0);
                    if entries == 0 {
                        continue;
                    }
                    let bytes = self.bytes(entries.wrapping_add(form.count.into()), 2)?;
                    let len = bytes
                        .first_chunk()
                        .map_or(0, |len| u16::from_ne_bytes(*len));
                    for i in 0..len.min(MAX_HOOKS) {
                        let hook = u64::from(form.hooks) + u64::from(i) * u64::from(form.size);
                        let data = entries.wrapping_add(hook + u64::from(form.data));
                        found.push(self.long(data)?);
                    }
                }
                found.retain(|address| *address != 0);
                found.sort_unstable();
                found.dedup();
            }
        }
        Ok(found)
    }

    /// The table at an address, if there is one of that family.
    fn place(&mut self, address: u64, family: Family) -> io::Result<Option<Place>> {
        match (family, self.layout.ip, self.layout.bridge) {
            (Family::Bridge, _, Some(layout)) => self.bridge_place(address, &layout),
            (Family::Ip | Family::Ip6, Some(layout), _) => self.ip_place(address, family, &layout),
            _ => Ok(None),
        }
    }

    fn ip_place(
        &mut self,
        address: u64,
        family: Family,
        layout: &IpLayout,
    ) -> io::Result<Option<Place>> {
        let table = self.bytes(address, layout.table_size as usize)?;
        let place = || {
            let is_of_family = *table.get(layout.table_family as usize)? == family.number();
            let name = text(table.get(layout.table_name as usize..)?)?;
            is_of_family.then_some(Place {
                family,
                name: name.to_owned(),
                address,
                pointer: address.wrapping_add(layout.table_info.into()),
                hooks: word(&table, layout.table_hooks as usize)?,
            })
        };
        Ok(place())
    }

    fn bridge_place(&mut self, address: u64, layout: &BridgeLayout) -> io::Result<Option<Place>> {
        let (name, pointer) = match layout.reach {
            BridgeReach::Hooks {
                table_size,
                table_name,
                table_info,
                ..
            } => {
                let table = self.bytes(address, table_size as usize)?;
                let name = table.get(table_name as usize..).and_then(name_of);
                (name, Some(address.wrapping_add(table_info.into())))
            }
            BridgeReach::Pointers { .. } => {
                let table = self.bytes(address, TABLE_END)?;
                let name = table.get(NAME..NAME_END).and_then(name_of);
                (name, self.pointer_in(address, &table, layout))
            }
        };
        Ok(name.zip(pointer).map(|(name, pointer)| Place {
            family: Family::Bridge,
            name,
            address,
            pointer,
            hooks: 0,
        }))
    }

    /// Where in a `struct ebt_table` its pointer to its rules is: the only one that leads
    /// to chains.
    fn pointer_in(&mut self, address: u64, table: &[u8], layout: &BridgeLayout) -> Option<u64> {
        let places = (NAME_END..TABLE_END).step_by(8);
        let mut found = places.filter(|at| {
            let head = long(table, *at).map(|info| self.bridge_head(info, layout));
            matches!(head, Some(Ok(Some(_))))
        });
        let at = found.next()?;
        (found.next().is_none()).then(|| address.wrapping_add(at as u64))
    }

    /// The rules of a table; `None` if they change meanwhile.
    pub fn rules(&mut self, place: &Place) -> io::Result<Option<Rules>> {
        let info = self.long(place.pointer)?;
        let rules = match (place.family, self.layout.ip, self.layout.bridge) {
            (Family::Ip, Some(layout), _) => {
                self.ip_rules(place, info, walk::IPT_ADDRESSES, &layout)?
            }
            (Family::Ip6, Some(layout), _) => {
                self.ip_rules(place, info, walk::IP6T_ADDRESSES, &layout)?
            }
            (Family::Bridge, _, Some(layout)) => self.bridge_rules(info, &layout)?,
            _ => None,
        };
        let is_same = self.long(place.pointer)? == info;
        Ok(rules.filter(|_| is_same))
    }

    fn ip_rules(
        &mut self,
        place: &Place,
        info: u64,
        addresses: usize,
        layout: &IpLayout,
    ) -> io::Result<Option<Rules>> {
        let bytes = self.bytes(info, layout.info_entries as usize)?;
        let five = |at: u32| {
            let mut words = [0; HOOKS];
            for (i, to) in words.iter_mut().enumerate() {
                *to = word(&bytes, at as usize + i * 4)?;
            }
            Some(words)
        };
        let head = || {
            Some(walk::Head {
                addresses,
                hooks: place.hooks,
                number: word(&bytes, layout.info_number as usize)?,
                entry: five(layout.info_entry)?,
                underflow: five(layout.info_underflow)?,
            })
        };
        let size = word(&bytes, layout.info_size as usize);
        let (Some(head), Some(size)) = (head(), size.filter(|size| *size <= MAX_BYTES)) else {
            return Ok(None);
        };
        let address = info.wrapping_add(layout.info_entries.into());
        Ok(Some(Rules {
            head: Head::Ip(head),
            info,
            counters: address,
            stride: 0,
            memory: self.bytes(address, size as usize)?,
        }))
    }

    fn bridge_rules(&mut self, info: u64, layout: &BridgeLayout) -> io::Result<Option<Rules>> {
        let Some(head) = self.bridge_head(info, layout)? else {
            return Ok(None);
        };
        let counters = head.rules.number.checked_mul(bridge::COUNTER);
        let stride = counters.and_then(|len| len.checked_next_multiple_of(layout.cache_line));
        let Some(stride) = stride else {
            return Ok(None);
        };
        Ok(Some(Rules {
            head: Head::Bridge(head.rules),
            info,
            counters: info.wrapping_add(layout.info_counters.into()),
            stride,
            memory: self.bytes(head.entries, head.size as usize)?,
        }))
    }

    /// What a `struct ebt_table_info` says; `None` where there is none: the first chain
    /// is where the rules begin.
    fn bridge_head(&mut self, info: u64, layout: &BridgeLayout) -> io::Result<Option<BridgeHead>> {
        let bytes = self.bytes(info, layout.info_counters as usize)?;
        let head = || {
            let entries = long(&bytes, layout.info_entries as usize)?;
            let mut entry = [None; bridge::HOOKS];
            for (hook, to) in entry.iter_mut().enumerate() {
                let chain = long(&bytes, layout.info_entry as usize + hook * 8)?;
                if chain != 0 {
                    *to = usize::try_from(chain.wrapping_sub(entries)).ok();
                }
            }
            let begins = entry.iter().flatten().min() == Some(&0);
            let size = word(&bytes, layout.info_size as usize)?;
            let number = word(&bytes, layout.info_number as usize)?;
            (begins && size <= MAX_BYTES).then_some(BridgeHead {
                entries,
                size,
                rules: bridge::Head {
                    number,
                    entry,
                    seen: layout.seen,
                },
            })
        };
        Ok(head())
    }
}

/// What a `struct ebt_table_info` says.
struct BridgeHead {
    /// Address of the chains and rules.
    entries: u64,
    /// Bytes of them.
    size: u32,
    rules: bridge::Head,
}

/// A table's name. At the hooks of bridges stand others too, which have none there.
fn name_of(bytes: &[u8]) -> Option<String> {
    let name = text(bytes)?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_name.then(|| name.to_owned())
}

/// Where in a `struct net` a way begins, and with how many bytes.
const fn anchors(way: Way) -> (u64, usize) {
    match way {
        Way::List { at, .. } | Way::Pointers { at } => (at as u64, 16),
        Way::Hooks { at, .. } => (at as u64, HOOKS * 8),
    }
}
