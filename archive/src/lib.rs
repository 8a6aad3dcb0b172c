//! Trees of files, packed to be sent and unpacked without trust in the sender.
//!
//! An archive is a gzipped tar with nothing in it but directories, regular files and symbolic links that stay inside.
//! [`pack()`] makes one, in bounded memory, of the paths that it is given; [`unpack()`] refuses everything else: absolute
//! paths, `..`, links out, hard links, devices, duplicates, and more than it was told to take. [`unpack_foreign()`] is as strict
//! with archives that others have made.

mod error;
mod name;
mod pack;
mod parcel;
mod unpack;

pub use error::{PackError, UnpackError};
pub use name::{leads_out, relative};
pub use pack::{everything, pack, pack_in};
pub use parcel::{Parcel, Receipt};
pub use unpack::{Links, Owner, Rules, Unpacked, unpack, unpack_foreign};
