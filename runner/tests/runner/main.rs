//! The runner with real processes and real guests: what needs no root and no QEMU is tested beside the code.

#[cfg(test)]
mod bad_endings;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod control;
#[cfg(test)]
mod devices;
#[cfg(test)]
mod gates;
#[cfg(test)]
mod guests;
mod kept;
#[cfg(test)]
mod others;
#[cfg(test)]
mod own_scripts;
#[cfg(test)]
mod place;
