//! What is to be tested, as its author writes it.

mod model;
mod pattern;
mod read;
mod template;

pub use model::{
    AcceleratorChoice, Action, CaseRules, CommandTest, ExpectedEnd, GuestSettings, Kernel, SMOKE, Suite, Test,
};
pub use pattern::Pattern;
