//! TOML documents read with places.
//!
//! Derived deserialisers stop at the first mistake and lose where it is. Here a document becomes a tree whose every
//! node knows its place; readers take from a [`Table`] what they know, and each mistake is noted and reading goes
//! on, so that all of them are reported in one go.

mod document;
mod nearest;
mod print;
mod problem;
mod quantity;
mod shape;
mod table;
mod value;

pub use document::Document;
pub use nearest::nearest;
pub use problem::{Problem, Problems, Source};
pub use quantity::{parse_duration, parse_size};
pub use shape::{Form, Shape, TableShape};
pub use table::Table;
pub use value::{Located, Value};
