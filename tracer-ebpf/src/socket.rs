//! What a socket knows: its own addresses, its owner, its namespace.

use aya_ebpf::helpers::generated::bpf_get_current_task;
use droptrace_types::{TUPLE_PORTS, Tuple};

use crate::{
    device::inode_of,
    kernel::{Pointer, Struct as _, constant, zero},
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// `TCP_TIME_WAIT` and `TCP_NEW_SYN_RECV`: only the first part of a `struct
/// sock` exists in these states.
const TIME_WAIT: u8 = 6;
const NEW_SYN_RECV: u8 = 12;
const TCP: u8 = 6;
const IPPROTO_MPTCP: u16 = 262;
/// Open files of a process that are looked at.
const MAX_FILES: u32 = 128;
/// The table of open files has at least `NR_OPEN_DEFAULT`, 64 entries, so that
/// no read ends outside it.
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/fdtable.h>
const FILES_PER_READ: u32 = 8;

/// A `struct sock`, perhaps null.
#[derive(Clone, Copy)]
pub struct Socket {
    sock: Pointer,
    /// Inode number of its network namespace.
    pub netns: u32,
    /// It owns the packet (rather than being about to receive it).
    owns: bool,
    /// `AF_*`
    pub family: u16,
    /// TCP state; for other protocols as good as meaningless.
    pub state: u8,
}

impl Socket {
    pub const NONE: Self = Self {
        sock: Pointer::NULL,
        netns: 0,
        owns: false,
        family: 0,
        state: 0,
    };

    #[inline(always)]
    pub fn new(sock: Pointer, owns: bool) -> Self {
        if sock.is_null() {
            return Self::NONE;
        }
        Self {
            sock,
            netns: inode_of(sock.follow(constant!(LAYOUT.sk_net))),
            owns,
            family: sock.read(constant!(LAYOUT.sk_family)),
            state: sock.read(constant!(LAYOUT.sk_state)),
        }
    }

    #[inline(always)]
    pub fn owns(&self) -> bool {
        self.owns
    }

    #[inline(always)]
    pub fn is_internet(&self) -> bool {
        self.family == AF_INET || self.family == AF_INET6
    }

    /// Whether there is one.
    #[inline(always)]
    pub fn is_some(&self) -> bool {
        !self.sock.is_null()
    }

    /// A complete `struct sock`, not the stub of a half-open or closed connection.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        !self.sock.is_null() && self.state != TIME_WAIT && self.state != NEW_SYN_RECV
    }

    /// What is left of a TCP socket after it was closed.
    #[inline(always)]
    pub fn is_in_time_wait(&self) -> bool {
        self.is_internet() && self.state == TIME_WAIT
    }

    /// `sk_protocol`, of 16 bits for the sake of MPTCP; 0 without a complete socket.
    #[inline(always)]
    fn sk_protocol(&self) -> u16 {
        if self.is_full() {
            self.sock.read(constant!(LAYOUT.sk_protocol))
        } else {
            0
        }
    }

    /// IP protocol number; 0 without a complete socket.
    #[inline(always)]
    fn protocol(&self) -> u8 {
        match self.sk_protocol() {
            IPPROTO_MPTCP => TCP,
            protocol => protocol as u8,
        }
    }

    /// Whether it is an MPTCP socket: the TCP sockets are others, which it has.
    #[inline(always)]
    pub fn is_mptcp(&self) -> bool {
        self.sk_protocol() == IPPROTO_MPTCP
    }

    /// The state of a TCP socket, 0 for others.
    #[inline(always)]
    pub fn tcp_state(&self) -> u8 {
        if self.is_internet() && (!self.is_full() || self.protocol() == TCP) {
            self.state
        } else {
            0
        }
    }

    /// Inode number of the socket's file and its user, 0 where it has no file.
    #[inline(always)]
    pub fn owner(&self) -> (u64, u32) {
        let socket = self.sock.follow(constant!(LAYOUT.sk_socket));
        if !self.is_full() || socket.is_null() {
            return (0, 0);
        }
        let inode = socket.at(constant!(LAYOUT.socket_inode));
        (
            inode.read(constant!(LAYOUT.inode_ino)),
            self.sock.read(constant!(LAYOUT.sk_uid)),
        )
    }

    /// Whether the running process has the socket among its first open files.
    /// Then that process is an owner for certain, whatever the packet does in
    /// its time. Others are found from user space, if they live long enough.
    #[inline(always)]
    pub fn is_held_by_current(&self) -> bool {
        if !self.is_full() {
            return false;
        }
        let file = self
            .sock
            .follow(constant!(LAYOUT.sk_socket))
            .follow(constant!(LAYOUT.socket_file));
        // SAFETY: gives the address of the running task.
        let task = Pointer::new(unsafe { bpf_get_current_task() });
        let table = task
            .follow(constant!(LAYOUT.task_files))
            .follow(constant!(LAYOUT.files_table));
        let files = table.follow(constant!(LAYOUT.table_files));
        let len: u32 = table.read(constant!(LAYOUT.table_len));
        if file.is_null() || table.is_null() {
            return false;
        }
        for chunk in 0..MAX_FILES / FILES_PER_READ {
            if chunk * FILES_PER_READ >= len {
                break;
            }
            let some: [u64; FILES_PER_READ as usize] = files.read(chunk * FILES_PER_READ * 8);
            for one in some {
                if one == file.address() {
                    return true;
                }
            }
        }
        false
    }

    /// Whether this is the socket that receives the packets of `tuple` in the
    /// namespace `netns`, judging by all that it says of itself. `sock` may be
    /// the address of anything.
    #[inline(always)]
    pub fn receives(&self, tuple: &Tuple, netns: u32) -> bool {
        // Without branches: it is tried with many words.
        let sock = self.sock;
        let protocol: u16 = sock.read(constant!(LAYOUT.sk_protocol));
        let remote_port: u16 = sock.read(constant!(LAYOUT.sk_dport));
        // What is left of a closed TCP connection does not say its protocol.
        let is_stub = u64::from(self.state == TIME_WAIT) & u64::from(tuple.proto == TCP);
        let mut differs = u64::from(Self::port_of(sock) ^ tuple.dst_port)
            | u64::from(protocol as u8 ^ tuple.proto) * (is_stub ^ 1)
            | u64::from(self.netns ^ netns);
        // Of several sockets that share a port, which one it is would be a guess.
        let shares = u64::from(sock.bits(constant!(CONFIG.reuseport)) & 1);
        differs |= shares * u64::from(remote_port == 0);
        differs |= u64::from(remote_port) * u64::from(u16::from_be(remote_port) ^ tuple.src_port);
        let [a, b, c, d, ..] = tuple.dst;
        let own: u32 = sock.read(constant!(LAYOUT.sk_rcv_saddr));
        let v4 = u64::from(own) * u64::from(own ^ u32::from_ne_bytes([a, b, c, d]));
        let [high, low] = words(&tuple.dst);
        let [own_high, own_low]: [u64; 2] = sock.read(constant!(LAYOUT.sk_v6_rcv_saddr));
        let v6 = (own_high ^ high) | (own_low ^ low);
        let is_any = own_high | own_low == 0;
        if tuple.family == 6 {
            differs == 0 && self.family == AF_INET6 && (is_any || v6 == 0)
        } else {
            differs | v4 == 0 && self.is_internet()
        }
    }

    /// The port that the socket at `sock` is bound to.
    #[inline(always)]
    pub fn port_of(sock: Pointer) -> u16 {
        sock.read(constant!(LAYOUT.sk_num))
    }

    /// Identifier of the socket's control group, 0 where there is none.
    #[inline(always)]
    pub fn cgroup(&self) -> u64 {
        if !self.is_full() || self.family == 0 {
            return 0;
        }
        // Older kernels may keep other data in the word and mark that in its
        // lowest bit; such an address cannot be read.
        let cgroup = self.sock.follow(constant!(LAYOUT.sk_cgroup));
        cgroup
            .follow(constant!(LAYOUT.cgroup_kn))
            .read(constant!(LAYOUT.kn_id))
    }

    /// Fills in addresses and ports as of a packet that this socket sends. For a
    /// `request_sock` too, whose first part is the same. Leaves the tuple without
    /// a family for a socket without a peer.
    #[inline(always)]
    pub fn tuple(&self, tuple: &mut Tuple) {
        zero(tuple);
        if !self.is_internet() {
            return;
        }
        let remote_port: u16 = self.sock.read(constant!(LAYOUT.sk_dport));
        if remote_port == 0 {
            return;
        }
        if self.family == AF_INET6 {
            tuple.dst = self.sock.read(constant!(LAYOUT.sk_v6_daddr));
            if !is_mapped(&tuple.dst) {
                tuple.family = 6;
                tuple.src = self.sock.read(constant!(LAYOUT.sk_v6_rcv_saddr));
            } else {
                zero(tuple);
            }
        }
        if tuple.family == 0 {
            tuple.set_v4(
                self.sock.read(constant!(LAYOUT.sk_rcv_saddr)),
                self.sock.read(constant!(LAYOUT.sk_daddr)),
            );
        }
        // A socket that is being closed has given its number back, but not
        // forgotten the port; a stub has the number only.
        tuple.src_port = if self.is_full() {
            u16::from_be(self.sock.read(constant!(LAYOUT.inet_sport)))
        } else {
            self.sock.read(constant!(LAYOUT.sk_num))
        };
        tuple.dst_port = u16::from_be(remote_port);
        tuple.flags = TUPLE_PORTS;
        tuple.proto = if self.is_full() { self.protocol() } else { TCP };
    }

    /// Next sequence number to send and to receive of a TCP socket.
    #[inline(always)]
    pub fn sequence(&self) -> (u32, u32) {
        if !self.is_full() {
            return (0, 0);
        }
        (
            self.sock.read(constant!(LAYOUT.tcp_snd_nxt)),
            self.sock.read(constant!(LAYOUT.tcp_rcv_nxt)),
        )
    }
}

/// `::ffff:a.b.c.d`: an IPv6 socket that speaks IPv4.
#[inline(always)]
fn is_mapped(address: &[u8; 16]) -> bool {
    let [high, low] = words(address);
    high == 0 && u64::from_be(low) >> 32 == 0xffff
}

#[inline(always)]
fn words(address: &[u8; 16]) -> [u64; 2] {
    // SAFETY: as long as an address; it need not be aligned.
    unsafe { address.as_ptr().cast::<[u64; 2]>().read_unaligned() }
}

/// Makes `tuple` that of an answer to its packet.
#[inline(always)]
pub fn reverse(tuple: &mut Tuple) {
    core::mem::swap(&mut tuple.src, &mut tuple.dst);
    core::mem::swap(&mut tuple.src_port, &mut tuple.dst_port);
}
