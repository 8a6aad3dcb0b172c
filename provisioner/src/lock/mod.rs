//! What a recipe is held to beside what it says itself: the hashes of what comes from outside, and what its hosts have.

mod document;
mod host;

pub use document::Lock;
pub(crate) use document::Place;
pub use host::{LockedHost, LockedProgram};
