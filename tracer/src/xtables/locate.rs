//! Where in the kernel's memory the tables of a network namespace are.

use std::io;

use super::{
    Kernel,
    layout::{Layout, Reach},
    walk::{Family, Head, long, text, word},
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
    /// Address of its pointer to its rules.
    pub pointer: u64,
    /// A bit for each hook that it is at.
    pub hooks: u32,
}

/// The rules of a table.
pub struct Rules {
    pub head: Head,
    /// Where they are: it changes with every change of theirs.
    pub info: u64,
    /// Address of `memory`.
    pub address: u64,
    pub memory: Vec<u8>,
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
            let (at, len) = self.anchors(family);
            signs.extend(self.bytes(net.wrapping_add(at), len)?);
        }
        Ok(signs)
    }

    /// Where in a `struct net` the way to a family's tables begins.
    fn anchors(&self, family: Family) -> (u64, usize) {
        match self.layout.reach {
            Reach::Lists { at } => (u64::from(at) + u64::from(family.number()) * 16, 16),
            Reach::Hooks { ipv4, ipv6, .. } => {
                let at = match family {
                    Family::Ip => ipv4,
                    Family::Ip6 => ipv6,
                };
                (u64::from(at), HOOKS * 8)
            }
        }
    }

    /// The tables of a family, of those that have one of `names`.
    pub fn tables(&mut self, net: u64, family: Family, names: &[String]) -> io::Result<Vec<Place>> {
        let mut places = Vec::new();
        for address in self.candidates(net, family)? {
            // What is no table cannot always be read.
            let place = self.place(address, family).ok().flatten();
            if let Some(place) = place.filter(|place| names.contains(&place.name))
                && !places.contains(&place)
            {
                places.push(place);
            }
        }
        Ok(places)
    }

    /// Addresses at which there may be a table.
    fn candidates(&mut self, net: u64, family: Family) -> io::Result<Vec<u64>> {
        let (at, len) = self.anchors(family);
        let anchors = self.bytes(net.wrapping_add(at), len)?;
        let mut found = Vec::new();
        match self.layout.reach {
            Reach::Lists { .. } => {
                let mut node = long(&anchors, 0).unwrap_or(0);
                while node != net.wrapping_add(at) && node != 0 && found.len() < MAX_TABLES {
                    found.push(node.wrapping_sub(self.layout.table_list.into()));
                    node = self.long(node)?;
                }
            }
            Reach::Hooks {
                count,
                hooks,
                size,
                data,
                ..
            } => {
                for i in 0..HOOKS {
                    let entries = long(&anchors, i * 8).unwrap_or(0);
                    if entries == 0 {
                        continue;
                    }
                    let bytes = self.bytes(entries.wrapping_add(count.into()), 2)?;
                    let len = bytes
                        .first_chunk()
                        .map_or(0, |len| u16::from_ne_bytes(*len));
                    for i in 0..len.min(MAX_HOOKS) {
                        let hook = u64::from(hooks) + u64::from(i) * u64::from(size);
                        found.push(self.long(entries.wrapping_add(hook + u64::from(data)))?);
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
        let layout = self.layout;
        let table = self.bytes(address, layout.table_size as usize)?;
        let place = || {
            let is_of_family = *table.get(layout.table_family as usize)? == family.number();
            let name = text(table.get(layout.table_name as usize..)?)?;
            is_of_family.then_some(Place {
                family,
                name: name.to_owned(),
                pointer: address.wrapping_add(layout.table_info.into()),
                hooks: word(&table, layout.table_hooks as usize)?,
            })
        };
        Ok(place())
    }

    /// The rules of a table; `None` if they change meanwhile.
    pub fn rules(&mut self, place: &Place) -> io::Result<Option<Rules>> {
        let layout = self.layout;
        let info = self.long(place.pointer)?;
        let bytes = self.bytes(info, layout.info_entries as usize)?;
        let five = |at: u32| {
            let mut words = [0; HOOKS];
            for (i, to) in words.iter_mut().enumerate() {
                *to = word(&bytes, at as usize + i * 4)?;
            }
            Some(words)
        };
        let head = || {
            Some(Head {
                family: place.family,
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
        let memory = self.bytes(address, size as usize)?;
        let is_same = self.long(place.pointer)? == info;
        Ok(is_same.then_some(Rules {
            head,
            info,
            address,
            memory,
        }))
    }
}
