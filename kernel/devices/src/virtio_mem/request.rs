//! What driver and device say to each other on the guest-request queue (VIRTIO 1.2, section 5.15.6).

use core::fmt;

use vmemmap::addr::PhysAddr;

use super::Error;

/// Bytes of a request, whatever it asks.
pub const REQUEST_BYTES: usize = 24;
/// Bytes of a response, whatever it answers.
pub const RESPONSE_BYTES: usize = 10;

/// What the driver asks. Blocks are consecutive ones, at least one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Plug these blocks, which are unplugged.
    Plug {
        /// The first byte of the first block.
        addr: PhysAddr,
        /// How many.
        blocks: u16,
    },
    /// Unplug these blocks, which are plugged.
    Unplug {
        /// The first byte of the first block.
        addr: PhysAddr,
        /// How many.
        blocks: u16,
    },
    /// Unplug all blocks of the device.
    UnplugAll,
    /// Tell whether these blocks are plugged.
    State {
        /// The first byte of the first block.
        addr: PhysAddr,
        /// How many.
        blocks: u16,
    },
}

/// What the device answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Response {
    /// It is done.
    Ack {
        /// After [`Request::State`] the state of the blocks; without a meaning after the others.
        state: u16,
    },
    /// The host does not want it: more than it requests.
    Nack,
    /// Not now.
    Busy,
    /// The request is wrong: addresses outside the usable region, or blocks that are so already.
    Error,
}

impl Request {
    /// The request as the device reads it.
    #[must_use]
    pub fn encode(&self) -> [u8; REQUEST_BYTES] {
        let (kind, addr, blocks): (u16, _, _) = match *self {
            Self::Plug { addr, blocks } => (0, addr.value(), blocks),
            Self::Unplug { addr, blocks } => (1, addr.value(), blocks),
            Self::UnplugAll => (2, 0, 0),
            Self::State { addr, blocks } => (3, addr.value(), blocks),
        };
        let mut bytes = [0; REQUEST_BYTES];
        bytes[..2].copy_from_slice(&kind.to_le_bytes());
        bytes[8..16].copy_from_slice(&addr.to_le_bytes());
        bytes[16..18].copy_from_slice(&blocks.to_le_bytes());
        bytes
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plug { addr, blocks } => write!(f, "PLUG of {blocks} blocks at {addr}"),
            Self::Unplug { addr, blocks } => write!(f, "UNPLUG of {blocks} blocks at {addr}"),
            Self::UnplugAll => f.write_str("UNPLUG ALL"),
            Self::State { addr, blocks } => write!(f, "STATE of {blocks} blocks at {addr}"),
        }
    }
}

impl Response {
    /// The response in these bytes.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownResponse`] for a type that VIRTIO 1.2 does not have.
    pub fn decode(bytes: &[u8; RESPONSE_BYTES]) -> Result<Self, Error> {
        match u16::from_le_bytes([bytes[0], bytes[1]]) {
            0 => Ok(Self::Ack { state: u16::from_le_bytes([bytes[8], bytes[9]]) }),
            1 => Ok(Self::Nack),
            2 => Ok(Self::Busy),
            3 => Ok(Self::Error),
            kind => Err(Error::UnknownResponse { kind }),
        }
    }

    /// What the response to `request` means: the state that comes with an ACK, or why there is none.
    pub(super) fn outcome(self, request: Request) -> Result<u16, Error> {
        match (self, request) {
            (Self::Ack { state }, _) => Ok(state),
            (Self::Nack, Request::Plug { .. }) => Err(Error::Refused { request }),
            (Self::Busy, _) => Err(Error::Busy { request }),
            // Only a plug is ever more than the host requests.
            (Self::Nack | Self::Error, _) => Err(Error::Rejected { request }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDR: PhysAddr = PhysAddr::new(0x1122_3344_5566_7788);

    /// The bytes of a request of `kind` for 0xabcd blocks at [`ADDR`].
    fn blocks(kind: u8) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        bytes[0] = kind;
        bytes[8..18].copy_from_slice(&[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xcd, 0xab]);
        bytes
    }

    #[test]
    fn requests_are_encoded_as_virtio_1_2_says() {
        assert_eq!(Request::Plug { addr: ADDR, blocks: 0xabcd }.encode(), blocks(0));
        assert_eq!(Request::Unplug { addr: ADDR, blocks: 0xabcd }.encode(), blocks(1));
        assert_eq!(Request::State { addr: ADDR, blocks: 0xabcd }.encode(), blocks(3));
        let mut all = [0; REQUEST_BYTES];
        all[0] = 2;
        assert_eq!(Request::UnplugAll.encode(), all);
    }

    #[test]
    fn responses_are_decoded_as_virtio_1_2_says() {
        // The padding between type and state means nothing.
        let response = |kind: u16| {
            let [low, high] = kind.to_le_bytes();
            Response::decode(&[low, high, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0x02, 0x01])
        };
        assert_eq!(response(0), Ok(Response::Ack { state: 0x102 }));
        assert_eq!(response(1), Ok(Response::Nack));
        assert_eq!(response(2), Ok(Response::Busy));
        assert_eq!(response(3), Ok(Response::Error));
        assert_eq!(response(4), Err(Error::UnknownResponse { kind: 4 }));
        assert_eq!(response(0x100), Err(Error::UnknownResponse { kind: 0x100 }));
    }

    #[test]
    fn only_a_plug_is_refused_for_being_more_than_requested() {
        let (plug, unplug) = (Request::Plug { addr: ADDR, blocks: 1 }, Request::Unplug { addr: ADDR, blocks: 1 });
        assert_eq!(Response::Nack.outcome(plug), Err(Error::Refused { request: plug }));
        assert_eq!(Response::Nack.outcome(unplug), Err(Error::Rejected { request: unplug }));
    }
}
