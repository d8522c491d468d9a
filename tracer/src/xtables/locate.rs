//! Where in the kernel's memory the tables of a network namespace are.

use std::io;

use super::{
    Kernel, bridge,
    family::Family,
    layout::{BridgeLayout, IpLayout, Layout, Way},
    walk::{self, long, text, word},
};

/// Tables of a family, and hooks of a family at one place, at most.
const MAX_TABLES: usize = 16;
const MAX_HOOKS: u16 = 256;
/// Hooks of a family.
const HOOKS: usize = 5;
/// Bytes of a table at most.
const MAX_BYTES: u32 = 64 << 20;

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

    /// At the hooks of a bridge stand others too. A table has a name, and is at hooks.
    fn bridge_place(&mut self, address: u64, layout: &BridgeLayout) -> io::Result<Option<Place>> {
        let table = self.bytes(address, layout.table_size as usize)?;
        let place = || {
            let name = text(table.get(layout.table_name as usize..)?)?;
            let hooks = word(&table, layout.table_hooks as usize)?;
            let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
            (is_name && hooks != 0 && hooks >> bridge::HOOKS == 0).then_some(Place {
                family: Family::Bridge,
                name: name.to_owned(),
                address,
                pointer: address.wrapping_add(layout.table_info.into()),
                hooks,
            })
        };
        Ok(place())
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
        let bytes = self.bytes(info, layout.info_counters as usize)?;
        let entries = long(&bytes, layout.info_entries as usize);
        let size = word(&bytes, layout.info_size as usize).filter(|size| *size <= MAX_BYTES);
        let number = word(&bytes, layout.info_number as usize);
        let stride = number
            .and_then(|number| number.checked_mul(bridge::COUNTER))
            .and_then(|counters| counters.checked_next_multiple_of(layout.cache_line));
        let (Some(entries), Some(size), Some(number), Some(stride)) =
            (entries, size, number, stride)
        else {
            return Ok(None);
        };
        let mut entry = [None; bridge::HOOKS];
        for (hook, to) in entry.iter_mut().enumerate() {
            match long(&bytes, layout.info_entry as usize + hook * 8) {
                Some(0) => {}
                Some(chain) => *to = usize::try_from(chain.wrapping_sub(entries)).ok(),
                None => return Ok(None),
            }
        }
        Ok(Some(Rules {
            head: Head::Bridge(bridge::Head { number, entry }),
            info,
            counters: info.wrapping_add(layout.info_counters.into()),
            stride,
            memory: self.bytes(entries, size as usize)?,
        }))
    }
}

/// Where in a `struct net` a way begins, and with how many bytes.
const fn anchors(way: Way) -> (u64, usize) {
    match way {
        Way::List { at, .. } => (at as u64, 16),
        Way::Hooks { at, .. } => (at as u64, HOOKS * 8),
    }
}
