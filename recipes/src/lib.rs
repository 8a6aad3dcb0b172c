//! The built-in recipes, embedded in the binary.

/// A recipe that comes with toril.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    /// What the command line calls it.
    pub name: &'static str,
    /// The recipe.
    pub text: &'static str,
}

/// All of them.
pub const ALL: &[BuiltIn] = &[
    BuiltIn { name: "microvm-host", text: include_str!("../microvm-host.toml") },
    BuiltIn { name: "sandbox-host", text: include_str!("../sandbox-host.toml") },
    BuiltIn { name: "sandbox-vm-host", text: include_str!("../sandbox-vm-host.toml") },
    BuiltIn { name: "torokernel", text: include_str!("../torokernel.toml") },
];

/// The recipe of this name.
pub fn find(name: &str) -> Option<&'static BuiltIn> {
    ALL.iter().find(|recipe| recipe.name == name)
}
