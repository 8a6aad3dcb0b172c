//! TOML documents read with places.
//!
//! Derived deserialisers stop at the first mistake and lose where it is. Here a document becomes a tree whose every
//! node knows its place; readers take from a [`Table`] what they know, and each mistake is noted and reading goes
//! on, so that all of them are reported in one go.

mod problem;
mod quantity;
mod table;
mod value;

pub use problem::{Problem, Problems, Source};
pub use quantity::{parse_duration, parse_size};
pub use table::{Document, Table, nearest};
pub use value::{Located, Value};
