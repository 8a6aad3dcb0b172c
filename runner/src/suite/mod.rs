//! What is to be tested, as its author writes it.

mod built_in;
mod cases;
mod model;
mod pattern;
mod read;
mod template;

pub use built_in::{BuiltInSuite, SMOKE};
pub use model::{
    AcceleratorChoice, Action, CaseRules, CommandTest, ExpectedEnd, GuestSettings, Kernel, Suite, Test,
};
pub use pattern::Pattern;
