//! The floor: the least that a program at the tracepoint `kfree_skb` can cost. It
//! returns at once.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::Context as _;
use aya_obj::btf::{Btf, BtfKind};
use aya_obj::generated::{
    BPF_EXIT, BPF_JMP, BPF_K, BPF_MOV, bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type,
};

/// `BPF_ALU64`
const ALU64: u32 = 0x07;

/// The empty program at work, until it is dropped.
pub struct Floor {
    _link: OwnedFd,
    _program: OwnedFd,
}

impl Floor {
    /// Loads and attaches it.
    pub fn attach() -> anyhow::Result<Self> {
        let btf = Btf::from_sys_fs().context("cannot read the kernel's types")?;
        let tracepoint = btf
            .id_by_type_name_kind("btf_trace_kfree_skb", BtfKind::Typedef)
            .context("the kernel has no BTF tracepoint kfree_skb")?;
        let instruction = |code: u32| {
            // SAFETY: plain data, of which zeros are a valid value.
            let mut instruction: bpf_insn = unsafe { mem::zeroed() };
            instruction.code = u8::try_from(code).unwrap_or_default();
            instruction
        };
        // r0 = 0; return
        let body = [
            instruction(ALU64 | BPF_MOV | BPF_K),
            instruction(BPF_JMP | BPF_EXIT),
        ];
        let mut attr = empty();
        // SAFETY: all fields of the union are plain data.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
        load.expected_attach_type = bpf_attach_type::BPF_TRACE_RAW_TP as u32;
        load.attach_btf_id = tracepoint;
        load.insns = body.as_ptr() as u64;
        load.insn_cnt = 2;
        load.license = c"Dual MIT/GPL".as_ptr() as u64;
        let program =
            bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr).context("cannot load the empty program")?;

        let mut attr = empty();
        attr.raw_tracepoint.prog_fd = program.as_raw_fd().cast_unsigned();
        let link = bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr)
            .context("cannot attach the empty program")?;
        Ok(Self {
            _link: link,
            _program: program,
        })
    }
}

fn empty() -> bpf_attr {
    // SAFETY: a union of plain data, of which zeros are a valid value.
    unsafe { mem::zeroed() }
}

/// A command that answers with a file descriptor.
fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the attribute is as large as said; callers fill it with pointers that are
    // valid for the sizes that they give.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_int,
            &raw mut *attr,
            size_of::<bpf_attr>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?) })
}
