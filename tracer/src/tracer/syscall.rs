//! The `bpf` calls that aya does not offer.

use std::{
    ffi::CStr,
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use aya_obj::generated::{
    BPF_CALL, BPF_EXIT, BPF_F_TEST_RUN_ON_CPU, BPF_JMP, BPF_K, BPF_LDX, BPF_MEM, BPF_MOV,
    BPF_PSEUDO_KFUNC_CALL, BPF_W, bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_info,
    bpf_prog_type,
};

/// `BPF_ALU64`
const ALU64: u32 = 0x07;

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<RawFd> {
    // SAFETY: the attribute is as large as said; callers fill it with pointers
    // that are valid for the sizes that they give.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_int,
            &raw mut *attr,
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        RawFd::try_from(result).map_err(io::Error::other)
    }
}

/// As the kernel takes sizes.
#[expect(clippy::cast_possible_truncation, reason = "no type is that large")]
pub const fn size_of<T>() -> u32 {
    mem::size_of::<T>() as u32
}

fn empty() -> bpf_attr {
    // SAFETY: a union of plain data, of which zeros are a valid value.
    unsafe { mem::zeroed() }
}

/// Where a walk through a hash map stands: the kernel's bucket number.
pub type Bucket = u32;

/// Reads up to `keys.len()` elements of a hash map from `from` on and deletes
/// them. Gives how many, and where to go on; `None` at the end.
///
/// The kernel reads whole buckets, so the slices must hold more than the
/// fullest one; `ENOSPC` says that they do not. Since Linux 5.6
/// (`__htab_map_lookup_and_delete_batch`).
/// <https://github.com/torvalds/linux/blob/v6.12/kernel/bpf/hashtab.c>
///
/// # Safety
///
/// `K` and `V` must be the map's key and value and plain data, and the slices
/// of the same length.
pub unsafe fn take_batch<K, V>(
    map: BorrowedFd<'_>,
    from: Option<Bucket>,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<(usize, Option<Bucket>)> {
    let mut next: Bucket = 0;
    let mut attr = empty();
    // SAFETY: all fields of the union are plain data.
    let batch = unsafe { &mut attr.batch };
    batch.in_batch = from
        .as_ref()
        .map_or(0, |bucket| std::ptr::from_ref(bucket) as u64);
    batch.out_batch = (&raw mut next) as u64;
    batch.keys = keys.as_mut_ptr() as u64;
    batch.values = values.as_mut_ptr() as u64;
    batch.count = u32::try_from(keys.len().min(values.len())).unwrap_or(u32::MAX);
    batch.map_fd = map.as_raw_fd().cast_unsigned();
    let result = bpf(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_BATCH, &mut attr);
    // SAFETY: as above; the kernel wrote how many elements it gave.
    let count = unsafe { attr.batch.count } as usize;
    match result {
        Ok(_) => Ok((count, Some(next))),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((count, None)),
        Err(error) => Err(error),
    }
}

/// Whether a hash map has no element.
///
/// # Safety
///
/// `K` must be the map's key and plain data.
pub unsafe fn is_empty<K>(map: BorrowedFd<'_>) -> io::Result<bool> {
    let mut first = mem::MaybeUninit::<K>::uninit();
    let mut attr = empty();
    // SAFETY: all fields of the union are plain data.
    let element = unsafe { &mut attr.__bindgen_anon_2 };
    element.map_fd = map.as_raw_fd().cast_unsigned();
    element.__bindgen_anon_1.next_key = first.as_mut_ptr() as u64;
    match bpf(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut attr) {
        Ok(_) => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Reads the only element of an array map.
///
/// # Safety
///
/// `value` must point to as many `V` as the map's value has, plain data.
pub unsafe fn read_only_element<V>(map: BorrowedFd<'_>, value: *mut V) -> io::Result<()> {
    only_element(bpf_cmd::BPF_MAP_LOOKUP_ELEM, map, value as u64)
}

/// Writes the only element of an array map.
///
/// # Safety
///
/// As [`read_only_element`].
pub unsafe fn write_only_element<V>(map: BorrowedFd<'_>, value: *const V) -> io::Result<()> {
    only_element(bpf_cmd::BPF_MAP_UPDATE_ELEM, map, value as u64)
}

fn only_element(command: bpf_cmd, map: BorrowedFd<'_>, value: u64) -> io::Result<()> {
    let key: u32 = 0;
    let mut attr = empty();
    // SAFETY: all fields of the union are plain data.
    let element = unsafe { &mut attr.__bindgen_anon_2 };
    element.map_fd = map.as_raw_fd().cast_unsigned();
    element.key = (&raw const key) as u64;
    element.__bindgen_anon_1.value = value;
    bpf(command, &mut attr).map(|_| ())
}

/// Loads a program for netfilter hooks that only returns `verdict`.
pub fn load_netfilter(verdict: i32, name: &CStr) -> io::Result<OwnedFd> {
    let program = [
        instruction(ALU64 | BPF_MOV | BPF_K, 0, 0, verdict),
        instruction(BPF_JMP | BPF_EXIT, 0, 0, 0),
    ];
    let kind = bpf_prog_type::BPF_PROG_TYPE_NETFILTER;
    load(kind, bpf_attach_type::BPF_NETFILTER as u32, name, &program)
}

/// Whether programs can load memory of no type: through what `bpf_rdonly_cast`, the function of
/// this number in the kernel's BTF, gives. Since Linux 6.17.
/// <https://github.com/torvalds/linux/blob/v6.17/kernel/bpf/verifier.c>
pub fn can_load_untyped(rdonly_cast: u32) -> bool {
    let program = [
        instruction(ALU64 | BPF_MOV | BPF_K, 1, 0, 0),
        instruction(ALU64 | BPF_MOV | BPF_K, 2, 0, 0),
        instruction(
            BPF_JMP | BPF_CALL,
            0,
            BPF_PSEUDO_KFUNC_CALL,
            rdonly_cast.cast_signed(),
        ),
        instruction(BPF_LDX | BPF_MEM | BPF_W, 0, 0, 0),
        instruction(BPF_JMP | BPF_EXIT, 0, 0, 0),
    ];
    let kind = bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT;
    load(kind, 0, c"droptrace_load", &program).is_ok()
}

fn instruction(code: u32, destination: u8, source: u32, imm: i32) -> bpf_insn {
    // SAFETY: plain data, of which zeros are a valid value.
    let mut instruction: bpf_insn = unsafe { mem::zeroed() };
    instruction.code = u8::try_from(code).unwrap_or_default();
    instruction.set_dst_reg(destination);
    instruction.set_src_reg(u8::try_from(source).unwrap_or_default());
    instruction.imm = imm;
    instruction
}

fn load(
    kind: bpf_prog_type,
    attach_type: u32,
    name: &CStr,
    program: &[bpf_insn],
) -> io::Result<OwnedFd> {
    let mut attr = empty();
    // SAFETY: all fields of the union are plain data.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = kind as u32;
    load.expected_attach_type = attach_type;
    load.insns = program.as_ptr() as u64;
    load.insn_cnt = u32::try_from(program.len()).unwrap_or(u32::MAX);
    load.license = c"Dual MIT/GPL".as_ptr() as u64;
    for (place, byte) in load.prog_name.iter_mut().zip(name.to_bytes()) {
        *place = byte.cast_signed();
    }
    let fd = bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)?;
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts a netfilter program on a hook for IPv4 in the calling thread's network
/// namespace.
pub fn attach_netfilter(program: &OwnedFd, hook: u32, priority: i32) -> io::Result<OwnedFd> {
    let mut attr = empty();
    // SAFETY: all fields of the union are plain data.
    let link = unsafe { &mut attr.link_create };
    link.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    link.attach_type = bpf_attach_type::BPF_NETFILTER as u32;
    // SAFETY: as above.
    let netfilter = unsafe { &mut link.__bindgen_anon_3.netfilter };
    netfilter.pf = libc::NFPROTO_IPV4.cast_unsigned();
    netfilter.hooknum = hook;
    netfilter.priority = priority;
    let fd = bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)?;
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs a raw tracepoint's program once with these arguments, on the given CPU or
/// else on this one, and gives its result. Since Linux 5.10.
/// <https://github.com/torvalds/linux/blob/v6.12/net/bpf/test_run.c>
pub fn run(program: BorrowedFd<'_>, arguments: &[u64], cpu: Option<u32>) -> io::Result<i32> {
    let mut attr = empty();
    // SAFETY: all fields of the union are plain data.
    let test = unsafe { &mut attr.test };
    test.prog_fd = program.as_raw_fd().cast_unsigned();
    test.ctx_in = arguments.as_ptr() as u64;
    test.ctx_size_in = u32::try_from(size_of_val(arguments)).unwrap_or(u32::MAX);
    if let Some(cpu) = cpu {
        test.flags = BPF_F_TEST_RUN_ON_CPU;
        test.cpu = cpu;
    }
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)?;
    // SAFETY: as above; the kernel wrote the result.
    Ok(unsafe { attr.test.retval }.cast_signed())
}

/// How often the kernel skipped the program because it was running already on
/// that CPU. Since Linux 5.12; earlier kernels skip none of ours.
pub fn recursion_misses(program: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: plain data, of which zeros are a valid value.
    let mut info: bpf_prog_info = unsafe { mem::zeroed() };
    let mut attr = empty();
    attr.info.bpf_fd = program.as_raw_fd().cast_unsigned();
    attr.info.info_len = size_of::<bpf_prog_info>();
    attr.info.info = (&raw mut info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info.recursion_misses)
}
