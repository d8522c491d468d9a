//! Messages of nfnetlink: how they are built, and how they are read without trust.

use std::ffi::CStr;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// And with it `struct nfgenmsg`.
const HEADERS: usize = HEADER + 4;
/// `struct nlattr`.
const ATTRIBUTE: usize = 4;
/// `NLA_F_NESTED`, and what is left of an attribute's type without its flags.
const NESTED: u16 = 1 << 15;
const TYPE: u16 = (1 << 14) - 1;

/// A message that is being built.
#[derive(Debug)]
pub struct Message(Vec<u8>);

impl Message {
    /// Without attributes. `resource` stands there in network order.
    pub fn new(kind: u16, flags: libc::c_int, sequence: u32, family: u8, resource: u16) -> Self {
        let flags = u16::try_from(libc::NLM_F_REQUEST | flags).unwrap_or_default();
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend([family, 0]);
        bytes.extend(resource.to_be_bytes());
        Self(bytes)
    }

    /// Adds an attribute.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.with(kind, |message| message.0.extend(value));
    }

    /// Adds an attribute with a number in network order.
    pub fn number(&mut self, kind: u16, value: i32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Adds an attribute with a text, which ends with a zero.
    pub fn text(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat());
    }

    /// Adds an attribute that consists of attributes.
    pub fn nested(&mut self, kind: u16, add: impl FnOnce(&mut Self)) {
        self.with(kind | NESTED, add);
    }

    fn with(&mut self, kind: u16, add: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        add(self);
        let len = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// As it is sent.
    pub fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }
}

/// A message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Subsystem and message.
    pub kind: u16,
    /// That of the message that this one answers.
    pub sequence: u32,
    /// What stands behind the `struct nlmsghdr`.
    pub body: &'a [u8],
}

impl<'a> Received<'a> {
    /// What the kernel says of a message of ours: nothing where this is no such
    /// answer, 0 where it did what it was asked, else a number of `errno`.
    pub fn verdict(&self) -> Option<i32> {
        let is_verdict = i32::from(self.kind) == libc::NLMSG_ERROR;
        let error = self.body.first_chunk().filter(|_| is_verdict)?;
        Some(i32::from_ne_bytes(*error).saturating_neg())
    }

    /// The family of the `struct nfgenmsg`, and the attributes behind it.
    pub fn attributes(&self) -> Option<(u8, Attributes<'a>)> {
        let attributes = self.body.get(HEADERS - HEADER..)?;
        Some((*self.body.first()?, Attributes(attributes)))
    }
}

/// The messages of a datagram, up to the first that is none.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let len = usize::try_from(u32::from_ne_bytes(*datagram.first_chunk()?)).ok()?;
        let message = datagram.get(..len)?;
        let received = Received {
            kind: u16::from_ne_bytes(*message.get(4..)?.first_chunk()?),
            sequence: u32::from_ne_bytes(*message.get(8..)?.first_chunk()?),
            body: message.get(HEADER..)?,
        };
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(received)
    })
}

/// Attributes, up to the first that is none: type and value.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?) & TYPE;
        let value = self.0.get(ATTRIBUTE..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A number in network order.
pub fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

/// A long number in network order.
pub fn long_number(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.try_into().ok()?))
}

/// A text that ends with a zero.
pub fn text(value: &[u8]) -> Option<&str> {
    CStr::from_bytes_until_nul(value).ok()?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Vec<u8> {
        let mut message = Message::new(0xa11, libc::NLM_F_CREATE, 7, 2, 10);
        message.text(1, "filter");
        message.nested(4, |message| message.number(1, -3));
        message.finish()
    }

    #[test]
    fn what_is_built_is_read() {
        let datagram = [message(), message()].concat();
        assert_eq!(messages(&datagram).count(), 2);
        let received = messages(&datagram).next().unwrap();
        assert_eq!((received.kind, received.sequence), (0xa11, 7));
        let (family, mut attributes) = received.attributes().unwrap();
        assert_eq!(family, 2);
        let (kind, value) = attributes.next().unwrap();
        assert_eq!((kind, text(value)), (1, Some("filter")));
        let (kind, value) = attributes.next().unwrap();
        assert_eq!(kind, 4);
        let (kind, value) = Attributes(value).next().unwrap();
        assert_eq!((kind, number(value)), (1, Some((-3_i32).cast_unsigned())));
        assert!(attributes.next().is_none());
    }

    #[test]
    fn what_is_cut_off_or_forged_ends_the_reading() {
        let whole = message();
        for len in 0..whole.len() {
            assert_eq!(messages(&whole[..len]).count(), 0, "{len}");
            let mut forged = whole.clone();
            forged[0] = u8::try_from(len).unwrap();
            for received in messages(&forged) {
                for (_, value) in received.attributes().into_iter().flat_map(|(_, all)| all) {
                    assert!(value.len() < len);
                    assert!(Attributes(value).count() < len);
                }
            }
            let mut forged = whole.clone();
            forged[20] = u8::try_from(len).unwrap();
            let received = messages(&forged).next().unwrap();
            assert!(received.attributes().unwrap().1.count() <= 2);
        }
        assert_eq!(text(b"no end"), None);
        assert_eq!(number(&[0; 3]), None);
        assert_eq!(long_number(&[0; 9]), None);
    }

    #[test]
    fn a_refusal_has_its_number() {
        let mut refusal = [0; 36];
        refusal[0] = 36;
        refusal[4] = 2;
        refusal[16..20].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        let received = messages(&refusal).next().unwrap();
        assert_eq!(received.verdict(), Some(libc::EPERM));
        let message = message();
        assert_eq!(messages(&message).next().unwrap().verdict(), None);
    }
}
