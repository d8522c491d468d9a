//! Where a packet's bytes are: in the buffer that `skb->head` points to, or in
//! the pages behind it.

use aya_ebpf::{cty::c_void, helpers::generated::bpf_probe_read_kernel};
use droptrace_types::{ABSENT, Decode, HEADER_LEN};

use crate::{
    event::Event,
    kernel::{Pointer, Struct, address, constant},
};

/// Length of an Ethernet header.
const ETH_HLEN: u32 = 14;
/// `sk_buff.mac_header` where it is not set.
const UNSET: u16 = u16::MAX;
/// `ETH_P_IP`
pub const ETH_P_IP: u16 = 0x0800;
/// `ETH_P_IPV6`
pub const ETH_P_IPV6: u16 = 0x86dd;
/// `ETH_P_8021Q`
const ETH_P_8021Q: u16 = 0x8100;
/// `ETH_P_8021AD`
const ETH_P_8021AD: u16 = 0x88a8;
/// VLAN tags that are looked through at most.
const MAX_TAGS: u32 = 2;
/// Pages of a packet that are searched for a header.
const MAX_FRAGS: u32 = 4;
/// Bytes of a page; only x86-64 gives the variables that make pages reachable.
const PAGE_SIZE: u64 = 4096;

/// A packet's buffer.
#[derive(Clone, Copy)]
pub struct Packet {
    /// The `struct sk_buff`.
    pub skb: Pointer,
    head: Pointer,
    /// Offset from `head` at which the linear part ends.
    tail: u32,
    /// Offset from `head` of `skb->data`; which header that points to changes on the
    /// packet's way.
    pub data: u32,
    /// Bytes from there on.
    pub len: u32,
    /// The same of the network header, 0 until [`Event::find_network`] where it is not set.
    network: u16,
    /// The same of the link layer's header, [`UNSET`] where it is not set.
    mac: u16,
}

impl Packet {
    /// No packet.
    pub const NONE: Self = Self {
        skb: Pointer::NULL,
        head: Pointer::NULL,
        tail: 0,
        data: 0,
        len: 0,
        network: 0,
        mac: UNSET,
    };

    /// Becomes the packet `skb`.
    #[inline(always)]
    fn open(&mut self, skb: impl Struct) {
        let head: u64 = skb.read(constant!(LAYOUT.skb_head));
        let data: u64 = skb.read(constant!(LAYOUT.skb_data));
        self.skb = skb.untyped();
        self.head = Pointer::new(head);
        self.tail = skb.read(constant!(LAYOUT.skb_tail));
        self.data = data.wrapping_sub(head) as u32;
        self.len = skb.read(constant!(LAYOUT.skb_len));
        self.network = skb.read(constant!(LAYOUT.skb_network_header));
        self.mac = skb.read(constant!(LAYOUT.skb_mac_header));
    }

    /// Offset from `head` of the network header.
    #[inline(always)]
    pub fn network(&self) -> u32 {
        self.network.into()
    }

    /// What a function needs to [`Packet::load`] from the packet that takes only numbers.
    #[inline(always)]
    pub fn words(&self) -> (u64, u64, u32) {
        (self.skb.address(), self.head.address(), self.tail)
    }

    /// The packet of these [`Packet::words`], of which nothing else is known.
    #[inline(always)]
    pub fn of_words(skb: u64, head: u64, tail: u32) -> Self {
        Self {
            skb: Pointer::new(skb),
            head: Pointer::new(head),
            tail,
            ..Self::NONE
        }
    }

    /// Bytes from `offset` on, counted from `head`.
    #[inline(always)]
    pub fn len_from(&self, offset: u32) -> u32 {
        self.len.wrapping_add(self.data).wrapping_sub(offset)
    }

    /// The `T` at `offset` from `head`.
    #[inline(always)]
    pub fn load<T: Copy>(&self, offset: u32) -> Result<T, Decode> {
        Ok(self.at(offset, size_of::<T>() as u32)?.read(0))
    }

    /// Where the `len` bytes at `offset` from `head` are.
    #[inline(always)]
    pub fn at(&self, offset: u32, len: u32) -> Result<Pointer, Decode> {
        let (skb, head, tail) = self.words();
        match packet_address(skb, head, tail, offset, len) {
            OUTSIDE => Err(Decode::NoHeaders),
            OUT_OF_REACH => Err(Decode::Paged),
            address => Ok(Pointer::new(address)),
        }
    }

    /// The `T` at `offset`; zeros where not all of it stands before the pages.
    #[inline(always)]
    pub fn load_linear<T: Copy>(&self, offset: u32) -> T {
        let (at, available) = self.linear(offset);
        if available < size_of::<T>() as u32 {
            return Pointer::NULL.read(0);
        }
        at.read(0)
    }

    /// Address of the byte at `offset` and how many follow it before the pages.
    #[inline(always)]
    pub fn linear(&self, offset: u32) -> (Pointer, u32) {
        (self.head.at(offset), self.tail.saturating_sub(offset))
    }

    /// Copies what follows `offset`, as far as it lies before the pages and fits. Answers
    /// with how many bytes that were.
    #[inline(always)]
    pub fn copy_headers(&self, offset: u32, into: &mut [u8; HEADER_LEN]) -> u32 {
        let (headers, available) = self.linear(offset);
        let len = if available > HEADER_LEN as u32 {
            HEADER_LEN as u32
        } else {
            available
        };
        // SAFETY: at most `HEADER_LEN` bytes go into `into`.
        let failed = unsafe {
            bpf_probe_read_kernel(
                into.as_mut_ptr().cast(),
                len,
                headers.address() as *const c_void,
            )
        };
        if failed == 0 { len } else { 0 }
    }
}

/// The tag that the interface or the kernel has taken out of the packet.
#[inline(always)]
fn accelerated_vlan(skb: impl Struct) -> u16 {
    let present = if constant!(CONFIG.vlan_present) == ABSENT {
        skb.read::<u16>(constant!(LAYOUT.skb_vlan_proto)) != 0
    } else {
        skb.bits(constant!(CONFIG.vlan_present)) & 1 != 0
    };
    if !present {
        return 0;
    }
    let tci: u16 = skb.read(constant!(LAYOUT.skb_vlan_tci));
    (tci & 0xfff) + 1
}

impl Event {
    /// Becomes one about the packet `skb`, and reads what that says of itself.
    #[inline(always)]
    pub fn open(&mut self, skb: impl Struct) {
        self.packet.open(skb);
        let protocol: u16 = skb.read(constant!(LAYOUT.skb_protocol));
        self.key.ethertype = u16::from_be(protocol);
        self.key.vlan = accelerated_vlan(skb);
    }

    /// Finds the packet's network header and looks through VLAN tags.
    #[inline(always)]
    pub fn find_network(&mut self) {
        if self.packet.network == 0 {
            if self.key.ethertype == 0 && self.device.is_null() {
                // Nothing says that it is a packet: a message between processes, or what
                // TCP has not given to IP yet.
                return;
            }
            // Received and not yet at the protocol layers: the driver's
            // `eth_type_trans` left `data` behind the Ethernet header.
            self.packet.network = self.packet.data as u16;
        }
        for _ in 0..MAX_TAGS {
            if self.key.ethertype != ETH_P_8021Q && self.key.ethertype != ETH_P_8021AD {
                break;
            }
            // The tag stands where the header should be, or (sent by a packet
            // socket) between the Ethernet header and the header.
            let Ok(tag) = self.packet.load::<[u8; 4]>(self.packet.network()) else {
                break;
            };
            if is_header_type(u16::from_be_bytes([tag[2], tag[3]])) {
                self.packet.network = self.packet.network.wrapping_add(4);
                self.take_tag(tag);
                continue;
            }
            if self.packet.mac == UNSET {
                break;
            }
            let at = u32::from(self.packet.mac) + ETH_HLEN;
            let Ok(tag) = self.packet.load::<[u8; 4]>(at) else {
                break;
            };
            self.take_tag(tag);
            break;
        }
    }

    #[inline(always)]
    fn take_tag(&mut self, tag: [u8; 4]) {
        if self.key.vlan == 0 {
            self.key.vlan = (u16::from_be_bytes([tag[0], tag[1]]) & 0xfff) + 1;
        }
        self.key.ethertype = u16::from_be_bytes([tag[2], tag[3]]);
    }
}

/// [`packet_address`] of bytes behind the packet's end.
const OUTSIDE: u64 = 0;
/// [`packet_address`] of bytes in a page that cannot be reached.
const OUT_OF_REACH: u64 = 1;

/// Address of `len` bytes of the packet `skb`, `offset` bytes from its `head`, behind
/// which its linear part ends with `tail`. By its name in the object the kernel verifies
/// it once and not for every call.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_address(skb: u64, head: u64, tail: u32, offset: u32, len: u32) -> u64 {
    let end = offset.wrapping_add(len);
    if end <= tail {
        return Pointer::new(head).at(offset).address();
    }
    let skb = Pointer::new(skb);
    if skb.read::<u32>(constant!(LAYOUT.skb_data_len)) == 0 {
        return OUTSIDE;
    }
    if constant!(CONFIG.page_size) == 0 || offset < tail {
        return OUT_OF_REACH;
    }
    paged_address(skb, Pointer::new(head), offset - tail, len)
}

/// Address of `len` bytes, `offset` bytes into the pages.
#[inline(always)]
fn paged_address(skb: Pointer, head: Pointer, mut offset: u32, len: u32) -> u64 {
    let end: u32 = skb.read(constant!(LAYOUT.skb_end));
    let shared = head.at(end);
    let count: u8 = shared.read(constant!(LAYOUT.shared_nr_frags));
    let mut frag = shared.at(constant!(LAYOUT.shared_frags));
    for i in 0..MAX_FRAGS {
        if i >= u32::from(count) {
            break;
        }
        let size: u32 = frag.read(constant!(CONFIG.frag_len));
        if offset < size {
            if offset + len > size {
                break;
            }
            let start: u32 = frag.read(constant!(CONFIG.frag_offset));
            return match page_address(frag.follow(0)) {
                Some(page) => page.at(start + offset).address(),
                None => OUT_OF_REACH,
            };
        }
        offset -= size;
        frag = frag.at(constant!(CONFIG.frag_size));
    }
    OUT_OF_REACH
}

#[inline(always)]
fn is_header_type(ethertype: u16) -> bool {
    ethertype == ETH_P_IP
        || ethertype == ETH_P_IPV6
        || ethertype == ETH_P_8021Q
        || ethertype == ETH_P_8021AD
}

/// The kernel's own mapping of a page, from the variables that give the start
/// of all pages and of their descriptors.
/// <https://github.com/torvalds/linux/blob/v6.12/arch/x86/include/asm/pgtable_64_types.h>
#[inline(always)]
fn page_address(page: Pointer) -> Option<Pointer> {
    // Memory that is not the kernel's (device memory) has a tagged descriptor.
    if page.address() & 1 != 0 {
        return None;
    }
    let vmemmap_base = Pointer::new(address!(vmemmap_base));
    if vmemmap_base.is_null() {
        return None;
    }
    let pages = vmemmap_base.follow(0).address();
    let memory = Pointer::new(address!(page_offset_base)).follow(0).address();
    let index = page
        .address()
        .wrapping_sub(pages)
        .checked_div(u64::from(constant!(CONFIG.page_size)))?;
    Some(Pointer::new(memory.wrapping_add(index * PAGE_SIZE)))
}
