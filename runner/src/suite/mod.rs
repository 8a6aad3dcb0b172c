//! What is to be tested, as its author writes it.

mod build;
mod built_in;
mod cases;
mod companion;
mod gates;
mod guest;
mod late;
mod model;
mod pattern;
mod read;
mod required;
mod source;
mod template;

pub use build::Build;
pub use built_in::{BuiltInSuite, SMOKE};
pub(crate) use late::Late;
pub(crate) use model::SERIAL;
pub use model::{
    AcceleratorChoice, Action, CaseRules, CommandTest, Companion, ExpectedEnd, Forward, GuestSettings,
    Kernel, Share, Source, Suite, Test,
};
pub use pattern::Pattern;
pub use source::reference as check_reference;
