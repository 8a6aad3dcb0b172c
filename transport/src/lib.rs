//! A connection to a host, the delivery of the agent, and the framed protocol spoken with it.
//!
//! [`connect()`] opens the way to a host: the machine itself, or another one over the user's own `ssh` or
//! the client that is built in.
//! [`Connection::start_agent`] makes sure that exactly this program is on the host, starts it there as
//! root and returns a [`Channel`] of frames. The agent's side of the channel is [`FrameReader`],
//! [`FrameWriter`] and [`handshake_agent`].

mod channel;
mod codec;
mod connect;
mod hello;
mod image;
mod process;
mod start;
mod stderr;

pub use channel::{Channel, ChannelError, ChannelReceiver, ChannelSender};
pub use codec::{BLOB_PIECE, Decoder, Frame, FrameError, FrameReader, FrameWriter, Incoming, MAX_FRAME};
pub use connect::{
    ConnectError, Connection, ConnectionInfo, KEY_VARIABLE, OfferedKey, Options, PASSPHRASE_VARIABLE, Route,
    chosen, connect, disconnect, login_name, route, take_secrets,
};
pub use hello::{HandshakeError, Hello, PROTOCOL, handshake_agent};
pub use image::{AgentImage, ImageError, PendingImage};
pub use process::Exit;
pub use start::{Delivery, Password, StartError, Sudo};
