//! What is known of a network namespace's tables.

use std::{fs, io, ops::Range, path::PathBuf, time::Instant};

use droptrace_types::{XtGroup, XtRule};

use super::{
    Kernel, Trouble,
    family::Family,
    layout::Layout,
    locate::{Reader, Signs},
    table::{Decider, Now, Table},
};
use crate::owner::netns;

/// What is known of a namespace.
#[derive(Debug)]
pub struct Known {
    pub path: PathBuf,
    /// Its `struct net`.
    pub net: u64,
    pub signs: Signs,
    pub tables: Vec<Table>,
    /// By block: its table, and by place in the block, the rules of that table.
    pub watched: Vec<(usize, Vec<usize>)>,
    pub slots: Range<usize>,
    pub group: XtGroup,
    /// No registering again, and no looking through all tables, before then.
    pub not_before: Instant,
}

impl Known {
    /// Whether there are the same tables with the same rules as when they were
    /// registered, as far as a few words of memory tell.
    pub fn is_at_rest(&self, inode: u32, reader: &mut Reader<'_, impl Kernel>) -> io::Result<bool> {
        if netns::open_at(&self.path, inode).is_none()
            || reader.inode(self.net)? != inode
            || reader.signs(self.net)? != self.signs
        {
            return Ok(false);
        }
        for table in &self.tables {
            if reader.long(table.place.pointer)? != table.info {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the tables have the very rules that they had when they were registered.
    pub fn is_same(&self, per_cpu: bool, reader: &mut Reader<'_, impl Kernel>) -> bool {
        let mut tables = self.tables.iter();
        tables.all(|table| table.now(per_cpu, reader) == Now::Same)
    }

    /// Table, and what of it.
    pub fn watched(&self, at: XtRule) -> Option<(&Table, Decider)> {
        let block = (at.block as usize).checked_sub(self.slots.start)?;
        let (table, rules) = self.watched.get(block)?;
        let decider = match at.index.checked_sub(XtRule::POLICY) {
            Some(hook) => Decider::Policy(hook),
            None => Decider::Rule(*rules.get(at.index as usize)?),
        };
        Some((self.tables.get(*table)?, decider))
    }
}

/// What was found in a namespace.
pub struct Inside {
    pub net: u64,
    pub signs: Signs,
    pub tables: Vec<Table>,
    /// Why there are not all tables.
    pub trouble: Option<Trouble>,
}

/// The tables of the calling thread's namespace.
pub fn read(layout: &Layout, per_cpu: bool, kernel: &mut impl Kernel) -> Result<Inside, Trouble> {
    let mut reader = Reader { kernel, layout };
    let net = reader.own_net().map_err(Trouble::Memory)?;
    let mut inside = Inside {
        net,
        signs: reader.signs(net).map_err(Trouble::Memory)?,
        tables: Vec::new(),
        trouble: None,
    };
    for family in Family::ALL {
        let names = names(family);
        if names.as_ref().is_some_and(Vec::is_empty) {
            continue;
        }
        let places = reader.tables(net, family, names.as_deref());
        for place in places.map_err(Trouble::Memory)? {
            match Table::read(place, per_cpu, &mut reader) {
                Ok(table) => inside.tables.push(table),
                Err(trouble) => inside.trouble = Some(trouble),
            }
        }
    }
    Ok(inside)
}

/// Names of the tables that the calling thread's namespace has; `None` where the
/// kernel has no list.
fn names(family: Family) -> Option<Vec<String>> {
    let file = match family {
        Family::Ip => "/proc/thread-self/net/ip_tables_names",
        Family::Ip6 => "/proc/thread-self/net/ip6_tables_names",
        Family::Bridge => return None,
    };
    // Where there is no such file, the kernel has no such tables.
    let names = fs::read_to_string(file).unwrap_or_default();
    Some(names.lines().map(ToOwned::to_owned).collect())
}
