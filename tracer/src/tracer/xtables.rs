//! How the kernel side is told which counters of xtables rules to watch, and how
//! it reads kernel memory for user space.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, MapError},
    programs::{Program, ProgramError},
    util::online_cpus,
};
use droptrace_types::{XT_PIECE, XtBlock, XtGroup};

use super::{LoadError, syscall, take, verify::Verified};
use crate::xtables::{Kernel, Whereabouts};

/// The programs that user space runs itself. They are attached to nothing.
pub const XT_PROGRAMS: [&str; 2] = ["xt_read", "xt_settle"];

/// The maps and programs.
pub struct XtMaps {
    groups: HashMap<MapData, u32, XtGroup>,
    blocks: Array<MapData, XtBlock>,
    memory: MapData,
    /// As large as that map's element.
    piece: Box<[u8]>,
    read: Option<OwnedFd>,
    settle: Option<OwnedFd>,
}

impl XtMaps {
    /// From the loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let Map::Array(memory) = take(ebpf, "XT_MEMORY")? else {
            return Err(MapError::InvalidMapType { map_type: 0 }.into());
        };
        Ok(Self {
            groups: HashMap::try_from(take(ebpf, "XT_GROUPS")?)?,
            blocks: Array::try_from(take(ebpf, "XT_BLOCKS")?)?,
            memory,
            piece: vec![0; XT_PIECE].into_boxed_slice(),
            read: None,
            settle: None,
        })
    }

    /// Has the programs at hand, as far as the kernel takes them.
    pub(super) fn hold(
        &mut self,
        ebpf: &mut Ebpf,
        verified: &mut Verified,
    ) -> Result<(), ProgramError> {
        let [read, settle] = XT_PROGRAMS;
        self.read = Some(program(ebpf, verified, read)?);
        self.settle = Some(program(ebpf, verified, settle)?);
        Ok(())
    }

    /// Runs the program that reads; the first bytes of what it read are then in
    /// [`Self::piece`].
    fn run_read(&mut self, address: u64, len: usize) -> io::Result<()> {
        let result = syscall::run(held(self.read.as_ref())?, &[address, len as u64], None)?;
        if result != 0 {
            return Err(io::Error::other(format!(
                "there is no memory at {address:#x} (error {result})"
            )));
        }
        // SAFETY: as many bytes as the map's element has, plain data.
        unsafe { syscall::read_only_element(self.memory.fd().as_fd(), self.piece.as_mut_ptr()) }
    }
}

impl Kernel for XtMaps {
    fn read(&mut self, address: u64, into: &mut [u8]) -> io::Result<()> {
        let mut from = address;
        for piece in into.chunks_mut(XT_PIECE) {
            self.run_read(from, piece.len())?;
            piece.copy_from_slice(&self.piece[..piece.len()]);
            from = from.wrapping_add(piece.len() as u64);
        }
        Ok(())
    }

    fn whereabouts(&mut self) -> io::Result<Whereabouts> {
        self.run_read(0, 0)?;
        let word = |i: usize| {
            let bytes = self.piece[i * 8..].first_chunk();
            bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
        };
        Ok(Whereabouts {
            task: word(0),
            map: word(1),
        })
    }

    fn set_block(&mut self, slot: u32, block: &XtBlock) -> io::Result<()> {
        self.blocks.set(slot, block, 0).map_err(io::Error::other)
    }

    fn settle(&mut self, group: &XtGroup, base: u64) -> io::Result<()> {
        let program = held(self.settle.as_ref())?;
        let arguments = [u64::from(group.first), u64::from(group.count), base];
        for cpu in online_cpus().map_err(|(_, error)| error)? {
            match syscall::run(program, &arguments, Some(cpu)) {
                // A CPU that has gone offline takes them when it comes back; one
                // that is at an event, at the next.
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn set_group(&mut self, netns: u32, group: Option<&XtGroup>) -> io::Result<()> {
        let result = match group {
            Some(group) => self.groups.insert(netns, group, 0),
            None => self.groups.remove(&netns),
        };
        match result {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
            {
                Ok(())
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// One of [`XT_PROGRAMS`].
fn program(ebpf: &mut Ebpf, verified: &mut Verified, name: &str) -> Result<OwnedFd, ProgramError> {
    verified.take(name)?;
    let Some(Program::RawTracePoint(program)) = ebpf.program_mut(name) else {
        return Err(ProgramError::NotLoaded);
    };
    Ok(program.fd()?.as_fd().try_clone_to_owned()?)
}

fn held(program: Option<&OwnedFd>) -> io::Result<std::os::fd::BorrowedFd<'_>> {
    let missing = || io::Error::other("the kernel refused the program that reads it");
    Ok(program.ok_or_else(missing)?.as_fd())
}
