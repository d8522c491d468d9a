//! The two ends of a conversation.

use std::net::SocketAddr;

/// TCP's protocol number.
pub(super) const TCP: u8 = 6;
/// UDP's.
pub(super) const UDP: u8 = 17;

/// What a conversation is known by: its ends, whoever sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    proto: u8,
    ends: (SocketAddr, SocketAddr),
}

impl Key {
    pub(super) fn new(proto: u8, one: SocketAddr, other: SocketAddr) -> Self {
        let ends = if one <= other {
            (one, other)
        } else {
            (other, one)
        };
        Self { proto, ends }
    }

    /// Whether it is a conversation of this protocol.
    pub(super) const fn is_of(&self, proto: u8) -> bool {
        self.proto == proto
    }
}

/// An end of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// The one that began it.
    Client,
    /// The one that was asked.
    Server,
}

impl End {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Something of each end.
#[derive(Debug, Default)]
pub(super) struct Both<T> {
    pub client: T,
    pub server: T,
}

impl<T> Both<T> {
    pub(super) fn of(&self, end: End) -> &T {
        match end {
            End::Client => &self.client,
            End::Server => &self.server,
        }
    }

    pub(super) fn of_mut(&mut self, end: End) -> &mut T {
        match end {
            End::Client => &mut self.client,
            End::Server => &mut self.server,
        }
    }

    pub(super) fn swap(&mut self) {
        std::mem::swap(&mut self.client, &mut self.server);
    }
}
